//! The complaints of users about documents that fight them, each as a test with the right behaviour.

#![allow(clippy::unwrap_used)]

use std::cell::Cell;

use loro::{ExportMode, LoroDoc, LoroMap, ToJson};
use platform::{
    Database, Row,
    native::{Published, SetClock, SqliteFile, block_on},
};
use serde_json::{Value, json};
use wire::Update;

const ROOM: &str = "p";

/// A project, and the document as one editor has it.
struct Canvas {
    database: SqliteFile,
    clock: SetClock,
    pubsub: Published,
    doc: LoroDoc,
    seen: Cell<i64>,
}

impl Canvas {
    fn new() -> Self {
        let clock = SetClock::default();
        clock.0.set(1_700_000_000);
        Self {
            database: SqliteFile::with_schema(),
            clock,
            pubsub: Published::default(),
            doc: LoroDoc::new(),
            seen: Cell::new(0),
        }
    }

    fn sql(&self, sql: &str) -> Vec<Row> {
        block_on(self.database.execute(sql, vec![])).unwrap()
    }

    /// Posts a task for a node, after all others.
    fn post(&self, task: &str, node: &str) {
        self.post_unseen(task, node);
        self.project();
    }

    /// Posts a task that the document does not show yet.
    fn post_unseen(&self, task: &str, node: &str) {
        self.sql(&format!(
            "INSERT INTO aigc_tasks (task_id, project_id, task_type, status, params, created_at, updated_at, node_id, seq)
             SELECT '{task}', '{ROOM}', 'demo', 'processing', '{{}}', 1700000000, 1700000000, '{node}',
                    1 + (SELECT ifnull(max(seq), 0) FROM aigc_tasks)"
        ));
    }

    fn complete(&self, task: &str) {
        let now = self.clock.0.get();
        self.sql(&format!(
            "UPDATE aigc_tasks SET status = 'completed', result_url = 'https://a/{task}', version = version + 1,
                 projected_status = NULL, completed_at = {now} WHERE task_id = '{task}'"
        ));
        self.project();
    }

    /// Runs a round of the poller, some seconds after the last: it looks again at a document that has changed.
    fn project(&self) {
        self.clock.0.set(self.clock.0.get() + 4);
        let (database, clock) = (&self.database, &self.clock);
        for project in block_on(projection::due(database, clock, 10)).unwrap() {
            block_on(projection::project(
                database,
                clock,
                &self.pubsub,
                rooms::Memory::default(),
                &project,
            ))
            .unwrap();
        }
    }

    /// Applies all that is stored to the document of the editor.
    fn hear(&self) {
        let seen = self.seen.get();
        let sql = format!("SELECT rev, payload FROM loro_updates WHERE rev > {seen} ORDER BY rev");
        for mut row in self.sql(&sql) {
            self.seen.set(row.integer(0).unwrap());
            self.doc.import(&row.blob(1).unwrap()).unwrap();
        }
    }

    /// Changes the document as the editor has it.
    fn edit(&self, change: impl FnOnce(&LoroDoc)) {
        let before = self.doc.oplog_vv();
        change(&self.doc);
        self.doc.commit();
        let payload = self.doc.export(ExportMode::updates(&before)).unwrap();
        let update = Update {
            project: ROOM.into(),
            payload: payload.into(),
            serial: None,
        };
        let (database, clock) = (&self.database, &self.clock);
        block_on(rooms::append(database, clock, "editor", vec![update])).unwrap();
    }

    /// Makes a node of nested maps, or a node that is a plain value.
    fn node(&self, id: &str, is_nested: bool) {
        self.edit(|doc| {
            let nodes = doc.get_map("nodes");
            if is_nested {
                let node = nodes.insert_container(id, LoroMap::new()).unwrap();
                let data = node.insert_container("data", LoroMap::new()).unwrap();
                data.insert("label", "mine").unwrap();
            } else {
                nodes
                    .insert(id, json!({ "x": 1, "data": { "label": "mine" } }))
                    .unwrap();
            }
        });
    }

    /// Changes keys of a node's data, as the editor sees it; null deletes a key.
    fn set(&self, id: &str, keys: &[(&str, Value)]) {
        let seen: Value = serde_json::from_str(&self.doc.get_deep_value().to_json()).unwrap();
        let mut plain = seen["nodes"][id].clone();
        self.edit(|doc| {
            let nodes = doc.get_map("nodes");
            let nested = nodes.get(id).unwrap().into_container().ok();
            if let Some(node) = nested {
                let data = node.into_map().unwrap().get("data").unwrap();
                let data = data.into_container().unwrap().into_map().unwrap();
                for (key, value) in keys {
                    match value {
                        Value::Null => data.delete(key).unwrap(),
                        value => data.insert(key, value.clone()).unwrap(),
                    }
                }
                return;
            }
            let data = plain["data"].as_object_mut().unwrap();
            for (key, value) in keys {
                match value {
                    Value::Null => drop(data.remove(*key)),
                    value => drop(data.insert((*key).to_owned(), value.clone())),
                }
            }
            nodes.insert(id, plain).unwrap();
        });
    }

    /// The document as JSON.
    fn json(&self) -> Value {
        let merged = block_on(rooms::merge(
            &self.database,
            &self.clock,
            ROOM,
            rooms::Memory::default(),
        ))
        .unwrap();
        serde_json::from_str(&merged.json().unwrap()).unwrap()
    }

    /// The status and the picture that a node shows.
    fn shows(&self, id: &str) -> (Value, Value) {
        let doc = self.json();
        let data = &doc["nodes"][id]["data"];
        assert_eq!(data["label"], "mine");
        (data["status"].clone(), data["src"].clone())
    }

    fn projections(&self) -> usize {
        self.sql("SELECT 1 FROM loro_updates WHERE origin = 'tasks'")
            .len()
    }
}

fn completed(task: &str) -> (Value, Value) {
    (json!("completed"), json!(format!("https://a/{task}")))
}

/// A node has two tasks: the task that was posted last wins, whichever ends first.
#[test]
fn the_picture_flips() {
    for (is_nested, order) in [
        (true, ["slow", "quick"]),
        (true, ["quick", "slow"]),
        (false, ["quick", "slow"]),
    ] {
        let canvas = Canvas::new();
        canvas.node("n1", is_nested);
        canvas.post("slow", "n1");
        canvas.post("quick", "n1");
        for task in order {
            canvas.complete(task);
        }
        let projections = canvas.projections();
        for n in 0..12 {
            canvas.hear();
            canvas.set("n1", &[("label", json!("mine")), ("x", json!(n))]);
            canvas.project();
            assert_eq!(canvas.shows("n1"), completed("quick"), "{order:?}");
        }
        assert_eq!(
            canvas.projections(),
            projections,
            "nothing is written again"
        );
    }
}

#[test]
fn i_retried_the_first_and_the_node_shows_the_second() {
    let canvas = Canvas::new();
    canvas.node("n1", true);
    canvas.post("first", "n1");
    canvas.post("second", "n1");
    canvas.complete("second");
    // A retry counts as posted.
    canvas.sql(
        "UPDATE aigc_tasks SET seq = 3, run = 1, version = version + 1, projected_status = NULL
          WHERE task_id = 'first'",
    );
    canvas.project();
    assert_eq!(canvas.shows("n1").0, "processing");
    canvas.complete("first");
    assert_eq!(canvas.shows("n1"), completed("first"));
}

#[test]
fn i_replaced_the_picture_and_it_was_put_back() {
    for is_nested in [true, false] {
        let canvas = Canvas::new();
        canvas.node("n1", is_nested);
        canvas.post("t", "n1");
        canvas.complete("t");
        canvas.hear();
        canvas.set("n1", &[("src", json!("https://mine/cat.png"))]);
        for _ in 0..3 {
            canvas.project();
            assert_eq!(canvas.shows("n1").1, "https://mine/cat.png");
        }
        canvas.hear();
        canvas.set("n1", &[("src", Value::Null)]);
        for _ in 0..3 {
            canvas.project();
            assert_eq!(canvas.shows("n1").1, Value::Null);
        }
    }
}

#[test]
fn i_deleted_the_status_and_it_was_put_back() {
    for is_nested in [true, false] {
        let canvas = Canvas::new();
        canvas.node("n1", is_nested);
        canvas.post("t", "n1");
        canvas.complete("t");
        canvas.hear();
        canvas.set("n1", &[("status", Value::Null)]);
        for _ in 0..3 {
            canvas.project();
            assert_eq!(canvas.shows("n1"), (Value::Null, completed("t").1));
        }
    }
}

#[test]
fn i_deleted_the_picture_and_the_status_and_both_were_put_back() {
    for is_nested in [true, false] {
        // With and without a status from before the result.
        for is_quick in [true, false] {
            let canvas = Canvas::new();
            canvas.node("n1", is_nested);
            if is_quick {
                canvas.post_unseen("t", "n1");
            } else {
                canvas.post("t", "n1");
            }
            canvas.complete("t");
            assert_eq!(canvas.shows("n1"), completed("t"));
            canvas.hear();
            canvas.set("n1", &[("src", Value::Null), ("status", Value::Null)]);
            let projections = canvas.projections();
            for _ in 0..3 {
                canvas.project();
                let case = format!("nested: {is_nested}, quick: {is_quick}");
                assert_eq!(canvas.shows("n1"), (Value::Null, Value::Null), "{case}");
            }
            assert_eq!(canvas.projections(), projections);
        }
    }
}

#[test]
fn i_reset_the_status_by_hand_and_it_was_put_back() {
    for is_nested in [true, false] {
        let canvas = Canvas::new();
        canvas.node("n1", is_nested);
        canvas.post("t", "n1");
        canvas.complete("t");
        canvas.hear();
        canvas.set(
            "n1",
            &[("status", json!("processing")), ("src", Value::Null)],
        );
        for _ in 0..3 {
            canvas.project();
            assert_eq!(canvas.shows("n1"), (json!("processing"), Value::Null));
        }
    }
}

/// The task ended before its node had shown anything of it, and a drag wrote the node as it was.
#[test]
fn my_drag_threw_a_quick_result_away() {
    let canvas = Canvas::new();
    canvas.node("n1", false);
    canvas.hear();
    canvas.post_unseen("t", "n1");
    canvas.complete("t");
    for x in 0..200 {
        canvas.set("n1", &[("x", json!(x))]);
    }
    // The editor receives the result only now, and goes on elsewhere.
    canvas.hear();
    canvas.node("n2", false);
    assert_eq!(canvas.shows("n1").0, Value::Null);
    canvas.project();
    assert_eq!(canvas.shows("n1"), completed("t"));
    canvas.hear();
    canvas.set("n1", &[("src", Value::Null), ("status", Value::Null)]);
    for _ in 0..3 {
        canvas.project();
        assert_eq!(canvas.shows("n1"), (Value::Null, Value::Null));
    }
}

/// The node had a picture before the task. An editor drags the node, and has received either nothing of the task, or
/// the task without its result.
#[test]
fn my_drag_brought_the_old_picture_back() {
    for has_heard_of_the_task in [false, true] {
        let canvas = Canvas::new();
        canvas.node("n1", false);
        canvas.set("n1", &[("src", json!("https://mine/old.png"))]);
        canvas.post("t", "n1");
        if has_heard_of_the_task {
            canvas.hear();
            canvas.set("n1", &[("src", json!("https://mine/old.png"))]);
        }
        canvas.complete("t");
        for x in 0..60 {
            canvas.set("n1", &[("x", json!(x))]);
        }
        assert_eq!(canvas.shows("n1").1, "https://mine/old.png");
        canvas.project();
        assert_eq!(canvas.shows("n1"), completed("t"), "it is repaired");
        // It is repaired once, and what is written after the result stands.
        canvas.hear();
        canvas.set("n1", &[("src", json!("https://mine/old.png"))]);
        for _ in 0..3 {
            canvas.project();
            assert_eq!(canvas.shows("n1").1, "https://mine/old.png");
        }
    }
}

#[test]
fn i_deleted_the_entry_and_it_came_back() {
    let canvas = Canvas::new();
    canvas.node("n1", true);
    canvas.post("t", "n1");
    canvas.complete("t");
    let entry = || canvas.json()["tasks"]["t"]["status"].clone();
    assert_eq!(entry(), "completed");
    canvas.hear();
    canvas.edit(|doc| doc.get_map("tasks").delete("t").unwrap());
    for x in 0..3 {
        canvas.set("n1", &[("x", json!(x))]);
        canvas.project();
        assert_eq!(entry(), Value::Null);
    }
    // A retry is a new version.
    canvas.sql("UPDATE aigc_tasks SET run = 1, version = version + 1, projected_status = NULL");
    canvas.project();
    assert_eq!(entry(), "completed");
}

/// Changes the entry of a task, as an editor has it.
fn edit_entry(canvas: &Canvas, change: impl FnOnce(&LoroMap)) {
    canvas.edit(|doc| {
        let entry = doc.get_map("tasks").get("t").unwrap();
        change(&entry.into_container().unwrap().into_map().unwrap());
    });
}

#[test]
fn i_wrote_into_the_entry_and_it_was_put_back() {
    let canvas = Canvas::new();
    canvas.node("n1", true);
    canvas.post("t", "n1");
    canvas.complete("t");
    let stays = |expected: [Value; 2]| {
        for x in 0..3 {
            canvas.hear();
            canvas.set("n1", &[("x", json!(x))]);
            canvas.project();
            let entry = &canvas.json()["tasks"]["t"];
            assert_eq!(
                [&entry["status"], &entry["src"]],
                [&expected[0], &expected[1]]
            );
        }
    };
    let src = completed("t").1;
    canvas.hear();
    edit_entry(&canvas, |entry| entry.insert("status", "mine").unwrap());
    stays([json!("mine"), src.clone()]);
    edit_entry(&canvas, |entry| entry.delete("status").unwrap());
    stays([Value::Null, src]);
    edit_entry(&canvas, |entry| entry.delete("src").unwrap());
    stays([Value::Null, Value::Null]);
}

/// An editor who has not received the result writes into the entry.
#[test]
fn my_note_about_the_task_threw_its_result_away() {
    let canvas = Canvas::new();
    canvas.post("t", "n1");
    canvas.hear();
    canvas.complete("t");
    let reset = |entry: &LoroMap| {
        for _ in 0..20 {
            entry.insert("status", "pending").unwrap();
            entry.insert("status", "processing").unwrap();
        }
        entry.insert("src", "none").unwrap();
        entry.delete("src").unwrap();
    };
    edit_entry(&canvas, reset);
    let entry = || canvas.json()["tasks"]["t"].clone();
    assert_eq!(entry()["status"], "processing");
    canvas.project();
    assert_eq!(
        (entry()["status"].clone(), entry()["src"].clone()),
        completed("t"),
        "it is repaired"
    );
    // It is repaired once: an editor who insists gets their way, whether they have received the repair or not.
    for hears in [false, true] {
        if hears {
            canvas.hear();
        }
        edit_entry(&canvas, reset);
        for _ in 0..3 {
            canvas.project();
            assert_eq!(entry()["status"], "processing");
        }
    }
}

/// An editor who has not received the result writes the whole node.
#[test]
fn my_drag_threw_the_result_away() {
    let canvas = Canvas::new();
    canvas.node("n1", false);
    canvas.post("t", "n1");
    canvas.hear();
    canvas.complete("t");
    for x in 0..20 {
        canvas.set("n1", &[("x", json!(x))]);
    }
    assert_eq!(canvas.shows("n1").0, "processing");
    canvas.project();
    assert_eq!(canvas.shows("n1"), completed("t"), "it is repaired");
    // It is repaired once: an editor who insists gets their way, whether they have received the repair or not.
    for hears in [false, true] {
        if hears {
            canvas.hear();
        }
        for x in 0..20 {
            canvas.set(
                "n1",
                &[
                    ("x", json!(x)),
                    ("status", json!("processing")),
                    ("src", Value::Null),
                ],
            );
        }
        for _ in 0..3 {
            canvas.project();
            assert_eq!(canvas.shows("n1").0, "processing");
        }
    }
}

#[test]
fn i_added_the_node_after_the_result_and_it_stays_empty() {
    let canvas = Canvas::new();
    canvas.post("t", "late");
    canvas.complete("t");
    for (id, is_nested) in [("late", true), ("another", false), ("third", true)] {
        canvas.hear();
        canvas.node(id, is_nested);
        if id != "late" {
            canvas.set(id, &[("taskId", json!("t"))]);
        }
        canvas.project();
        assert_eq!(canvas.shows(id), completed("t"), "{id}");
    }
}
