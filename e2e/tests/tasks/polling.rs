//! Checks polling: many pollers at once, and a service that hangs.

use std::time::{Duration, Instant};

use e2e::kling::{Call, Fault, Plan};
use e2e::tasks::{ROUNDS, World, id};
use e2e::wait::{until, until_within};
use futures_util::future::join_all;
use serde_json::{Value, json};

/// The tasks whose first submission failed are due at the same time, and many pollers find them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_number_of_pollers_submit_a_task_once() {
    const TASKS: usize = 40;
    let fault = |call: &Call| (call.before == 0).then_some(Fault::TOO_FAST);
    let plan = Plan::default().fault(fault);
    let world = World::start(plan).await;
    let ids = join_all((0..TASKS).map(|n| {
        let world = &world;
        async move { world.video(&format!("video {n}")).await }
    }))
    .await;
    until_within(ROUNDS, "all are submitted", async || {
        let polls = join_all((0..6).map(|_| world.poll())).await;
        assert!(polls.iter().all(|answer| answer.status == 202));
        world.kling.jobs().len() == TASKS
    })
    .await;
    for id in &ids {
        let done = world.finished(id).await;
        assert_eq!(done["status"], "completed");
        assert_eq!(
            done["result_url"],
            world.kling.job(id).unwrap().result_url()
        );
        let calls = world.kling.calls();
        let submissions = calls
            .iter()
            .filter(|call| call.name == *id && call.is_submission);
        // One submission failed, and one succeeded.
        assert_eq!(submissions.count(), 2, "{id}");
    }
    assert_eq!(world.kling.repeated(), [""; 0]);
    let refused = world.host.app_http().post("/internal/poll", "").await;
    assert_eq!(refused.status, 401, "without a token");
}

/// Lets more tasks than the app works on at once wait for a service that never answers. The tasks of other services are
/// not held up, even if they need the poller.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_hangs_holds_up_no_other() {
    const HANGING: usize = 48;
    let world = World::start(Plan::default().fault(|_| Some(Fault::Hang))).await;
    let hanging = join_all((0..HANGING).map(|n| {
        let world = &world;
        async move { world.video(&format!("video {n}")).await }
    }))
    .await;
    until("all hang", async || world.kling.calls().len() >= HANGING).await;
    for (task_type, params) in [
        ("nano_banana", json!({ "prompt": "a picture" })),
        (
            "demo",
            json!({ "prompt": "a picture", "complete": "at_once" }),
        ),
    ] {
        let start = Instant::now();
        let done = world
            .finished(&id(&world.posted(task_type, params).await))
            .await;
        assert_eq!(done["status"], "completed", "{done}");
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{:?}",
            start.elapsed()
        );
    }
    let polled = [
        world
            .posted("nano_banana", json!({ "prompt": "busy-first" }))
            .await,
        world
            .posted("demo", json!({ "prompt": "slow", "seconds": 15 }))
            .await,
    ];
    let start = Instant::now();
    for posted in &polled {
        assert_eq!(world.finished(&id(posted)).await["status"], "completed");
    }
    assert!(
        start.elapsed() < Duration::from_secs(40),
        "{:?}",
        start.elapsed()
    );
    // The hanging tasks are postponed, not lost.
    let waits = |task: &Value| task["retry_count"].as_i64().unwrap() > 0;
    let waiting = world.task_until(&hanging[0], waits).await;
    assert_eq!(waiting["status"], "processing", "{waiting}");
    assert!(waiting["error_message"].is_string());
}
