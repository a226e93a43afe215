//! An instance that uses too much is stopped, and others notice nothing.

use std::time::{Duration, Instant};

use crate::support::{TestHost, manifest};

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_loop_is_stopped_and_others_are_served_meanwhile() {
    let host = TestHost::with(&manifest("", ""), |settings| {
        settings.limits.cpu = Duration::from_secs(1)
    })
    .await;
    let began = Instant::now();
    // There are more of them than threads of the runtime, so others get in only if these give way.
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
