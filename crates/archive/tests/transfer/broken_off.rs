//! The imports that fail, that are killed, that run at the same time, and that are left behind.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use archive::sweep;
use auth::{Principal, imports, projects::Scope};
use platform::{Clock, Database, DatabaseError, Row, Value};
use tasks::rows;

use super::*;

/// The seconds after which an import has broken off.
const UNDER_WAY: i64 = 600;

/// The ways in which a statement fails.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// The statement does not happen, and later ones do.
    Fails,
    /// The statement happens, but its answer is lost. Later ones succeed.
    IsLost,
    /// The process is killed before the statement.
    IsKilledBefore,
    /// The process is killed after the statement.
    IsKilledAfter,
}

/// A database in which one statement fails. Each statement waits once, so that those of another import run in between.
struct Faulty<'a> {
    inner: &'a dyn Database,
    fault: Option<(usize, Fault)>,
    count: Cell<usize>,
}

impl<'a> Faulty<'a> {
    fn new(world: &'a World, fault: Option<(usize, Fault)>) -> Self {
        let inner = world.ports().database;
        let count = Cell::new(0);
        Self {
            inner,
            fault,
            count,
        }
    }

    /// Restores project `a` with its members.
    fn restored(&self, world: &World, archive: &[u8]) -> Result<Imported, ImportError> {
        let ports = Ports {
            database: self,
            ..world.ports()
        };
        finished(restore(ports, "a", archive))
    }
}

#[async_trait::async_trait(?Send)]
impl Database for Faulty<'_> {
    async fn execute(&self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Row>, DatabaseError> {
        let mut waited = false;
        poll_fn(|context| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        self.count.set(self.count.get() + 1);
        let failed = || Err(DatabaseError::Failed("it fails here".into()));
        match self.fault {
            Some((at, Fault::Fails)) if self.count.get() == at => failed(),
            Some((at, Fault::IsKilledBefore)) if self.count.get() >= at => failed(),
            Some((at, Fault::IsKilledAfter)) if self.count.get() > at => failed(),
            Some((at, Fault::IsLost | Fault::IsKilledAfter)) if self.count.get() == at => {
                self.inner.execute(sql, parameters).await?;
                failed()
            }
            _ => self.inner.execute(sql, parameters).await,
        }
    }
}

/// Runs a future that waits only for [`Faulty`].
fn finished<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..10_000 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
    panic!("it does not end");
}

/// The rows of all tables but the counts of owners, which hold for a minute.
fn rows_of(world: &World) -> Vec<(String, i64)> {
    let tables = world.rows(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> 'schema_migrations'",
    );
    let counted = tables.into_iter().map(|mut row| {
        let table = row.text(0).unwrap();
        let condition = match &*table {
            "quota_usage" => "holder NOT LIKE 'owner:%'",
            _ => "1",
        };
        let rows = count(
            world,
            &format!("SELECT count(*) FROM {table} WHERE {condition}"),
        );
        (table, rows)
    });
    counted.filter(|(_, rows)| *rows > 0).collect()
}

pub(crate) fn assert_empty(world: &World, case: &str) {
    assert_eq!(rows_of(world), [], "{case}");
}

/// A backup of project `a` of Ada with members, and the world from which it comes.
fn backup() -> (World, Vec<u8>) {
    let world = world(&[]);
    fill(&world);
    run(
        &world,
        "INSERT INTO loro_quarantine VALUES ('a', 7, x'0102', 'r1', 3, 4, 'It is odd.')",
    );
    for (user, role) in [("bob", Role::Read), ("eve", Role::Write)] {
        let ports = world.ports();
        block_on(projects::set_member(
            ports.database,
            ports.clock,
            "a",
            user,
            role,
        ))
        .unwrap();
    }
    let archive = backed_up(&world, "a");
    (world, archive)
}

/// Asserts that project `a` is there as a whole, and nothing more.
fn assert_whole(world: &World, first: &World, case: &str) {
    assert_eq!(document(world, "a"), document(first, "a"), "{case}");
    let tasks = tasks_of(world, "a");
    assert_eq!(
        (tasks.len(), &tasks[0]),
        (2, &tasks_of(first, "a")[0]),
        "{case}"
    );
    let members = block_on(projects::members(world.ports().database, "a")).unwrap();
    let users: Vec<_> = members.iter().map(|member| &*member.user_id).collect();
    assert_eq!(users, ["bob", "eve"], "{case}");
    assert_eq!(project(world, "a").owner_id, "ada", "{case}");
    for (table, expected) in [("assets", 1), ("asset_copies", 0), ("loro_quarantine", 1)] {
        let rows = count(world, &format!("SELECT count(*) FROM {table}"));
        assert_eq!(rows, expected, "{case}: {table}");
    }
}

/// The number of statements of a whole import.
fn statements(archive: &[u8]) -> usize {
    let world = world(&[]);
    let database = Faulty::new(&world, None);
    database.restored(&world, archive).unwrap();
    let count = database.count.get();
    assert!((30..300).contains(&count), "{count}");
    count
}

fn pass(world: &World, seconds: i64) {
    world.clock.0.set(world.clock.unix_seconds() + seconds);
}

#[test]
fn after_a_failed_statement_nothing_is_left_and_the_id_is_free() {
    let (first, archive) = backup();
    for at in 1..=statements(&archive) {
        for fault in [Fault::Fails, Fault::IsLost] {
            let case = format!("{fault:?} at {at}");
            let world = world(&[]);
            let result = Faulty::new(&world, Some((at, fault))).restored(&world, &archive);
            if result.is_ok() {
                // The import tried the statement again.
                assert_whole(&world, &first, &case);
                continue;
            }
            // The last statement makes the project: if it happened, the project stays.
            if block_on(projects::get(world.ports().database, "a"))
                .unwrap()
                .is_some()
            {
                assert_eq!((at, fault), (statements(&archive), Fault::IsLost));
                assert_whole(&world, &first, &case);
                continue;
            }
            assert_empty(&world, &case);
            block_on(restore(world.ports(), "a", &archive)).unwrap();
            assert_whole(&world, &first, &case);
        }
    }
}

#[test]
fn after_a_kill_the_same_import_works_in_ten_minutes() {
    let (first, archive) = backup();
    for at in 1..=statements(&archive) {
        for fault in [Fault::IsKilledBefore, Fault::IsKilledAfter] {
            for is_swept in [false, true] {
                let case = format!("{fault:?} at {at}");
                let world = world(&[]);
                let killed = Faulty::new(&world, Some((at, fault))).restored(&world, &archive);
                if killed.is_ok() || project_of(&world).is_some() {
                    assert_eq!((at, fault), (statements(&archive), Fault::IsKilledAfter));
                    assert_whole(&world, &first, &case);
                    continue;
                }
                assert_unseen(&world, &case);
                let is_reserved = count(&world, "SELECT count(*) FROM projects") == 1;
                pass(&world, UNDER_WAY - 1);
                if is_reserved {
                    let early = block_on(restore(world.ports(), "a", &archive));
                    assert!(matches!(early, Err(ImportError::UnderWay)), "{case}");
                    block_on(sweep(world.ports(), 4)).unwrap();
                    assert_eq!(count(&world, "SELECT count(*) FROM projects"), 1, "{case}");
                }
                pass(&world, 1);
                if is_swept {
                    block_on(sweep(world.ports(), 4)).unwrap();
                    assert_empty(&world, &case);
                }
                block_on(restore(world.ports(), "a", &archive)).unwrap();
                assert_whole(&world, &first, &case);
            }
        }
    }
}

fn project_of(world: &World) -> Option<Project> {
    block_on(projects::get(world.ports().database, "a")).unwrap()
}

/// Asserts that no list, no user and no member finds project `a`, and that nothing changes it.
fn assert_unseen(world: &World, case: &str) {
    let ports = world.ports();
    let database = ports.database;
    for user in ["", "ada", "bob", "grace"] {
        for scope in [Scope::User(user), Scope::Project("a"), Scope::All] {
            let listed = block_on(projects::list(database, scope, "", 9)).unwrap();
            assert_eq!(listed, [], "{case}");
        }
        let filter = rows::Filter {
            user_id: Some(user.to_owned()).filter(|user| !user.is_empty()),
            limit: 9,
            ..rows::Filter::default()
        };
        let tasks = block_on(rows::list(database, &filter)).unwrap();
        assert!(tasks.is_empty(), "{case}");
        let id = user.to_owned();
        let principal = match user {
            "" => Principal::Server,
            _ => Principal::User {
                id,
                expires_at: None,
            },
        };
        assert!(block_on(principal.access(ports, "a")).is_err(), "{case}");
    }
    let due = rows::unprojected_projects(database, rooms::head_sql, 9, 9);
    assert!(block_on(due).unwrap().is_empty(), "{case}");
    let revs = block_on(projects::access_revs(database, &["a".to_owned()])).unwrap();
    assert_eq!(revs, [0], "{case}");
    let clock = ports.clock;
    assert!(!block_on(projects::delete(database, clock, "a")).unwrap());
    assert!(!block_on(projects::touch(database, clock, "a")).unwrap());
    assert!(
        block_on(projects::rename(database, clock, "a", "x"))
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_project_is_nowhere_while_it_is_imported_but_its_id_is_taken() {
    let (_, archive) = backup();
    let world = world(&[]);
    let database = Faulty::new(&world, Some((statements(&archive), Fault::IsKilledBefore)));
    database.restored(&world, &archive).unwrap_err();
    // Everything but the project is stored.
    assert_eq!(tasks_of(&world, "a").len(), 2);
    assert_unseen(&world, "the last statement is missing");
    let ports = world.ports();
    let new = NewProject {
        project_id: "a",
        name: "mine",
        owner_id: "grace",
    };
    assert!(!block_on(projects::create(ports.database, ports.clock, new)).unwrap());
    let asset = world.rows("SELECT asset_id FROM assets")[0]
        .text(0)
        .unwrap();
    let sql = format!(
        "INSERT INTO asset_copies (asset_id, project_id, copy_id) VALUES ('asset_0', 'a', '{asset}')"
    );
    run(&world, &sql);
    let store = AssetStore::open(ports.database, ports.http, ports.config).unwrap();
    for project in [None, Some("a")] {
        assert_eq!(
            block_on(store.copy_for("asset_0", None, project)).unwrap(),
            None
        );
    }
}

/// A round must leave the project alone, because its work on rooms and documents would bring contents back if the import
/// fails meanwhile.
#[test]
fn rounds_leave_a_project_alone_while_it_is_imported() {
    let (_, archive) = backup();
    let world = world(&[]);
    let last = statements(&archive);
    let database = Faulty::new(&world, Some((last, Fault::IsKilledBefore)));
    database.restored(&world, &archive).unwrap_err();
    pass(&world, 7 * 24 * 3600);
    let due = || {
        let ports = world.ports();
        let (database, clock) = (ports.database, ports.clock);
        let now = clock.unix_seconds();
        [
            block_on(rooms::sweep(database, clock, 9)).unwrap(),
            block_on(rooms::to_merge(database, clock, 9)).unwrap(),
            block_on(rows::unprojected_projects(
                database,
                rooms::head_sql,
                now,
                9,
            ))
            .unwrap(),
        ]
    };
    run(
        &world,
        "INSERT INTO loro_blobs VALUES ('a', 0, x'00', x'00', '[]', 0)",
    );
    assert_eq!(due(), [const { Vec::<String>::new() }; 3]);
    run(&world, "UPDATE projects SET owner_id = 'ada'");
    assert_eq!(due(), [["a"], ["a"], ["a"]]);
}

#[test]
fn of_two_imports_at_once_one_wins() {
    let (first, archive) = backup();
    let world = world(&[]);
    let (one, two) = (Faulty::new(&world, None), Faulty::new(&world, None));
    let import = |database| {
        let ports = Ports {
            database,
            ..world.ports()
        };
        restore(ports, "a", &archive)
    };
    let results = finished(async { futures_util::join!(import(&one), import(&two)) });
    assert!(one.count.get() > 30);
    let (won, lost) = match results {
        (Ok(won), Err(lost)) | (Err(lost), Ok(won)) => (won, lost),
        both => panic!("{both:?}"),
    };
    assert_eq!(won.tasks, 2);
    assert!(matches!(lost, ImportError::UnderWay), "{lost}");
    assert_whole(&world, &first, "one won");
    let late = block_on(restore(world.ports(), "a", &archive));
    assert!(matches!(late, Err(ImportError::Taken)));
}

/// A round sweeps a few projects, beginning with those that have waited longest.
#[test]
fn a_sweep_has_a_bound() {
    let world = world(&[]);
    let ports = world.ports();
    for (project, at) in [("x", 3), ("y", 1), ("z", 2)] {
        world.clock.0.set(at);
        let reserved = imports::reserve(ports.database, ports.clock, project, "token");
        assert_eq!(block_on(reserved).unwrap(), imports::Reservation::Made);
    }
    world.clock.0.set(UNDER_WAY + 3);
    block_on(sweep(ports, 2)).unwrap();
    let mut left = world.rows("SELECT project_id FROM projects");
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].text(0).unwrap(), "x");
}
