//! The manifests that `cargo xtask manifest` prints, each with the triggers and the calls that its host allows.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use e2e::built::{built, root};
use e2e::host::{Host, Kind, Setup};
use e2e::relay::Relay;
use e2e::wait::until_within;
use serde_json::{Value, json};
use tempfile::TempDir;

const TOKEN: &str = "t";

/// Writes the manifest for a host, and perhaps for a version of cron, to a folder in which its paths lead to the built
/// components.
pub(crate) fn printed(host: &[&str]) -> (PathBuf, TempDir) {
    let printed = Command::new(built("target/release/xtask"))
        .args(["manifest", "--for"])
        .args(host)
        .output()
        .unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("spin.toml");
    std::fs::write(&manifest, printed.stdout).unwrap();
    for name in ["target", "components"] {
        symlink(root().join(name), folder.path().join(name)).unwrap();
    }
    (manifest, folder)
}

/// Starts the app, without a relay, from the manifest for a host, with more variables. The manifest is in the folder.
pub(crate) async fn start(host: &str, variables: &[(&str, &str)]) -> (Host, TempDir) {
    let (manifest, folder) = printed(&[host]);
    let setup = Setup::new(Kind::None)
        .manifest(&manifest)
        .variable("environment", "development")
        .variable("internal_token", TOKEN);
    let setup = variables
        .iter()
        .fold(setup, |setup, (name, value)| setup.variable(name, value));
    (setup.start().await, folder)
}

/// Posts a task, waits until it is completed, and returns its id.
async fn complete_a_task(host: &Host) -> String {
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
    id
}

/// Returns the status of a task as the document shows it.
async fn shown(host: &Host, id: &str) -> Value {
    let accept = [("accept", "application/json")];
    let document = host.app_http().get_with("/sync/p", &accept).await.json();
    document["tasks"][id]["status"].clone()
}

async fn the_relays_tick_projects_a_task(name: &str) {
    let (host, _folder) = start(name, &[]).await;
    let id = complete_a_task(&host).await;
    let before = shown(&host, &id).await;
    assert_eq!(before, Value::Null, "the poller has not run yet");

    let settings = [("RELAY_INTERNAL_TOKEN", TOKEN), ("RELAY_TICK", "true")];
    let relay = Relay::start(Kind::Native, &host.app, "", &settings).await;
    until_within(Duration::from_secs(20), "the document", async || {
        shown(&host, &id).await == "completed"
    })
    .await;
    relay.stop().await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_http_alone_the_relays_tick_projects_a_task() {
    the_relays_tick_projects_a_task("http-only").await;
}

/// The app may not call itself there, so it submits and projects in the instance that serves the current request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_fermyon_cloud_the_relays_tick_projects_a_task() {
    the_relays_tick_projects_a_task("fermyon-cloud").await;
}

/// The Redis trigger shows a task at once, without cron and without a relay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_spinkube_the_redis_trigger_projects_a_task() {
    let (host, _folder) = start("spinkube", &[]).await;
    the_redis_trigger_projects_a_task(&host).await;
    host.stop().await;
}

/// Checks that the app publishes, and that its Redis trigger listens, on a host without cron and without a relay.
pub(crate) async fn the_redis_trigger_projects_a_task(host: &Host) {
    let id = complete_a_task(host).await;
    until_within(Duration::from_secs(10), "the document", async || {
        shown(host, &id).await == "completed"
    })
    .await;
}
