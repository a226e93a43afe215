//! Checks the archives of projects: a server is restored project by project, and a project is imported under another id.

use bytes::Bytes;
use e2e::host::{Host, Kind, Setup};
use e2e::http::Answer;
use e2e::people::{AGENT_TOKEN, Caller};
use e2e::tasks::TOKEN;
use serde_json::{Value, json};

use crate::backup::{document_of, fill};

fn setup() -> Setup {
    let setup = Setup::new(Kind::Native).variable("agent_token", AGENT_TOKEN);
    setup.variable("internal_token", TOKEN)
}

/// Sends a request to the app with the internal token.
async fn ask(host: &Host, method: &str, path: &str, body: impl Into<Bytes>) -> Answer {
    let operator = Caller::with_token(TOKEN);
    operator.send(&host.app_http(), method, path, body).await
}

/// Sends a request of the trusted backend.
async fn send(host: &Host, method: &str, path: &str, body: impl Into<Bytes>) -> Answer {
    let backend = Caller::with_token(AGENT_TOKEN);
    backend.send(&host.http(), method, path, body).await
}

/// The tasks of a project without these fields.
async fn tasks_of(host: &Host, project: &str, without: &[&str]) -> Vec<Value> {
    let path = format!("/tasks?project_id={project}");
    let text = host.http().get(&path).await.text();
    let list: Value =
        serde_json::from_str(&text.replace(&format!("http://{}", host.address), "")).unwrap();
    let mut tasks = list["tasks"].as_array().unwrap().clone();
    for task in &mut tasks {
        task.as_object_mut()
            .unwrap()
            .retain(|field, _| !without.contains(&field.as_str()));
    }
    tasks
}

/// The fields of a task that no archive has.
const OF_THE_SERVICE: &[&str] = &["external_task_id", "tries"];

/// The fields of a task that an import under another id changes, too.
const OF_THE_PROJECT: &[&str] = &[
    "external_task_id",
    "tries",
    "task_id",
    "project_id",
    "result_url",
];

async fn the_document_and_the_result_are_the_same(
    (one, of_one): (&Host, &str),
    (other, of_other): (&Host, &str),
    result: &str,
) {
    assert_eq!(
        document_of(other, of_other).await,
        document_of(one, of_one).await
    );
    let (shown, first) = (other.http().get(result).await, one.http().get(result).await);
    assert_eq!((shown.status, &shown.body), (first.status, &first.body));
    assert_eq!(shown.status, 200);
}

/// Records that an import of a project began at this time, in Unix seconds, and was killed.
fn note_import(host: &Host, project: &str, at: i64) {
    let database = rusqlite::Connection::open(host.database()).unwrap();
    let sql = "INSERT INTO projects (project_id, name, owner_id, created_at, updated_at) VALUES (?1, 'token', '', ?2, ?2)
               ON CONFLICT (project_id) DO UPDATE SET updated_at = excluded.updated_at";
    database
        .execute(sql, rusqlite::params![project, at])
        .unwrap();
}

/// Checks that an import that was killed lately shows no project, and reserves its id. Leaves the record of an old
/// import, which does not reserve the id.
async fn an_id_whose_import_was_killed_waits(host: &Host, project: &str, archive: &Bytes) {
    let path = format!("/projects/{project}");
    let none = send(host, "GET", &path, "").await;
    assert_eq!(none.status, 404, "{}", none.text());
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    note_import(host, project, now.try_into().unwrap());
    let refused = ask(
        host,
        "PUT",
        &format!("/internal/archives/{project}"),
        archive.clone(),
    )
    .await;
    assert_eq!(refused.header("retry-after"), "600");
    refused.assert_problem(409, "project-exists");
    let none = send(host, "GET", &path, "").await;
    assert_eq!(none.status, 404, "{}", none.text());
    note_import(host, project, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_project_is_the_same_on_a_second_server_and_under_another_id() {
    let (first, second) = (setup().start().await, setup().start().await);
    let mut results = Vec::new();
    for project in ["a", "b"] {
        results.push((project, fill(&first, project).await));
        let member = format!("/projects/{project}/members/bob");
        let role = json!({ "role": "read" }).to_string();
        let set = send(&first, "PUT", &member, role).await;
        assert!(set.status.is_success(), "{}", set.text());
    }
    let list = ask(&first, "GET", "/internal/archives", "").await.json();
    assert_eq!(list, json!({ "projects": ["a", "b"], "next_cursor": null }));
    for (project, result) in results {
        // The operator restores the whole server.
        let path = format!("/internal/archives/{project}");
        let archive = ask(&first, "GET", &path, "").await;
        assert_eq!(archive.status, 200, "{}", archive.text());
        assert_eq!(archive.header("content-type"), "application/x-tar");
        an_id_whose_import_was_killed_waits(&second, project, &archive.body).await;
        let made = ask(&second, "PUT", &path, archive.body).await;
        assert_eq!(made.status, 201, "{}", made.text());
        assert_eq!(
            made.json(),
            json!({ "project_id": project, "tasks": 1, "assets": 1 })
        );
        the_document_and_the_result_are_the_same((&first, project), (&second, project), &result)
            .await;
        assert_eq!(
            tasks_of(&second, project, OF_THE_SERVICE).await,
            tasks_of(&first, project, OF_THE_SERVICE).await
        );
        let path = format!("/projects/{project}");
        let (before, after) = (
            first.http().get(&path).await.json(),
            second.http().get(&path).await.json(),
        );
        assert_eq!(after["owner_id"], before["owner_id"]);
        assert_eq!(after["members"][0]["user_id"], "bob", "{after}");

        // The backend makes a copy beside it, which has results of its own.
        let archive = send(&first, "GET", &format!("{path}/export"), "").await;
        assert_eq!(archive.status, 200, "{}", archive.text());
        let copy = format!("{project}-copy");
        let to = format!("/projects/{copy}/import?owner_id=dev");
        let half = archive.body.slice(..archive.body.len() / 2);
        send(&first, "PUT", &to, half)
            .await
            .assert_problem(400, "bad-request");
        let made = send(&first, "PUT", &to, archive.body.clone()).await;
        assert_eq!(made.status, 201, "{}", made.text());
        assert_eq!(made.header("location"), format!("/projects/{copy}"));
        send(&first, "PUT", &to, archive.body)
            .await
            .assert_problem(409, "project-exists");
        the_document_and_the_result_are_the_same((&first, project), (&first, &copy), &result).await;
        let copied = tasks_of(&first, &copy, &[]).await;
        let own = copied[0]["result_url"].as_str().unwrap();
        assert_ne!(own, result);
        assert_eq!(first.http().get(own).await.status, 200);
        assert_eq!(
            tasks_of(&first, &copy, OF_THE_PROJECT).await,
            tasks_of(&first, project, OF_THE_PROJECT).await
        );
        let deleted = send(&first, "DELETE", &format!("/projects/{copy}"), "").await;
        assert_eq!(deleted.status, 204, "{}", deleted.text());
    }
    first.stop().await;
    second.stop().await;
}
