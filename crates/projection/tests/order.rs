//! The tests of projections that run at once: the document ends as the rows are, and an older state never follows a
//! newer one.

#![allow(clippy::unwrap_used)]

use std::cell::Cell;

use async_trait::async_trait;
use loro::{LoroDoc, ToJson};
use platform::{
    Database, DatabaseError, Row, Value, migrations,
    native::{Published, SetClock, SqliteFile, block_on},
};
use wire::Update;

const ROOM: &str = "p";

/// A database in which another writer comes in between, once, before a projection is appended.
struct Meddled<'a> {
    world: &'a World,
    before_append: Cell<Option<fn(&World)>>,
}

#[async_trait(?Send)]
impl Database for Meddled<'_> {
    async fn execute(&self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Row>, DatabaseError> {
        if sql.contains("INSERT INTO loro_updates")
            && let Some(meddle) = self.before_append.take()
        {
            meddle(self.world);
        }
        self.world.database.execute(sql, parameters).await
    }
}

struct World {
    _folder: tempfile::TempDir,
    database: SqliteFile,
    clock: SetClock,
    pubsub: Published,
}

impl World {
    /// A room with one task.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = SqliteFile::open(&folder.path().join("rooms.db")).unwrap();
        let clock = SetClock::default();
        clock.0.set(1_700_000_000);
        block_on(migrations::apply(&database, &clock)).unwrap();
        let world = Self {
            _folder: folder,
            database,
            clock,
            pubsub: Published::default(),
        };
        world.sql(
            "INSERT INTO aigc_tasks (task_id, project_id, task_type, status, params, created_at, updated_at)
             VALUES ('t', 'p', 'demo', 'processing', '{}', 1700000000, 1700000000)",
        );
        world
    }

    fn sql(&self, sql: &str) -> Vec<Row> {
        block_on(self.database.execute(sql, vec![])).unwrap()
    }

    fn complete(&self) {
        self.sql(
            "UPDATE aigc_tasks SET status = 'completed', result_url = 'https://a/b', version = version + 1,
                 projected_status = NULL, completed_at = 1700000000",
        );
    }

    fn add_completed(&self, id: &str) {
        self.sql(&format!(
            "INSERT INTO aigc_tasks (task_id, project_id, task_type, status, params, created_at, updated_at, result_url, completed_at)
             VALUES ('{id}', 'p', 'demo', 'completed', '{{}}', 1700000000, 1700000000, 'https://a/{id}', 1700000000)",
        ));
    }

    fn project(&self) {
        let (database, clock) = (&self.database, &self.clock);
        block_on(projection::project(
            database,
            clock,
            &self.pubsub,
            rooms::Memory::default(),
            ROOM,
        ))
        .unwrap();
    }

    /// Projects while another writer does this in between.
    fn project_while(&self, meddle: fn(&World)) {
        let database = Meddled {
            world: self,
            before_append: Cell::new(Some(meddle)),
        };
        let (clock, pubsub) = (&self.clock, &self.pubsub);
        block_on(projection::project(
            &database,
            clock,
            pubsub,
            rooms::Memory::default(),
            ROOM,
        ))
        .unwrap();
        assert!(
            database.before_append.take().is_none(),
            "no other writer came in between"
        );
    }

    /// Appends an edit by a client.
    fn edit(&self) {
        let doc = LoroDoc::new();
        doc.get_text("text").insert(0, "hello").unwrap();
        self.append(&doc);
    }

    /// Appends what an editor has written.
    fn append(&self, doc: &LoroDoc) {
        doc.commit();
        let update = Update {
            project: ROOM.into(),
            payload: doc.export(loro::ExportMode::all_updates()).unwrap().into(),
            serial: None,
        };
        block_on(rooms::append(
            &self.database,
            &self.clock,
            "editor",
            vec![update],
        ))
        .unwrap();
    }

    fn merged(&self) -> rooms::Merged {
        let (database, clock) = (&self.database, &self.clock);
        block_on(rooms::merge(
            database,
            clock,
            ROOM,
            rooms::Memory::default(),
        ))
        .unwrap()
    }

    fn compact(&self) {
        let merged = self.merged();
        block_on(rooms::compact(&self.database, &self.clock, ROOM, &merged)).unwrap();
    }

    fn shown(&self) -> serde_json::Value {
        let merged = self.merged();
        let doc: serde_json::Value = serde_json::from_str(&merged.json().unwrap()).unwrap();
        doc["tasks"]["t"].clone()
    }

    /// Returns the entry of the task at a client that received every update, in the order of the log.
    fn heard(&self) -> serde_json::Value {
        let doc = LoroDoc::new();
        for (_, message) in &*self.pubsub.0.borrow() {
            if let Ok(wire::Notice::Updates { payloads, .. }) = wire::decode(message) {
                for payload in payloads {
                    doc.import(&payload).unwrap();
                }
            }
        }
        let doc: serde_json::Value = serde_json::from_str(&doc.get_deep_value().to_json()).unwrap();
        doc["tasks"]["t"].clone()
    }

    fn due(&self) -> Vec<String> {
        block_on(projection::due(&self.database, &self.clock, 10)).unwrap()
    }
}

#[test]
fn a_newer_state_that_was_projected_meanwhile_stays() {
    let world = World::new();
    world.project_while(|world| {
        world.complete();
        world.project();
    });
    assert_eq!(world.shown()["status"], "completed");
    assert_eq!(world.heard(), world.shown());
}

#[test]
fn a_state_that_has_changed_meanwhile_is_not_projected() {
    let world = World::new();
    world.project_while(World::complete);
    assert_eq!(world.shown()["status"], "completed");
    assert_eq!(world.heard(), world.shown());
}

#[test]
fn the_same_state_twice_at_once_is_written_once() {
    let world = World::new();
    world.project_while(World::project);
    assert_eq!(world.shown()["status"], "processing");
    let projections = world.sql("SELECT 1 FROM loro_updates WHERE origin = 'tasks'");
    assert_eq!(projections.len(), 1);
}

#[test]
fn a_projection_and_a_compaction_meanwhile_are_noticed() {
    let world = World::new();
    world.project_while(|world| {
        world.complete();
        world.project();
        world.compact();
    });
    assert_eq!(world.shown()["status"], "completed");
    assert_eq!(world.heard(), world.shown());
}

#[test]
fn edits_meanwhile_do_not_hold_it_up() {
    let world = World::new();
    world.project_while(World::edit);
    assert_eq!(world.shown()["status"], "processing");
}

#[test]
fn a_document_is_looked_at_again_for_a_while_when_it_has_changed() {
    let world = World::new();
    world.complete();
    assert_eq!(world.due(), [ROOM]);
    world.project();
    assert!(world.due().is_empty());
    world.edit();
    assert_eq!(world.due(), [ROOM]);
    world.project();
    assert!(world.due().is_empty());
    world.edit();
    world.clock.0.set(world.clock.0.get() + 121);
    assert!(world.due().is_empty(), "not for ever");
    world.clock.0.set(world.clock.0.get() - 24 * 3600);
    assert!(
        world.due().is_empty(),
        "nor until tomorrow after the clock was set back"
    );
}

/// The odds that 64 draws miss one of two projects are negligible.
#[test]
fn a_project_that_stays_due_does_not_stand_before_others() {
    let world = World::new();
    for project in ["one", "two"] {
        world.sql(&format!(
            "INSERT INTO aigc_tasks (task_id, project_id, task_type, status, params, created_at, updated_at)
             VALUES ('{project}', '{project}', 'demo', 'pending', '{{}}', 0, 0)"
        ));
    }
    let draw = || block_on(projection::due(&world.database, &world.clock, 1)).unwrap();
    let drawn: std::collections::BTreeSet<String> = (0..64).flat_map(|_| draw()).collect();
    assert!(drawn.contains("one") && drawn.contains("two"), "{drawn:?}");
}

#[test]
fn many_projections_leave_few_peers_behind() {
    let world = World::new();
    for _ in 0..50 {
        world.complete();
        world.project();
        world.sql("UPDATE aigc_tasks SET status = 'failed', result_url = NULL, version = version + 1, projected_status = NULL");
        world.project();
    }
    let merged = world.merged();
    let version = loro::VersionVector::decode(&merged.version()).unwrap();
    assert_eq!(version.len(), 1);
    assert_eq!(world.heard(), world.shown());
}

/// The quarantine removes a projection from the document while the next one is made. Clients already have the removed
/// one, so the next must not use its peer and its numbers again.
#[test]
fn a_projection_never_writes_under_the_numbers_of_one_in_quarantine() {
    let world = World::new();
    world.project();
    world.complete();
    world.project_while(|world| {
        world.sql("DELETE FROM loro_projection_peers");
        world.sql("UPDATE loro_updates SET payload = x'' WHERE origin = 'tasks'");
    });
    assert_eq!(world.shown()["status"], "completed");
    let mut ends = std::collections::HashMap::new();
    for (_, message) in &*world.pubsub.0.borrow() {
        let Ok(wire::Notice::Updates { payloads, .. }) = wire::decode(message) else {
            continue;
        };
        for payload in payloads {
            let meta = LoroDoc::decode_import_blob_meta(&payload, true).unwrap();
            for (peer, start) in meta.partial_start_vv.iter() {
                let end = meta.partial_end_vv.get(peer).copied().unwrap();
                assert_eq!(ends.insert(*peer, end).unwrap_or(0), *start);
            }
        }
    }
    assert_eq!(ends.len(), 2);
}

fn large(world: &World) -> usize {
    let rows = world
        .sql("SELECT ifnull(max(length(payload)), 0) FROM loro_updates WHERE origin = 'tasks'");
    usize::try_from(rows[0].integer(0).unwrap()).unwrap()
}

/// The rows are as an earlier release stored them.
#[test]
fn what_a_service_said_at_length_leaves_the_room_readable() {
    let world = World::new();
    world.sql(
        "UPDATE aigc_tasks SET status = 'failed', completed_at = 1700000000, version = version + 1,
             error_message = hex(zeroblob(6000000))",
    );
    world.sql(
        "INSERT INTO aigc_tasks (task_id, project_id, task_type, status, params, created_at, updated_at, result_url)
         VALUES ('u', 'p', 'demo', 'completed', '{}', 1700000000, 1700000000, 'https://a/' || hex(zeroblob(6000000)))",
    );
    world.project();
    assert_eq!(world.shown()["status"], "failed");
    assert_eq!(world.shown()["error"], "0".repeat(500));
    assert!(large(&world) < 10_000, "{}", large(&world));
    assert!(world.due().is_empty());
}

/// A plain node is written whole, and this one has a film in it.
#[test]
fn a_node_that_is_too_large_to_be_written_does_not_keep_others_from_their_results() {
    let world = World::new();
    let doc = LoroDoc::new();
    let film = "x".repeat(2 * 1024 * 1024);
    let node = |id: &str, note: &str| {
        let value = serde_json::json!({ "data": { "taskId": id, "note": note } });
        doc.get_map("nodes").insert(id, value).unwrap();
    };
    node("t", &film);
    world.complete();
    for n in 0..30 {
        let id = format!("t{n}");
        node(&id, "small");
        world.add_completed(&id);
    }
    world.append(&doc);
    for _ in 0..3 {
        world.project();
    }
    assert!(world.due().is_empty(), "it is not tried for ever");
    assert!(large(&world) <= 1024 * 1024, "{}", large(&world));
    let merged = world.merged();
    let doc: serde_json::Value = serde_json::from_str(&merged.json().unwrap()).unwrap();
    assert_eq!(doc["tasks"]["t"]["status"], "completed");
    assert_eq!(
        doc["nodes"]["t"]["data"]["note"].as_str().unwrap().len(),
        film.len()
    );
    for n in 0..30 {
        let id = format!("t{n}");
        assert_eq!(doc["nodes"][&id]["data"]["src"], format!("https://a/{id}"));
    }
}

/// A plain node is written whole. Two of these fit into a projection, and all of them do not.
#[test]
fn results_that_are_too_large_together_are_written_in_parts() {
    let world = World::new();
    let doc = LoroDoc::new();
    let ids: Vec<String> = (0..4).map(|n| format!("t{n}")).collect();
    for id in &ids {
        let note = "x".repeat(400 * 1024);
        let node = serde_json::json!({ "data": { "taskId": id, "note": note } });
        doc.get_map("nodes").insert(id, node).unwrap();
        world.add_completed(id);
    }
    world.append(&doc);
    world.project();
    assert!(world.due().is_empty(), "one call writes all of them");
    let bytes = large(&world);
    assert!((700 * 1024..=1024 * 1024).contains(&bytes), "{bytes}");
    let doc: serde_json::Value = serde_json::from_str(&world.merged().json().unwrap()).unwrap();
    for id in &ids {
        assert_eq!(doc["nodes"][id]["data"]["src"], format!("https://a/{id}"));
    }
}

/// A projection has room for each of these nodes, and not for both together.
#[test]
fn a_task_whose_nodes_are_too_large_together_is_shown_in_its_entry_alone() {
    let world = World::new();
    let doc = LoroDoc::new();
    for id in ["one", "two"] {
        let note = "x".repeat(600 * 1024);
        let node = serde_json::json!({ "data": { "taskId": "t", "note": note } });
        doc.get_map("nodes").insert(id, node).unwrap();
    }
    world.append(&doc);
    world.complete();
    world.project();
    assert!(world.due().is_empty(), "it is not tried for ever");
    assert!(large(&world) < 10_000, "{}", large(&world));
    let doc: serde_json::Value = serde_json::from_str(&world.merged().json().unwrap()).unwrap();
    assert_eq!(doc["tasks"]["t"]["src"], "https://a/b");
    for id in ["one", "two"] {
        assert_eq!(doc["nodes"][id]["data"]["src"], serde_json::Value::Null);
    }
}

#[test]
fn one_call_writes_more_tasks_than_one_projection_has() {
    let world = World::new();
    for n in 0..201 {
        world.add_completed(&format!("t{n}"));
    }
    world.project();
    let projections = world.sql("SELECT 1 FROM loro_updates WHERE origin = 'tasks'");
    assert_eq!(projections.len(), 2);
    let doc: serde_json::Value = serde_json::from_str(&world.merged().json().unwrap()).unwrap();
    assert_eq!(doc["tasks"].as_object().unwrap().len(), 202);
}
