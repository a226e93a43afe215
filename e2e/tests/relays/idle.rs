//! Checks idle connections: the first edit after a pause.

use std::time::Duration;

use e2e::both_relays;
use e2e::host::{Host, Kind};
use e2e::raw::Client;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

/// Edits after a pause, and returns the time until the edit was saved.
async fn saved_after(relay: Kind, pause: Duration) -> Duration {
    let host = Host::start(relay).await;
    let client = Client::join_with_events(&host.address, "p").await;
    client.typed("before").await;
    client.saved(1).await;
    // The test is about elapsed time, so there is no condition to wait for.
    sleep(pause).await;
    let start = Instant::now();
    client.typed("after").await;
    while client.decided() < 2 {
        assert!(start.elapsed() < Duration::from_secs(30), "never saved");
        sleep(Duration::from_millis(1)).await;
    }
    let took = start.elapsed();
    host.stop().await;
    took
}

both_relays! {
    #[ignore = "takes five minutes: cargo xtask test --long"]
    async fn the_first_edit_after_a_pause_is_saved_as_fast_as_any(relay: Kind) {
        let pauses = [0, 31, 61, 301];
        let took = join_all(
            pauses.map(|pause| saved_after(relay, Duration::from_secs(pause))),
        )
        .await;
        for (pause, took) in pauses.iter().zip(&took) {
            println!("{relay:?}, after {pause} s: saved within {took:?}");
        }
        for (pause, took) in pauses.iter().zip(took) {
            assert!(took < Duration::from_millis(50), "after {pause} s: {took:?}");
        }
    }
}
