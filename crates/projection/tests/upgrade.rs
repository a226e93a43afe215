//! A database of commit b763aa6 is brought up to date, and everything in it is as it was.

#![allow(clippy::unwrap_used)]

use loro::{LoroDoc, ToJson};
use platform::clock::SystemClock;
use platform::native::{SqliteFile, block_on};
use platform::{Database, Row, migrations};
use serde_json::{Value, json};

const EARLIER: &str = include_str!("upgrade/b763aa6.sql");

/// The database as that commit left it, and upgraded twice, as two instances do it.
fn upgraded() -> SqliteFile {
    let database = SqliteFile::open(":memory:".as_ref()).unwrap();
    let lines = EARLIER.lines().filter(|line| !line.starts_with("--"));
    let code = lines.collect::<Vec<_>>().join("\n");
    // No text in it holds a semicolon at the end of a line.
    for statement in code.split(";\n").filter(|text| !text.trim().is_empty()) {
        rows(&database, statement);
    }
    for _ in 0..2 {
        block_on(migrations::apply(&database, &SystemClock)).unwrap();
    }
    database
}

fn rows(database: &SqliteFile, sql: &str) -> Vec<Row> {
    block_on(database.execute(sql, vec![])).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Makes a document of the blobs that a client gets.
fn document(database: &SqliteFile, project: &str) -> (Value, u64) {
    let state = block_on(rooms::updates_after(database, project, 0)).unwrap();
    let document = LoroDoc::new();
    for blob in &state.blobs {
        document.import(blob).unwrap();
    }
    (document.get_deep_value().to_json_value(), state.rev)
}

#[test]
fn every_document_is_as_it_was() {
    let database = upgraded();
    let canvas = json!({
        "text": "hello, wörld",
        "list": [1, { "a": null }],
        "nodes": { "n1": {
            "x": 10, "y": 20,
            "data": { "taskId": "task-done", "status": "completed", "src": "/assets/asset-1" },
        } },
        "tasks": { "task-done": { "status": "completed", "resultUrl": "/assets/asset-1" } },
    });
    assert_eq!(document(&database, "canvas"), (canvas, 4));
    // Its third update is in quarantine.
    let log = json!({ "text": "only a log", "map": { "n": 4.5 } });
    assert_eq!(document(&database, "log"), (log, 3));
    let compacted = json!({ "text": "only a snapshot" });
    assert_eq!(document(&database, "compacted"), (compacted, 9));
    let quarantined = rows(
        &database,
        "SELECT project_id, rev, reason FROM loro_quarantine",
    );
    assert_eq!(
        quarantined,
        [Row(vec![
            "log".into(),
            3i64.into(),
            "the update cannot be applied".into()
        ])]
    );
}

#[test]
fn every_task_is_as_it_was() {
    let database = upgraded();
    let task = |id: &str| block_on(tasks::rows::get(&database, id)).unwrap().unwrap();
    let done = task("task-done");
    assert_eq!(done.status, tasks::Status::Completed);
    assert_eq!(done.result_url.as_deref(), Some("/assets/asset-1"));
    assert_eq!(done.external_task_id.as_deref(), Some("job-1"));
    assert_eq!(done.node_id.as_deref(), Some("n1"));
    assert_eq!(
        (done.created_at, done.completed_at, done.version),
        (1764000060, Some(1764000062), 2)
    );
    let failed = task("task-failed");
    assert_eq!(failed.status, tasks::Status::Failed);
    assert_eq!(failed.error_message.as_deref(), Some("it was refused"));
    assert_eq!((failed.retry_count, failed.attempts), (3, 4));
    assert_eq!(task("task-cancelled").status, tasks::Status::Cancelled);
    let pending = task("task-pending");
    assert_eq!(pending.status, tasks::Status::Pending);
    // The tasks keep the order in which they were posted.
    let order = ["task-done", "task-failed", "task-cancelled", "task-pending"];
    assert!(order.is_sorted_by_key(|id| task(id).seq) && done.seq > 0);
    let rest =
        "SELECT params, result_data, idempotency_key FROM aigc_tasks WHERE task_id = 'task-done'";
    assert_eq!(
        rows(&database, rest),
        [Row(vec![
            r#"{"prompt":"a hill"}"#.into(),
            r#"{"width":1}"#.into(),
            "key-1".into()
        ])]
    );
}

#[test]
fn access_and_results_are_as_they_were() {
    let database = upgraded();
    let canvas = block_on(auth::projects::get(&database, "canvas")).unwrap();
    let canvas = json!(canvas.unwrap());
    assert_eq!(
        (&canvas["name"], &canvas["owner_id"]),
        (&json!("The canvas"), &json!("dev"))
    );
    let members = block_on(auth::projects::members(&database, "canvas")).unwrap();
    let members: Vec<(&str, &str)> = members
        .iter()
        .map(|member| (member.user_id.as_str(), member.role.as_str()))
        .collect();
    assert_eq!(members, [("ana", "write"), ("ben", "read")]);
    let gone = block_on(auth::projects::get(&database, "gone")).unwrap();
    assert!(gone.is_none(), "it stays deleted");
    for (sql, expected) in [
        ("SELECT count(*) FROM projects", 4),
        (
            "SELECT count(*) FROM project_tokens WHERE token_id = 'tok-1' AND role = 'write'",
            1,
        ),
        (
            "SELECT count(*) FROM assets WHERE bytes = x'89504e470d0a1a0a' AND length = 8",
            1,
        ),
        // An asset of the earlier release is kept, because it counts as settled without a look for its task.
        ("SELECT count(*) FROM assets WHERE settle_at IS NOT NULL", 0),
        (
            "SELECT access_rev FROM projects WHERE project_id = 'canvas'",
            3,
        ),
    ] {
        let found = rows(&database, sql)[0].integer(0).unwrap();
        assert_eq!(found, expected, "{sql}");
    }
}
