//! An instance that uses too much is stopped, and others notice nothing.

use std::time::{Duration, Instant};

use loro_host::{Limits, OtherHost};

use crate::support::{TestHost, manifest};

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_loop_is_stopped_and_others_are_served_meanwhile() {
    let host = TestHost::with(&manifest("", ""), |settings| {
        settings.limits.cpu = Duration::from_secs(1)
    })
    .await;
    let began = Instant::now();
    // There are more loops than threads of the runtime, so other requests are served only if the loops give way.
    let loops = futures_util::future::join_all((0..16).map(|_| host.get("/g/loop")));
    let others = async {
        let mut served = 0;
        while began.elapsed() < Duration::from_millis(900) {
            host.get("/g/nothing").await.ok();
            served += 1;
        }
        served
    };
    let (loops, served) = tokio::join!(loops, others);
    assert!(loops.iter().all(|reply| reply.status == 500));
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert!(served >= 1, "no other request was served");
    assert_eq!(host.get("/g/sleep/1").await.ok(), "slept");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_costs_no_processor_time_but_has_a_limit_too() {
    let host = TestHost::with(&manifest("", ""), |settings| {
        settings.limits.cpu = Duration::from_millis(300);
        settings.limits.wall = Duration::from_secs(2);
    })
    .await;
    assert_eq!(host.get("/g/sleep/1000").await.ok(), "slept");
    assert_eq!(host.get("/g/sleep/60000").await.status, 500);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_hog_is_stopped() {
    let host = TestHost::with(&manifest("", ""), |settings| {
        settings.limits.memory = 32 << 20
    })
    .await;
    assert_eq!(host.get("/g/bytes/10000000").await.body.len(), 10_000_000);
    assert_eq!(host.get("/g/hog").await.status, 500);
    assert_eq!(host.get("/g/bytes/10000000").await.body.len(), 10_000_000);
    host.stop().await;
}

/// The status that component `g` answers if a call fails.
const REFUSED: u16 = 502;

/// The limits of Fermyon Cloud are 10 MB a body, 1,024 keys of 255 bytes with values of 1 MB, and open private
/// networks.
#[tokio::test(flavor = "multi_thread")]
async fn the_limits_of_another_host_are_kept() {
    let component = "key_value_stores = [\"default\"]";
    let host = TestHost::with(&manifest(component, ""), |settings| {
        settings.limits = Limits::default().with_those_of(OtherHost::FermyonCloud);
        assert_eq!(settings.limits.wall, Duration::from_secs(30));
    })
    .await;
    let largest = host.post("/g/nothing", vec![0; 10_000_000]).await;
    assert_eq!(largest.status, 200);
    let larger = host.post("/g/nothing", vec![0; 10_000_001]).await;
    assert_eq!(larger.status, 413);
    assert_eq!(larger.body.as_ref(), b"A body has 10 MB at most.");

    let set = async |key: &str, bytes: usize| {
        let path = format!("/g/kv/default/set/{key}");
        host.post(&path, vec![0; bytes]).await.status
    };
    assert_eq!(set(&"k".repeat(255), 1_000_000).await, 200);
    assert_eq!(set(&"k".repeat(256), 1).await, REFUSED);
    assert_eq!(set("large", 1_000_001).await, REFUSED);
    for n in 1..1024 {
        assert_eq!(set(&n.to_string(), 1).await, 200, "{n}");
    }
    // The store is full: a key that is there may change, and one that goes makes room.
    assert_eq!(set("one-more", 1).await, REFUSED);
    assert_eq!(set("7", 2).await, 200);
    host.get("/g/kv/default/delete/7").await.ok();
    assert_eq!(set("another", 1).await, 200);
    host.stop().await;

    let akamai = Limits::default().with_those_of(OtherHost::Akamai);
    assert_eq!(
        (akamai.memory, akamai.wall),
        (128 << 20, Duration::from_secs(30))
    );
}
