//! Checks the cancelling of a task, and the retrying of a task that was cancelled or failed.

use std::time::Duration;

use e2e::document::until_shown;
use e2e::kling::{Course, Plan, UNTIL_TOLD};
use e2e::raw::Client;
use e2e::tasks::World;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_unfinished_tasks_are_cancelled_and_only_unsuccessful_ones_retried() {
    let course = |_, prompt: &str| Course {
        duration: if prompt == "slow" {
            UNTIL_TOLD
        } else {
            Duration::ZERO
        },
        ..Course::default()
    };
    let plan = Plan::default().course(course);
    let world = World::start(plan).await;
    let watcher = Client::join(&world.host.address, "p").await;

    let slow = world.video("slow").await;
    world.accepted(&slow).await;
    world
        .ask(&slow, "retry")
        .await
        .assert_problem(409, "task-not-retryable");
    let cancelled = world.ask(&slow, "cancel").await;
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    let cancelled = cancelled.json();
    assert_eq!(cancelled["status"], "cancelled");
    assert!(cancelled["completed_at"].is_i64());
    world
        .ask(&slow, "cancel")
        .await
        .assert_problem(409, "task-finished");
    until_shown(&watcher, &cancelled).await;
    // The service's result comes too late to change a cancelled task.
    world.kling.finish(&slow);
    assert_eq!(world.kling.call_back(&slow).await, 200);
    assert_eq!(world.task(&slow).await, cancelled);

    // A retry takes the result of the job that is paid for, and submits no second job.
    let retried = world.ask(&slow, "retry").await;
    assert_eq!(retried.status, 200, "{retried:?}");
    let retried = retried.json();
    assert_eq!(retried["status"], "pending");
    assert_eq!(retried["completed_at"], Value::Null);
    let done = world.finished(&slow).await;
    assert_eq!(world.kling.jobs().len(), 1);
    assert_eq!(done["result_url"], world.kling.jobs()[0].result_url());
    until_shown(&watcher, &done).await;
    for name in ["cancel", "retry"] {
        let kind = if name == "cancel" {
            "task-finished"
        } else {
            "task-not-retryable"
        };
        world.ask(&slow, name).await.assert_problem(409, kind);
    }
    assert_eq!(world.task(&slow).await, done);
    assert_eq!(world.kling.repeated(), [""; 0]);
}

/// Reproduces the report "I clicked on retry and paid twice."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_pays_for_a_second_film_only_if_the_first_one_failed() {
    let course = |number, prompt: &str| Course {
        duration: match prompt {
            "running" => UNTIL_TOLD,
            _ => Duration::ZERO,
        },
        callbacks: 0,
        failure: (prompt == "failing" && number == 0).then_some("the GPU is on fire"),
        ..Course::default()
    };
    let plan = Plan::default().course(course);
    let world = World::start(plan).await;
    let failing = world.video("failing").await;
    assert_eq!(world.finished(&failing).await["status"], "failed");
    let running = world.video("running").await;
    world.accepted(&running).await;
    assert_eq!(world.ask(&running, "cancel").await.status, 200);
    assert_eq!(world.kling.jobs().len(), 2);

    assert_eq!(world.ask(&failing, "retry").await.status, 200);
    let done = world.finished(&failing).await;
    assert_eq!(done["status"], "completed", "{done}");
    let jobs = world.kling.jobs();
    assert_eq!(jobs.len(), 3, "a failed job is submitted anew");
    assert_eq!(done["result_url"], jobs[2].result_url());

    assert_eq!(world.ask(&running, "retry").await.status, 200);
    let again = world.accepted(&running).await;
    assert_eq!(again["external_task_id"], jobs[1].task_id);
    // The callback still has the address of the first run.
    let job = world.kling.finish(&running);
    assert_eq!(world.kling.call_back(&running).await, 200);
    let done = world.finished(&running).await;
    assert_eq!(done["result_url"], job.result_url(), "{done}");
    assert_eq!(world.kling.jobs().len(), 3, "a running job goes on");
    assert_eq!(world.kling.repeated(), [""; 0]);
    world.host.stop().await;
}
