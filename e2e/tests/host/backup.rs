//! A backup of a server that runs, restored for a second one.

use std::path::Path;
use std::process::Command;

use e2e::built::built;
use e2e::host::{Host, Kind, Setup};
use e2e::tasks::{created, id, task};
use e2e::wait::until;
use loro::{ExportMode, LoroDoc};
use serde_json::{Value, json};

fn xtask(command: &str, folder: &Path, state: &Path) {
    let done = Command::new(built("target/release/xtask"))
        .arg(command)
        .arg(folder)
        .arg("--state-dir")
        .arg(state)
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
}

/// Fills a project with a text and a task that has ended, and returns the path of its result.
pub(crate) async fn fill(host: &Host, project: &str) -> String {
    let document = LoroDoc::new();
    document.get_text("text").insert(0, project).unwrap();
    let update = document.export(ExportMode::all_updates()).unwrap();
    let stored = host.http().post(&format!("/sync/{project}"), update).await;
    assert_eq!(stored.status, 200, "{}", stored.text());
    let params = json!({ "prompt": project, "complete": "at_once" });
    let body = json!({ "project_id": project, "task_type": "demo", "params": params });
    let id = id(&created(&host.http(), &body).await);
    let mut url = String::new();
    until("the document shows the result", async || {
        let task = task(&host.http(), &id).await;
        url = task["result_url"].as_str().unwrap_or_default().to_owned();
        let document = document_of(host, project).await;
        !url.is_empty() && document["tasks"][&id]["status"] == "completed"
    })
    .await;
    let (_, path) = url.split_once(&host.address).unwrap();
    path.to_owned()
}

/// The document of a project as JSON.
pub(crate) async fn document_of(host: &Host, project: &str) -> Value {
    let accept = [("accept", "application/json")];
    let path = format!("/sync/{project}");
    host.http().get_with(&path, &accept).await.json()
}

/// Reads a project from a server: its document, its tasks, and the bytes of its result. Addresses are left out.
async fn told(host: &Host, project: &str, asset: &str) -> (Value, String, Vec<u8>) {
    let http = host.http();
    let accept = [("accept", "application/json")];
    let document = http.get_with(&format!("/sync/{project}"), &accept).await;
    let tasks = http.get(&format!("/tasks?project_id={project}")).await;
    let result = http.get(asset).await;
    for answer in [&document, &tasks, &result] {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let tasks = tasks.text().replace(&host.address, "");
    (document.json(), tasks, result.body.to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_running_server_has_every_document_and_task() {
    let host = Host::start(Kind::Native).await;
    let mut assets = Vec::new();
    for project in ["a", "b", "c"] {
        assets.push((project, fill(&host, project).await));
    }

    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("backup");
    xtask("backup", &backup, host.database().parent().unwrap());
    let setup = Setup::new(Kind::Native);
    xtask("restore", &backup, setup.database().parent().unwrap());
    let second = setup.start().await;
    for (project, asset) in assets {
        let (first, restored) = (
            told(&host, project, &asset).await,
            told(&second, project, &asset).await,
        );
        assert_eq!(first, restored);
        assert_eq!(restored.0["text"], project);
    }
    second.stop().await;
    host.stop().await;
}
