//! Checks appends without an answer: the relay repeats them, and no update is stored twice or comes back to its sender.

use std::time::Duration;

use e2e::both_relays;
use e2e::host::{Kind, Setup};
use e2e::raw::{Client, converged};
use e2e::redis::Redis;
use e2e::relay::Relay;
use tokio::time::sleep;

/// The edits of each client before each kill.
const EDITS: usize = 5;

/// Kills the app this many times in the midst of appends, while the relay and its clients live on. The relay opens a new
/// line after `line_requests` requests, or none if that is 0.
async fn kill(relay: Kind, kills: usize, line_requests: &str) {
    let redis = Redis::start().await;
    let app = Setup::new(Kind::None)
        .in_place()
        .option("--redis", &redis.url())
        .variable("internal_token", "t");
    let mut host = app.start().await;
    let settings = [
        ("RELAY_INTERNAL_TOKEN", "t"),
        ("RELAY_LINE_REQUESTS", line_requests),
    ];
    let relay = Relay::start(relay, &host.app, &redis.url(), &settings).await;
    let one = Client::join_with_events(&relay.address, "p").await;
    let two = Client::join_with_events(&relay.address, "p").await;
    for client in [&one, &two] {
        client.event("synced").await;
    }
    for _ in 0..kills {
        // The first edits open a line, and the last ones are under way at the kill.
        for _ in 0..EDITS {
            tokio::join!(one.typed("a"), two.typed("b"));
            sleep(Duration::from_millis(rand::random_range(0..20))).await;
        }
        let again = host.setup();
        host.kill().await;
        tokio::join!(one.typed("a"), two.typed("b"));
        host = again.start().await;
    }
    let edits = kills * (EDITS + 1);
    for client in [&one, &two] {
        client.saved(edits as u64).await;
        client
            .until("all edits", |client| client.text().len() == 2 * edits)
            .await;
    }
    converged("after the kills", &[&one, &two]).await;
    let (stored, rev) = host.app_http().document("p").await;
    assert_eq!(stored.get_text("text").to_string(), one.text());
    assert_eq!(rev, 2 * edits as u64, "each edit has one rev");
    for client in [&one, &two] {
        // A client gets the state, and the other client's edits.
        assert_eq!(
            client.blobs(),
            1 + edits,
            "an edit came back to its sender, or came twice"
        );
    }
}

both_relays! {
    async fn the_app_is_killed_in_the_midst_of_appends(relay: Kind) {
        for line_requests in ["8", "0"] {
            kill(relay, 2, line_requests).await;
        }
    }

    #[ignore = "takes minutes"]
    async fn the_app_is_killed_twenty_times_in_the_midst_of_appends(relay: Kind) {
        for line_requests in ["8", "4096", "0"] {
            kill(relay, 20, line_requests).await;
        }
    }
}
