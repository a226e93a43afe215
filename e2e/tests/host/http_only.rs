//! A host with only the HTTP trigger, such as Fermyon Cloud: the relay's tick replaces the cron and Redis triggers.

use std::os::unix::fs::symlink;
use std::time::Duration;

use e2e::built::{built, root};
use e2e::host::{Kind, Setup};
use e2e::relay::Relay;
use e2e::wait::until_within;
use serde_json::json;

const TOKEN: &str = "t";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_relays_tick_projects_a_task() {
    let printed = std::process::Command::new(built("target/release/xtask"))
        .args(["manifest", "--http-only"])
        .output()
        .unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("spin.toml");
    std::fs::write(&manifest, printed.stdout).unwrap();
    for name in ["target", "components"] {
        symlink(root().join(name), folder.path().join(name)).unwrap();
    }

    let host = Setup::new(Kind::None)
        .manifest(&manifest)
        .variable("internal_token", TOKEN)
        .start()
        .await;
    let http = host.app_http();
    let body = json!({
        "project_id": "p", "task_type": "demo", "params": { "prompt": "a hill", "complete": "at_once" },
    });
    let posted = http.post("/tasks", body.to_string()).await;
    assert_eq!(posted.status, 201, "{}", posted.text());
    let id = posted.json()["task_id"].as_str().unwrap().to_owned();
    let row = format!("/tasks/{id}");
    until_within(Duration::from_secs(10), "the result", async || {
        http.get(&row).await.json()["status"] == "completed"
    })
    .await;
    let shown = async || {
        let accept = [("accept", "application/json")];
        let document = http.get_with("/sync/p", &accept).await.json();
        document["tasks"][&id]["status"].clone()
    };
    assert_eq!(shown().await, json!(null), "the poller has not run yet");

    let settings = [("RELAY_INTERNAL_TOKEN", TOKEN), ("RELAY_TICK", "true")];
    let relay = Relay::start(Kind::Native, &host.app, "", &settings).await;
    until_within(Duration::from_secs(20), "the document", async || {
        shown().await == "completed"
    })
    .await;
    relay.stop().await;
    host.stop().await;
}
