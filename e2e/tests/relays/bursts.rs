//! Checks bursts of errors, resets and silence between relay and app, before and after the app serves a request: no
//! acknowledged update is lost, and no valid update is refused.

use std::time::Duration;

use e2e::both_relays;
use e2e::faults::{Fault, Faults, Point};
use e2e::host::{Host, Kind, Setup};
use e2e::raw::{Client, converged};
use e2e::redis::Redis;
use e2e::relay::Relay;
use e2e::wait::until_within;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

const TOKEN: (&str, &str) = ("RELAY_INTERNAL_TOKEN", "t");

/// The pause of a writer between two letters.
const TYPING: Duration = Duration::from_millis(20);

/// The longest time from the end of a burst until everything is saved.
const RECOVERY: Duration = Duration::from_secs(60);

const CASES: [(Fault, Point); 6] = [
    (Fault::Errors, Point::Request),
    (Fault::Errors, Point::Answer),
    (Fault::Resets, Point::Request),
    (Fault::Resets, Point::Answer),
    (Fault::Silence, Point::Request),
    (Fault::Silence, Point::Answer),
];

async fn app(redis: &Redis) -> Host {
    let setup = Setup::new(Kind::None).option("--redis", &redis.url());
    setup.variable("internal_token", "t").start().await
}

/// Lets two clients type while bursts come and go, and returns the longest time until a letter was saved.
async fn type_through(
    host: &Host,
    relay: Kind,
    redis: &Redis,
    (fault, point): (Fault, Point),
    bursts: &[Duration],
    settings: &[(&str, &str)],
) -> Duration {
    let what = format!("{fault:?} at the {point:?}");
    let project = format!("{fault:?}-{point:?}");
    let faults = Faults::between(&host.app).await;
    let relay = Relay::start(relay, &faults.address, &redis.url(), settings).await;
    let one = Client::join_with_events(&relay.address, &project).await;
    let two = Client::join_with_events(&relay.address, &project).await;
    two.event("synced").await;
    let (mut typed, mut slowest) = (0, Duration::ZERO);
    let mut waiting: Option<(u64, Instant)> = None;
    let mut look = |typed: u64| match waiting {
        Some((letter, since)) if one.decided() >= letter => {
            slowest = slowest.max(since.elapsed());
            waiting = None;
        }
        None => waiting = Some((typed, Instant::now())),
        Some(_) => {}
    };
    for burst in bursts {
        let start = Instant::now();
        let before = (*burst).min(Duration::from_millis(200));
        let mut begun = false;
        while start.elapsed() < before * 2 + *burst {
            if start.elapsed() >= before && !begun {
                faults.begin(fault, point);
                begun = true;
            }
            if start.elapsed() >= before + *burst {
                faults.end();
            }
            tokio::join!(one.typed("a"), two.typed("b"));
            typed += 1;
            look(typed);
            sleep(TYPING).await;
        }
        faults.end();
        for client in [&one, &two] {
            until_within(
                RECOVERY,
                &format!("{what}: all saved after {burst:?}"),
                async || {
                    client.assert_fine(&what);
                    look(typed);
                    client.decided() == typed
                },
            )
            .await;
            assert_eq!(
                client.events("error"),
                Vec::<serde_json::Value>::new(),
                "{what}"
            );
        }
    }
    let length = usize::try_from(typed * 2).unwrap();
    for client in [&one, &two] {
        client
            .until("what both typed", |client| client.text().len() == length)
            .await;
    }
    converged(&what, &[&one, &two]).await;
    // The app itself must have the same text.
    let (stored, _) = host.app_http().document(&project).await;
    assert_eq!(stored.get_text("text").to_string(), one.text(), "{what}");
    slowest
}

both_relays! {
    async fn i_typed_through_a_short_burst_and_all_is_saved(relay: Kind) {
        let redis = Redis::start().await;
        let host = app(&redis).await;
        // The relay gives up a request without an answer after a second here, and after 15 by default.
        let settings = [TOKEN, ("RELAY_APP_TIMEOUT", "1s")];
        let bursts = [100, 300, 1000].map(Duration::from_millis);
        join_all(CASES.map(|case| type_through(&host, relay, &redis, case, &bursts, &settings))).await;
    }

    #[ignore = "takes minutes: cargo xtask test --long"]
    async fn i_typed_through_a_burst_of_up_to_20_seconds_and_all_is_saved(relay: Kind) {
        let redis = Redis::start().await;
        let host = app(&redis).await;
        let bursts = [0.1, 0.3, 1.0, 3.0, 5.0, 10.0, 20.0].map(Duration::from_secs_f64);
        let settings = [TOKEN];
        let slowest =
            join_all(CASES.map(|case| type_through(&host, relay, &redis, case, &bursts, &settings)))
                .await;
        for ((fault, point), slowest) in CASES.iter().zip(slowest) {
            println!("{fault:?} at the {point:?}: a letter took at most {slowest:?} to be saved");
        }
    }
}
