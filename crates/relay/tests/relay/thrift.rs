//! A relay in front of a host that counts requests.

use crate::{Relay, until};
use std::time::Duration;
use tokio::time::sleep;

/// The time that an idle relay is watched. With neither Redis nor a quota, it compares heads each second.
const WATCHED: Duration = Duration::from_secs(4);

/// Returns the number of polls until a client has joined, and that of all requests in a while in which nothing happens.
async fn asked(requests_a_month: Option<u64>) -> (usize, usize) {
    let relay = Relay::start(|settings| {
        settings.heads_interval = None;
        settings.requests_a_month = requests_a_month;
    })
    .await;
    let mut client = relay.join("p").await;
    client.update("an edit").await;
    until("it is stored", async || relay.app.room("p") == [b"an edit"]).await;
    // What the edit brings with it is over.
    sleep(Duration::from_secs(1)).await;
    let is_poll = |target: &&String| target.starts_with("POST /internal/poll");
    let (polls, before) = {
        let log = relay.app.log();
        (log.seen.iter().filter(is_poll).count(), log.seen.len())
    };
    // The test is about what does not happen, so there is no condition to wait for.
    sleep(WATCHED).await;
    let after = relay.app.log().seen.len();
    drop(client);
    relay.stop().await;
    (polls, after - before)
}

/// A relay with a quota asks the app nothing while a client is connected and nothing happens: it ticks when it starts,
/// and then as rarely as the month allows, which with 100,000 requests is each 26 s.
#[tokio::test]
async fn a_relay_with_a_quota_asks_little_while_nothing_happens() {
    let ((no_polls, usual), (polls, thrifty)) = tokio::join!(asked(None), asked(Some(100_000)));
    assert_eq!((no_polls, polls), (0, 1));
    assert!(usual >= 3, "{usual}");
    assert_eq!(thrifty, 0);
}
