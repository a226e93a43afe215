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
    let times = |request: &str| {
        let log = relay.app.log();
        log.seen.iter().filter(|seen| *seen == request).count()
    };
    let polls = || times("POST /internal/poll");
    // The edit and the join open a line each, which begins with the question for the app's health. A relay with a quota
    // ticks when it starts.
    until("all that the edit brings with it is over", async || {
        relay.app.room("p") == [b"an edit"]
            && times("GET /health") >= 2
            && (requests_a_month.is_none() || polls() > 0)
    })
    .await;
    let (polls, before) = (polls(), relay.app.log().seen.len());
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
