//! Tests appends that a relay repeats because it lost the answer: each update is stored once, and the outcome is the
//! first one.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Barrier;

use loro::{ExportMode, LoroDoc};
use platform::{
    Database, migrations,
    native::{SetClock, SqliteFile, block_on},
};
use wire::{Outcome, Update};

struct World {
    database: SqliteFile,
    clock: SetClock,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rooms.db");
        let database = SqliteFile::open(&path).unwrap();
        let clock = SetClock::default();
        clock.0.set(1_000_000);
        block_on(migrations::apply(&database, &clock)).unwrap();
        Self {
            database,
            clock,
            path,
            _folder: folder,
        }
    }

    fn append(&self, origin: &str, updates: &[Update]) -> Vec<Outcome> {
        let updates = updates.to_vec();
        block_on(rooms::append(&self.database, &self.clock, origin, updates)).unwrap()
    }

    fn compact(&self, project: &str) {
        let merged = block_on(rooms::merge(
            &self.database,
            &self.clock,
            project,
            rooms::Memory::default(),
        ))
        .unwrap();
        let compacted = rooms::compact(&self.database, &self.clock, project, &merged);
        block_on(compacted).unwrap();
    }

    fn delete(&self, project: &str) {
        let sql =
            "INSERT INTO projects (project_id, name, owner_id, created_at, updated_at, deleted_at)
                   VALUES (?1, '', '', 0, 0, 1)";
        block_on(self.database.execute(sql, vec![project.into()])).unwrap();
    }

    fn purge(&self, project: &str) {
        block_on(rooms::delete(&self.database, &self.clock, project)).unwrap();
    }

    fn heads(&self) -> Vec<u64> {
        let projects = ["p".to_owned(), "q".to_owned()];
        block_on(rooms::heads(&self.database, &projects)).unwrap()
    }

    fn receipts(&self) -> u64 {
        let sql = "SELECT count(*) FROM loro_receipts";
        let rows = block_on(self.database.execute(sql, vec![])).unwrap();
        rows[0].unsigned(0).unwrap()
    }
}

fn update(project: &str, serial: Option<u64>) -> Update {
    let doc = LoroDoc::new();
    doc.get_text("text").insert(0, "hello").unwrap();
    doc.commit();
    Update {
        project: project.into(),
        payload: doc.export(ExportMode::all_updates()).unwrap().into(),
        serial,
    }
}

fn nonsense(serial: u64) -> Update {
    Update {
        payload: b"nonsense".to_vec().into(),
        ..update("p", Some(serial))
    }
}

fn stored(rev: u64) -> Outcome {
    Outcome::Stored { rev, waits: None }
}

/// Makes the batch of each test: payloads for two rooms, one of which is not an update.
fn batch() -> Vec<Update> {
    vec![
        update("p", Some(1)),
        update("q", Some(2)),
        nonsense(3),
        update("p", Some(4)),
    ]
}

#[test]
fn a_repeated_append_has_the_outcome_of_the_first() {
    type Between = fn(&World);
    let cases: [(&str, Between); 6] = [
        ("nothing", |_| {}),
        ("a compaction", |world| world.compact("p")),
        ("a compaction of each room", |world| {
            world.compact("p");
            world.compact("q");
        }),
        ("compactions, and later edits", |world| {
            world.compact("p");
            world.append("another", &[update("p", Some(1)), update("q", None)]);
            world.compact("p");
        }),
        ("the project's deletion", |world| world.delete("p")),
        ("the deletion of all that it held", |world| {
            world.delete("p");
            world.purge("p");
        }),
    ];
    for (what, between) in cases {
        let world = World::new();
        let first = world.append("relay", &batch());
        assert_eq!(
            [&first[0], &first[1], &first[3]],
            [&stored(1), &stored(1), &stored(2)]
        );
        assert!(matches!(first[2], Outcome::Refused { .. }));
        between(&world);
        let heads = world.heads();
        for _ in 0..2 {
            assert_eq!(world.append("relay", &batch()), first, "after {what}");
            assert_eq!(world.heads(), heads, "after {what}");
        }
    }
}

/// A batch that failed is taken apart, and what is left of it goes with others.
#[test]
fn an_update_is_known_in_whatever_company() {
    let world = World::new();
    let first = world.append("relay", &batch());
    for n in [3, 1, 0, 2] {
        assert_eq!(world.append("relay", &batch()[n..=n]), first[n..=n]);
    }
    let mixed = [
        update("p", Some(5)),
        update("p", Some(4)),
        update("p", Some(6)),
    ];
    assert_eq!(
        world.append("relay", &mixed),
        [stored(3), stored(2), stored(4)]
    );
    // Another relay's numbers are its own, and updates without numbers are always new.
    assert_eq!(world.append("another", &mixed[..1]), [stored(5)]);
    let unnumbered = [update("p", None), update("p", None)];
    assert_eq!(world.append("relay", &unnumbered), [stored(6), stored(7)]);
    assert_eq!(world.append("relay", &unnumbered), [stored(8), stored(9)]);
}

#[test]
fn what_was_refused_for_a_deleted_project_stays_refused() {
    let world = World::new();
    world.delete("p");
    let first = world.append("relay", &batch());
    assert!(matches!(first[0], Outcome::Refused { .. }));
    assert_eq!(first[1], stored(1));
    assert_eq!(world.append("relay", &batch()), first);
    assert_eq!(world.heads(), [0, 1]);
}

#[test]
fn the_same_append_twice_at_once_is_stored_once() {
    let world = World::new();
    let (path, barrier) = (&world.path, Barrier::new(4));
    for round in 0..20 {
        let batch: Vec<Update> = (0..10).map(|n| update("p", Some(round * 10 + n))).collect();
        let outcomes: Vec<Vec<Outcome>> = std::thread::scope(|scope| {
            let appends: Vec<_> = (0..4)
                .map(|_| {
                    let (batch, barrier) = (batch.clone(), &barrier);
                    scope.spawn(move || {
                        let database = SqliteFile::open(path).unwrap();
                        barrier.wait();
                        let clock = SetClock::default();
                        block_on(rooms::append(&database, &clock, "relay", batch)).unwrap()
                    })
                })
                .collect();
            appends
                .into_iter()
                .map(|append| append.join().unwrap())
                .collect()
        });
        let expected: Vec<Outcome> = (1..=10).map(|n| stored(round * 10 + n)).collect();
        for outcomes in outcomes {
            assert_eq!(outcomes, expected);
        }
    }
    assert_eq!(world.heads(), [200, 0]);
}

/// The receipts of updates that left the log are kept for ten minutes, and no others are kept.
#[test]
fn receipts_are_forgotten() {
    let world = World::new();
    let kept = i64::try_from(wire::REPEATED_WITHIN.as_secs()).unwrap();
    let forget =
        |world: &World| block_on(rooms::forget_receipts(&world.database, &world.clock)).unwrap();
    world.append("relay", &batch());
    forget(&world);
    assert_eq!(world.receipts(), 0);
    world.compact("p");
    assert_eq!(world.receipts(), 2);
    world.clock.0.set(1_000_000 + kept);
    forget(&world);
    assert_eq!(world.receipts(), 2);
    world.clock.0.set(1_000_000 + kept + 1);
    forget(&world);
    assert_eq!(world.receipts(), 0);
    // All of them are deleted, also if they are more than one statement deletes.
    let many = "WITH RECURSIVE n(serial) AS (SELECT 1 UNION ALL SELECT serial + 1 FROM n WHERE serial <= 5000)
                INSERT INTO loro_receipts (origin, serial, rev, created_at) SELECT 'relay', serial, 1, 0 FROM n";
    block_on(world.database.execute(many, vec![])).unwrap();
    forget(&world);
    assert_eq!(world.receipts(), 0);
    // An update that is older when it leaves the log gets no receipt.
    world.compact("q");
    assert_eq!(world.receipts(), 0);
}

/// The two clients share a peer id. The update of the first client was stored, and its relay lost the answer.
#[test]
fn what_is_repeated_behind_another_client_of_its_peer_has_its_first_outcome() {
    let world = World::new();
    let typed = |text: &str, serial| {
        let doc = LoroDoc::new();
        doc.set_peer_id(1).unwrap();
        doc.get_text("text").insert(0, text).unwrap();
        doc.commit();
        Update {
            payload: doc.export(ExportMode::all_updates()).unwrap().into(),
            ..update("p", Some(serial))
        }
    };
    let (first, other) = (typed("first", 1), typed("other", 2));
    let alone = world.append("relay", std::slice::from_ref(&first));
    assert_eq!(alone, [stored(1)]);
    let together = world.append("relay", &[other, first]);
    assert_eq!(together, [Outcome::Suspect, stored(1)]);
}
