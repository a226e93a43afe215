//! Checks retrying: a call that fails with a passing error is tried again, and other errors end the task.

use std::time::Duration;

use e2e::document::until_shown;
use e2e::kling::{Call, Course, Fault, Plan};
use e2e::raw::Client;
use e2e::tasks::{World, created, id};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passing_errors_are_tried_again_and_lasting_ones_are_not() {
    let fault = |call: &Call| match (call.prompt.as_str(), call.before) {
        ("busy" | "dropped" | "garbage" | "lost", 1..) if !call.is_submission => None,
        ("busy", 0) => Some(Fault::TOO_FAST),
        ("busy", 2) => Some(Fault::BROKEN),
        ("dropped", 0) => Some(Fault::DropBefore),
        ("garbage", 0) => Some(Fault::Garbage),
        ("lost", 0) => Some(Fault::DropAfter),
        ("refused", _) => Some(Fault::REFUSED),
        ("always busy", _) => Some(Fault::BROKEN),
        _ => None,
    };
    let plan = Plan::default().fault(fault);
    let world = World::start(plan).await;
    let watcher = Client::join(&world.host.address, "p").await;

    let refused = world.video("refused").await;
    let done = world.finished(&refused).await;
    assert_eq!(
        (&done["status"], &done["retry_count"]),
        (&json!("failed"), &json!(0)),
        "{done}"
    );
    let message = done["error_message"].as_str().unwrap();
    assert!(
        message.contains("the risk control system objects") && message.contains("1301"),
        "{message}"
    );
    until_shown(&watcher, &done).await;

    let hopeless = json!({
        "project_id": "p", "task_type": "kling_video", "params": { "prompt": "always busy" }, "max_retries": 1
    });
    let hopeless = id(&created(&world.host.http(), &hopeless).await);
    let mut ids = Vec::new();
    for prompt in ["busy", "dropped", "garbage", "lost"] {
        ids.push(world.video(prompt).await);
    }
    for id in &ids {
        let done = world.finished(id).await;
        let job = world.kling.job(id).unwrap();
        assert_eq!(done["status"], "completed", "{done}");
        assert_eq!(done["result_url"], job.result_url());
        assert_eq!(done["error_message"], Value::Null);
        assert_eq!(done["external_task_id"], job.task_id);
        until_shown(&watcher, &done).await;
    }
    let done = world.finished(&hopeless).await;
    assert_eq!(
        (&done["status"], &done["retry_count"]),
        (&json!("failed"), &json!(1)),
        "{done}"
    );
    assert!(
        done["error_message"]
            .as_str()
            .unwrap()
            .contains("internal error"),
        "{done}"
    );
    until_shown(&watcher, &done).await;
    assert_eq!(world.kling.jobs().len(), ids.len());
    assert_eq!(world.kling.repeated(), [""; 0]);
}

/// Reproduces the report "The clock was a day ahead for a while, and now my tasks stand still until tomorrow."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_go_on_after_the_clock_was_set_back() {
    let fault = |call: &Call| (call.prompt == "busy" && call.before < 2).then_some(Fault::TOO_FAST);
    let course = |_, _: &str| Course {
        callbacks: 0,
        duration: Duration::from_secs(1),
        ..Course::default()
    };
    let plan = Plan::default().fault(fault).course(course);
    let world = World::start(plan).await;
    let (polled, busy) = (world.video("polled").await, world.video("busy").await);
    world.accepted(&polled).await;
    world
        .task_until(&busy, |task| task["message"].is_string())
        .await;
    // These times look as if a clock that is a day ahead had set them.
    let changed = world.host.execute(
        "UPDATE aigc_tasks SET next_attempt_at = next_attempt_at + 86400, lease_until = lease_until + 86400
          WHERE completed_at IS NULL",
    );
    assert!(changed > 0, "the tasks have ended already");
    for id in [&polled, &busy] {
        assert_eq!(world.finished(id).await["status"], "completed");
    }
    assert_eq!(world.kling.repeated(), [""; 0]);
    world.host.stop().await;
}
