//! Checks outages: the app is away, hangs, or is slow while clients edit.

use std::time::Duration;

use e2e::both_relays;
use e2e::cable::Cable;
use e2e::host::{Kind, Setup};
use e2e::raw::{Client, converged};
use e2e::redis::Redis;
use e2e::relay::Relay;
use tokio::time::{Instant, sleep};

const TOKEN: (&str, &str) = ("RELAY_INTERNAL_TOKEN", "t");

async fn app(redis: &Redis) -> Setup {
    Setup::new(Kind::None)
        .in_place()
        .option("--redis", &redis.url())
        .variable("internal_token", "t")
}

both_relays! {
    /// The app is killed and starts again after 5 s. No client is disconnected, no update is lost, and edits made
    /// meanwhile arrive. A client that connects meanwhile joins.
    async fn the_app_is_away_for_five_seconds(relay: Kind) {
        let redis = Redis::start().await;
        let host = app(&redis).await.start().await;
        let relay = Relay::start(relay, &host.app, &redis.url(), &[TOKEN]).await;
        let one = Client::join_with_events(&relay.address, "p").await;
        let two = Client::join_with_events(&relay.address, "p").await;
        one.typed("before ").await;
        two.until("what was typed before", |two| two.text() == "before ").await;

        let again = host.setup();
        host.kill().await;
        let start = Instant::now();
        let mut typed = 0;
        // A client that connects meanwhile waits until the app decides on its access.
        let address = relay.address.clone();
        let late = tokio::spawn(async move { Client::join_with_events(&address, "p").await });
        while start.elapsed() < Duration::from_secs(5) {
            one.typed("a").await;
            two.typed("b").await;
            typed += 2;
            sleep(Duration::from_millis(50)).await;
        }
        for client in [&one, &two] {
            client.assert_fine("the app is away");
        }
        assert_eq!(two.blobs(), 2, "an update was passed on before it was stored");
        let host = again.start().await;
        let late = late.await.unwrap();

        let length = "before ".len() + typed;
        for client in [&one, &two, &late] {
            client.until("what was typed", |client| client.text().len() == length).await;
        }
        converged("the app is back", &[&one, &two, &late]).await;
        one.saved(1 + typed as u64 / 2).await;
        assert_eq!(host.app_http().document("p").await.0.get_text("text").to_string(), one.text());
        one.typed(" after").await;
        late.until("what is typed after", |late| late.text().ends_with(" after")).await;
        relay.stop().await;
        assert_eq!(one.end().await, e2e::raw::Closed::Code(1001));
    }

    /// Delays every answer of the app by over a second, which delays edits and has no other effect.
    async fn the_app_is_slow(relay: Kind) {
        let redis = Redis::start().await;
        let host = app(&redis).await.start().await;
        let cable = Cable::to(&host.app).await;
        let relay = Relay::start(relay, &cable.address, &redis.url(), &[TOKEN]).await;
        let one = Client::join_with_events(&relay.address, "p").await;
        let two = Client::join_with_events(&relay.address, "p").await;
        two.event("synced").await;
        cable.set_delay(Duration::from_millis(600));
        for n in 0..50 {
            tokio::join!(one.typed("a"), two.typed("b"));
            if n == 25 {
                sleep(Duration::from_millis(500)).await;
            }
        }
        let three = Client::join(&relay.address, "p").await;
        for client in [&one, &two, &three] {
            client.until("all that was typed", |client| client.text().len() == 100).await;
        }
        converged("a slow app", &[&one, &two, &three]).await;
        assert_eq!(host.app_http().document("p").await.1, 100, "each edit has one rev");
        let health = relay.http().get("/health").await;
        assert_eq!(health.status, 200);
    }

    /// The app accepts requests and answers none. The relay repeats its append, and each update is stored once.
    async fn the_app_hangs(relay: Kind) {
        let redis = Redis::start().await;
        let host = app(&redis).await.start().await;
        let cable = Cable::to(&host.app).await;
        let settings = [TOKEN, ("RELAY_APP_TIMEOUT", "500ms"), ("RELAY_PROXY_TIMEOUT", "500ms")];
        let relay = Relay::start(relay, &cable.address, &redis.url(), &settings).await;
        let one = Client::join_with_events(&relay.address, "p").await;
        let two = Client::join_with_events(&relay.address, "p").await;
        two.event("synced").await;
        cable.set_delay(Duration::from_secs(3600));
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(2) {
            one.typed("a").await;
            sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(relay.http().get("/sync/p").await.status, 504);
        one.assert_fine("the app hangs");
        let length = one.text().len();
        cable.set_delay(Duration::ZERO);
        two.until("what was typed", |two| two.text().len() == length).await;
        one.saved(length as u64).await;
        converged("the app answers again", &[&one, &two]).await;
        assert_eq!(host.app_http().document("p").await.1, length as u64, "each edit has one rev");
    }

    /// The app is away for longer than the relay waits. Sockets that wait for it are closed with the code to retry later,
    /// and plain requests are answered 502.
    async fn the_app_stays_away(relay: Kind) {
        let redis = Redis::start().await;
        let host = app(&redis).await.start().await;
        let settings = [TOKEN, ("RELAY_APP_PATIENCE", "1s")];
        let relay = Relay::start(relay, &host.app, &redis.url(), &settings).await;
        let writer = Client::join_with_events(&relay.address, "p").await;
        let reader = Client::join_with_events(&relay.address, "p").await;
        reader.event("synced").await;
        let again = host.setup();
        host.kill().await;
        writer.typed("x").await;
        assert_eq!(writer.end().await, e2e::raw::Closed::Code(1013));
        reader.assert_fine("a reader is not affected");
        relay.http().get("/sync/p").await.assert_problem(502, "app-unreachable");

        let _host = again.start().await;
        let doc = writer.doc().clone();
        let _writer = Client::rejoin(&relay.address, "p", doc).await;
        reader.until("what was not stored then", |reader| reader.text() == "x").await;
    }
}
