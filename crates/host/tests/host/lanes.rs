//! The lanes and the budget of memory: one kind of call takes nothing that is kept for another.

use std::time::{Duration, Instant};

use loro_host::Settings;

use crate::support::{Reply, TestHost, manifest, request_with, until};

const TOKEN: &str = "a-token-for-tests";

/// A host with internal routes, with settings changed by `change`.
async fn host(change: impl FnOnce(&mut Settings)) -> TestHost {
    let internal = "[[trigger.http]]\nroute = \"/internal/...\"\ncomponent = \"g\"";
    let manifest = manifest("allowed_outbound_hosts = [\"http://self\"]", internal);
    TestHost::with(&manifest, |settings| {
        settings
            .variables
            .push(("internal_token".into(), TOKEN.into()));
        settings.limits.queue = Duration::from_millis(500);
        change(settings);
    })
    .await
}

/// The answer to a request with the internal token; `None` if it broke off.
async fn internal(host: &TestHost, path: &str) -> Option<Reply> {
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    request_with(host.address, "GET", path, &headers, b"").await
}

/// Sends requests of users that hold their places for a while.
async fn sleepers(host: &TestHost, count: usize) -> Vec<Reply> {
    futures_util::future::join_all((0..count).map(|_| host.get("/g/sleep/1500"))).await
}

fn statuses(replies: &[Reply], status: u16) -> usize {
    replies
        .iter()
        .filter(|reply| reply.status == status)
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_lane_refuses_at_once_and_the_others_go_on() {
    let host = host(|settings| settings.limits.instances = 2).await;
    let others = async {
        until("the lane is full", async || {
            host.get("/g/nothing").await.status == 503
        })
        .await;
        let start = Instant::now();
        for path in ["/g/nothing", "/internal/nothing"] {
            // Without the token, the path does not count.
            let reply = host.get(path).await;
            assert_eq!(reply.status, 503, "{path}");
            assert_eq!(reply.headers["retry-after"], "1");
        }
        internal(&host, "/internal/nothing").await.unwrap().ok();
        let nested = "/internal/get/http:/self.alt/g/nothing";
        assert_eq!(internal(&host, nested).await.unwrap().ok(), "200 ");
        start.elapsed()
    };
    // A sleeper that comes while the other future holds a place is refused, and comes again.
    let sleeper = || {
        until("a sleeper has a place", async || {
            host.get("/g/sleep/1500").await.status == 200
        })
    };
    let (_, _, took) = tokio::join!(sleeper(), sleeper(), others);
    assert!(took < Duration::from_millis(1000), "{took:?}");
    assert_eq!(host.get("/g/sleep/1").await.ok(), "slept");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_lanes_all_share_the_places_and_wait_for_them() {
    let host = host(|settings| {
        settings.limits.instances = 2;
        settings.limits.lanes = false;
    })
    .await;
    let short = futures_util::future::join_all((0..8).map(|_| host.get("/g/sleep/20"))).await;
    assert_eq!(statuses(&short, 200), 8, "short ones wait for their turn");
    let refused = until("the relay is refused, too", async || {
        internal(&host, "/internal/nothing").await.unwrap().status == 503
    });
    let (long, ()) = tokio::join!(sleepers(&host, 3), refused);
    assert_eq!(statuses(&long, 503), 1, "{long:?}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_is_used_up_refuses_a_new_instance() {
    // Users have three quarters of it, and an instance reserves 4 MiB.
    let host = host(|settings| settings.limits.total_memory = 16 << 20).await;
    let sleeping = sleepers(&host, 4).await;
    assert_eq!(statuses(&sleeping, 200), 3, "{sleeping:?}");
    let refused = sleeping.iter().find(|reply| reply.status == 503).unwrap();
    assert_eq!(refused.text(), "the memory for instances is used up");
    assert_eq!(refused.headers["retry-after"], "1");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_grows_beyond_the_memory_fails_alone() {
    let host = host(|settings| settings.limits.total_memory = 64 << 20).await;
    let (hog, sleeping, relay) = tokio::join!(
        host.get("/g/hog"),
        sleepers(&host, 2),
        internal(&host, "/internal/sleep/1500"),
    );
    assert_eq!(hog.status, 503);
    assert_eq!(hog.headers["retry-after"], "1");
    assert_eq!(statuses(&sleeping, 200), 2, "{sleeping:?}");
    assert_eq!(relay.unwrap().ok(), "slept");
    // The instance gave everything back.
    assert_eq!(host.get("/g/bytes/20000000").await.body.len(), 20_000_000);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_result_of_a_query_counts() {
    let extra = "sqlite_databases = [\"default\"]";
    let host = TestHost::with(&manifest(extra, ""), |settings| {
        settings.limits.total_memory = 64 << 20;
    })
    .await;
    let small = host.post("/g/sqlite/default", "SELECT length(zeroblob(9))");
    assert_eq!(small.await.ok(), "[Value::Integer(9)]");
    let large = host.post("/g/sqlite/default", "SELECT zeroblob(60000000)");
    let error = large.await.error();
    assert!(error.contains("no memory is left"), "{error}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relays_long_requests_have_their_processor_time_anew_after_each_answer() {
    let host = host(|settings| settings.limits.cpu = Duration::from_millis(400)).await;
    let answers = internal(&host, "/internal/burns/5/200").await;
    assert_eq!(answers.unwrap().ok(), "burnt\n".repeat(5));
    let too_long = internal(&host, "/internal/burns/2/1000").await;
    assert!(too_long.is_none_or(|reply| !reply.text().contains("burnt")));
    // A user's request has that time once.
    let user = request_with(host.address, "GET", "/g/burns/5/200", &[], b"").await;
    assert!(user.is_none_or(|reply| reply.text().len() < 30));
    host.stop().await;
}
