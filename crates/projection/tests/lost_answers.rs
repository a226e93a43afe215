//! The operations that are repeated after a lost answer of a database over HTTP, as `docs/libsql.md` says.
//!
//! An operation is carried out once undisturbed. Then, in a new world for each of its statements that write, the answer
//! of that statement is lost, and the caller repeats the operation.

#![allow(clippy::unwrap_used)]

use auth::{
    Role,
    projects::{self, NewProject},
    tokens::{self, NewToken},
};
use loro::{ExportMode, LoroDoc};
use platform::{
    Database, HttpError, Ports, migrations,
    native::{
        AnswerWith, HranaServer, HranaWorld, MapConfig, MemoryKeyValue, Published, SetClock,
        block_on,
    },
};
use tasks::{Registry, TaskRequest};
use wire::Update;

type NoHttp = fn(http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, HttpError>;

struct World {
    database: HranaWorld,
    clock: SetClock,
    key_value: MemoryKeyValue,
    pubsub: Published,
    config: MapConfig,
    http: AnswerWith<NoHttp>,
}

/// The outcome of an operation. If it failed, the text says how.
type Done = Result<(), String>;

/// An operation of the app.
struct Operation {
    name: &'static str,
    before: fn(&World) -> Done,
    run: fn(&World) -> Done,
    /// The rows that a query finds after it.
    query: &'static str,
    found: &'static str,
    /// The rows that the query may find as well if the operation was repeated.
    repeated: &'static str,
}

fn nothing(_: &World) -> Done {
    Ok(())
}

fn words<T, E: std::fmt::Display>(result: Result<T, E>) -> Done {
    result.map(drop).map_err(|error| error.to_string())
}

/// Appends the same update each time, as number 1 of a relay or without a number.
fn append(world: &World, serial: Option<u64>) -> Done {
    let doc = LoroDoc::new();
    doc.set_peer_id(7).unwrap();
    doc.get_text("text").insert(0, "hello").unwrap();
    doc.commit();
    let update = Update {
        project: "p".into(),
        payload: doc.export(ExportMode::all_updates()).unwrap().into(),
        serial,
    };
    let append = rooms::append(&world.database, &world.clock, "relay", vec![update]);
    words(block_on(append))
}

fn numbered(world: &World) -> Done {
    append(world, Some(1))
}

fn unnumbered(world: &World) -> Done {
    append(world, None)
}

fn compact(world: &World) -> Done {
    let (database, clock) = (&world.database, &world.clock);
    let merged = block_on(rooms::merge(database, clock, "p", rooms::Memory::default()))
        .map_err(|e| e.to_string())?;
    words(block_on(rooms::compact(database, clock, "p", &merged)))
}

fn own_peer(world: &World) -> Done {
    words(block_on(rooms::own_peer(&world.database, "p")))
}

fn delete_room(world: &World) -> Done {
    words(block_on(rooms::delete(&world.database, &world.clock, "p")))
}

fn post(world: &World, key: Option<&str>) -> Done {
    let body = br#"{"project_id":"p","task_type":"demo","params":{"prompt":"a hill"}}"#;
    let request = TaskRequest::read(body).map_err(|error| error.to_string())?;
    let registry = Registry::standard(&world.config);
    words(block_on(tasks::create(
        world.ports(),
        &registry,
        &request,
        key,
    )))
}

fn create_project(world: &World) -> Done {
    let new = NewProject {
        project_id: "p",
        name: "P",
        owner_id: "owner",
    };
    words(block_on(projects::create(
        &world.database,
        &world.clock,
        new,
    )))
}

fn set_member(world: &World) -> Done {
    let (database, clock) = (&world.database, &world.clock);
    words(block_on(projects::set_member(
        database,
        clock,
        "p",
        "member",
        Role::Write,
    )))
}

fn remove_member(world: &World) -> Done {
    let (database, clock) = (&world.database, &world.clock);
    words(block_on(projects::remove_member(
        database, clock, "p", "member",
    )))
}

fn make_token(world: &World) -> Done {
    let new = NewToken {
        project_id: "p",
        name: "agent",
        role: Role::Write,
        expires_at: None,
        created_by: "user:owner",
    };
    words(block_on(tokens::create(&world.database, &world.clock, new)))
}

const OPERATIONS: &[Operation] = &[
    Operation {
        name: "an append with a number",
        before: nothing,
        run: numbered,
        query: "SELECT group_concat(rev) FROM loro_updates",
        found: "1",
        repeated: "1",
    },
    Operation {
        name: "an append without a number",
        before: nothing,
        run: unnumbered,
        query: "SELECT group_concat(rev) FROM loro_updates",
        found: "1",
        repeated: "1,2",
    },
    Operation {
        name: "a compaction",
        before: numbered,
        run: compact,
        query: "SELECT rev || ' ' || (SELECT count(*) FROM loro_updates) FROM loro_snapshots",
        found: "1 0",
        repeated: "1 0",
    },
    Operation {
        name: "the app's own peer",
        before: nothing,
        run: own_peer,
        query: "SELECT count(*) || '' FROM loro_projection_peers",
        found: "1",
        repeated: "1",
    },
    Operation {
        name: "the deletion of a room",
        before: numbered,
        run: delete_room,
        query: "SELECT count(*) || '' FROM loro_updates",
        found: "0",
        repeated: "0",
    },
    Operation {
        name: "a task with a key",
        before: nothing,
        run: |world| post(world, Some("key")),
        query: "SELECT count(*) || '' FROM aigc_tasks",
        found: "1",
        repeated: "1",
    },
    Operation {
        name: "a task without a key",
        before: nothing,
        run: |world| post(world, None),
        query: "SELECT count(*) || '' FROM aigc_tasks",
        found: "1",
        repeated: "2",
    },
    Operation {
        name: "a project",
        before: nothing,
        run: create_project,
        query: "SELECT group_concat(project_id || ' ' || owner_id) FROM projects",
        found: "p owner",
        repeated: "p owner",
    },
    Operation {
        name: "a member",
        before: create_project,
        run: set_member,
        query: "SELECT group_concat(user_id || ' ' || role) FROM project_members",
        found: "member write",
        repeated: "member write",
    },
    Operation {
        name: "the removal of a member",
        before: |world| create_project(world).and_then(|()| set_member(world)),
        run: remove_member,
        query: "SELECT count(*) || '' FROM project_members",
        found: "0",
        repeated: "0",
    },
    Operation {
        name: "a token",
        before: create_project,
        run: make_token,
        query: "SELECT count(*) || '' FROM project_tokens",
        found: "1",
        repeated: "2",
    },
];

impl World {
    fn new() -> Self {
        let server = HranaServer::open(":memory:".as_ref()).unwrap();
        let (database, clock) = (HranaWorld::of(server), SetClock::default());
        clock.0.set(1_700_000_000);
        block_on(migrations::apply(&database, &clock)).unwrap();
        Self {
            database,
            clock,
            key_value: MemoryKeyValue::default(),
            pubsub: Published::default(),
            config: MapConfig::from_pairs(&[]),
            http: AnswerWith(|_| Err(HttpError::NotSent("no server".into()))),
        }
    }

    fn ports(&self) -> Ports<'_> {
        Ports {
            database: &self.database,
            key_value: &self.key_value,
            pubsub: &self.pubsub,
            http: &self.http,
            config: &self.config,
            clock: &self.clock,
        }
    }

    fn find(&self, query: &str) -> String {
        let mut rows = block_on(self.database.execute(query, vec![])).unwrap();
        rows[0].optional_text(0).unwrap().unwrap_or_default()
    }
}

#[test]
fn a_repeated_operation_does_what_the_page_says() {
    for operation in OPERATIONS {
        let Operation { name, query, .. } = operation;
        let world = World::new();
        (operation.before)(&world).unwrap();
        (operation.run)(&world).unwrap();
        assert_eq!(world.find(query), operation.found, "{name}");
        let mut seen = false;
        for others in 0.. {
            assert!(others < 50, "{name}: too many statements that write");
            let world = World::new();
            (operation.before)(&world).unwrap();
            world.database.server.borrow_mut().lose_write_after(others);
            let first = (operation.run)(&world);
            if world.database.server.borrow_mut().is_still_to_lose() {
                assert!(others > 0, "{name} writes nothing");
                break;
            }
            // The answer of work that may be left undone is ignored; then the operation has succeeded.
            if first.is_err() {
                (operation.run)(&world).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
            let found = world.find(query);
            let fits = found == operation.found || found == operation.repeated;
            assert!(fits, "{name}, write {others}: {found}");
            seen |= found == operation.repeated;
        }
        assert!(seen, "{name}: no repetition left what the page says");
    }
}

/// The document does not show that an update was stored twice.
#[test]
fn an_update_that_is_stored_twice_is_applied_once() {
    let world = World::new();
    unnumbered(&world).unwrap();
    unnumbered(&world).unwrap();
    let sql = "SELECT payload FROM loro_updates ORDER BY rev";
    let rows = block_on(world.database.execute(sql, vec![])).unwrap();
    assert_eq!(rows.len(), 2);
    let doc = LoroDoc::new();
    for mut row in rows {
        doc.import(&row.blob(0).unwrap()).unwrap();
    }
    assert_eq!(doc.get_text("text").to_string(), "hello");
}
