//! Checks triggers as processes of their own on one state folder, as `spin up` and the files in `deploy/` run them.

use std::time::Duration;

use e2e::host::{Host, Kind, Setup};
use e2e::process::Process;
use e2e::redis::Redis;
use e2e::tasks::{ROUNDS, TOKEN, created, id};
use e2e::wait::until_within;
use serde_json::json;

use crate::manifests::printed;

/// Posts a task that ends at once, and returns its id.
async fn posted(host: &Host) -> String {
    let params = json!({ "prompt": "a hill", "complete": "at_once" });
    let body = json!({ "project_id": "p", "task_type": "demo", "params": params });
    id(&created(&host.http(), &body).await)
}

/// Returns whether the document shows the end of a task.
async fn shows(host: &Host, task: &str) -> bool {
    let accept = [("accept", "application/json")];
    let document = host.http().get_with("/sync/p", &accept).await.json();
    document["tasks"][task]["status"] == "completed"
}

/// Posts tasks until the document shows one. An event that comes before the trigger has subscribed is lost, because
/// nothing sweeps here.
async fn events_flow(host: &Host) {
    until_within(ROUNDS, "an event reaches the document", async || {
        let task = posted(host).await;
        for _ in 0..50 {
            if shows(host, &task).await {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    })
    .await;
}

/// Starts a trigger again and again until it runs, as a supervisor does.
async fn supervised(setup: &Setup) -> Process {
    for _ in 0..100 {
        let mut process = setup.spawn();
        if process.line().await.as_deref() == Some("ready") {
            return process;
        }
        process.ended().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the trigger does not come up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_goes_on_while_a_supervisor_starts_the_redis_trigger_again() {
    let mut redis = Redis::start().await;
    let setup = Setup::new(Kind::Native).option("--redis", &redis.url());
    let host = setup.clone().option("--triggers", "http").start().await;
    let events = setup.option("--triggers", "redis");
    let mut trigger = supervised(&events).await;
    events_flow(&host).await;

    redis.stop().await;
    assert_eq!(trigger.ended().await.code(), Some(1));
    assert!(
        trigger
            .log()
            .contains("the Redis trigger failed: it lost its server")
    );
    assert_eq!(host.http().get("/health").await.status, 200);
    let meanwhile = posted(&host).await;

    redis.start_again().await;
    let trigger = supervised(&events).await;
    events_flow(&host).await;
    // A task's event brings the whole document up to date.
    assert!(shows(&host, &meanwhile).await);
    stop(trigger).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cron_trigger_alone_ticks_the_app() {
    let setup = Setup::new(Kind::Native)
        .in_place()
        .variable("internal_token", TOKEN);
    let host = setup.clone().option("--triggers", "http").start().await;
    // Each version of the plugin has its component. The second one ticks every second, so that the test ends sooner.
    let (newer, _folder) = printed(&["local", "--cron", "0.6"]);
    let text = std::fs::read_to_string(&newer).unwrap();
    std::fs::write(&newer, text.replace("0/10 * * * * *", "* * * * * *")).unwrap();
    for cron in [setup.clone(), setup.manifest(&newer)] {
        let task = posted(&host).await;
        let cron = supervised(&cron.option("--triggers", "cron")).await;
        until_within(ROUNDS, "a tick shows the task", async || {
            shows(&host, &task).await
        })
        .await;
        stop(cron).await;
    }
    host.stop().await;
}

/// Stops a trigger with SIGTERM.
async fn stop(mut trigger: Process) {
    trigger.signal("TERM").await;
    assert!(trigger.ended().await.success());
}
