//! Checks two relays in two processes, with one app and a real Redis.

use std::time::Duration;

use e2e::both_relays;
use e2e::host::{Host, Kind, Setup};
use e2e::raw::{Client, change, converged};
use e2e::redis::Redis;
use e2e::relay::Relay;
use loro::LoroDoc;
use tokio::time::{Instant, sleep};

const TOKEN: &str = "t";

/// A host with its relay, a second relay beside it, and a Redis between them.
struct World {
    redis: Redis,
    host: Host,
    relay: Relay,
}

impl World {
    async fn start(kind: Kind) -> Self {
        let redis = Redis::start().await;
        let host = Setup::new(kind)
            .option("--redis", &redis.url())
            .variable("internal_token", TOKEN)
            .env("RELAY_HEADS_INTERVAL", "1s")
            .env("RELAY_PEERS_INTERVAL", "1s")
            .start()
            .await;
        let settings = [
            ("RELAY_INTERNAL_TOKEN", TOKEN),
            ("RELAY_HEADS_INTERVAL", "1s"),
        ];
        let relay = Relay::start(kind, &host.app, &redis.url(), &settings).await;
        Self { redis, host, relay }
    }

    /// A client at each relay.
    async fn clients(&self) -> (Client, Client) {
        let one = Client::join_with_events(&self.host.address, "p").await;
        let two = Client::join_with_events(&self.relay.address, "p").await;
        one.event("synced").await;
        two.event("synced").await;
        (one, two)
    }
}

/// Lets both clients type, and checks that each gets the other's text.
async fn edit_together(one: &Client, two: &Client, rounds: usize) {
    let length = one.text().len().max(two.text().len()) + 2 * rounds;
    for _ in 0..rounds {
        tokio::join!(one.typed("a"), two.typed("b"));
    }
    for client in [one, two] {
        client
            .until("all that was typed", |client| client.text().len() == length)
            .await;
    }
    converged("two relays", &[one, two]).await;
}

both_relays! {
    async fn clients_of_both_converge(relay: Kind) {
        let world = World::start(relay).await;
        let (one, two) = world.clients().await;
        edit_together(&one, &two, 50).await;
        for client in [&one, &two] {
            client
                .until("both clients are counted", |client| {
                    client.events("peers").last().is_some_and(|event| event["count"] == 2)
                })
                .await;
        }
        assert_eq!(two.blobs(), 51, "updates were echoed, or a gap was filled twice");

        // This update does not pass a relay.
        let update = change(&LoroDoc::new(), |doc| doc.get_map("map").insert("posted", true).unwrap());
        let start = Instant::now();
        assert_eq!(world.host.app_http().post("/sync/p", update).await.status, 200);
        for client in [&one, &two] {
            client
                .until("what was posted", |client| client.doc().get_map("map").get("posted").is_some())
                .await;
        }
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());

        // One relay stops, and the clients of the other notice nothing.
        world.relay.stop().await;
        one.until("one client is counted", |client| {
            client.events("peers").last().is_some_and(|event| event["count"] == 1)
        })
        .await;
        let late = Client::join(&world.host.address, "p").await;
        one.typed("!").await;
        late.until("the newest", |late| late.text() == one.text()).await;
        world.host.stop().await;
    }

    /// Checks that an update without Redis takes longer from relay to relay and from the app to both, and is not lost.
    async fn without_redis_edits_are_only_late(relay: Kind) {
        let mut world = World::start(relay).await;
        let (one, two) = world.clients().await;
        edit_together(&one, &two, 5).await;
        world.redis.stop().await;
        edit_together(&one, &two, 20).await;
        let update = change(&LoroDoc::new(), |doc| doc.get_map("map").insert("posted", true).unwrap());
        assert_eq!(world.host.app_http().post("/sync/p", update).await.status, 200);
        for client in [&one, &two] {
            client
                .until("what was posted", |client| client.doc().get_map("map").get("posted").is_some())
                .await;
        }
        // Joining does not need Redis either.
        let three = Client::join(&world.relay.address, "p").await;
        three.until("the state", |three| three.text() == one.text()).await;
        converged("without Redis", &[&one, &two, &three]).await;
    }

    /// Restarts Redis while both clients edit. The relays find the updates in between by their revs, and afterwards edits
    /// pass as before.
    async fn a_restart_of_redis_loses_nothing(relay: Kind) {
        let mut world = World::start(relay).await;
        let (one, two) = world.clients().await;
        edit_together(&one, &two, 5).await;
        let length = one.text().len();
        let mut typed = 0;
        let start = Instant::now();
        let mut away = false;
        while start.elapsed() < Duration::from_secs(2) {
            tokio::join!(one.typed("a"), two.typed("b"));
            typed += 2;
            if !away && start.elapsed() > Duration::from_millis(500) {
                away = true;
                world.redis.stop().await;
            }
            sleep(Duration::from_millis(20)).await;
        }
        world.redis.start_again().await;
        for client in [&one, &two] {
            client.until("all that was typed", |client| client.text().len() == length + typed).await;
        }
        for http in [world.host.http(), world.relay.http()] {
            e2e::wait::until("the relay is back at Redis", async || {
                http.metric("relay_redis_connected", TOKEN).await == 1
            })
            .await;
        }
        edit_together(&one, &two, 10).await;
    }
}
