//! Tests that an update that decodes but cannot be applied does not stop its room.

#![allow(clippy::unwrap_used)]

use std::{cell::Cell, panic::AssertUnwindSafe};

use loro::{ExportMode, LoroDoc};
use platform::{
    Database,
    native::{SetClock, SqliteFile, block_on},
};
use rooms::Memory;
use rooms::supervise::{self, MergeError, Merger};
use wire::{EncodedState, Job, Outcome, State, Update};

const ROOM: &str = "room";

struct World {
    database: SqliteFile,
    clock: SetClock,
}

impl World {
    fn new() -> Self {
        Self {
            database: SqliteFile::with_schema(),
            clock: SetClock::default(),
        }
    }

    fn append(&self, payload: Vec<u8>) -> u64 {
        let updates = vec![Update {
            project: ROOM.into(),
            payload: payload.into(),
            serial: None,
        }];
        let outcomes = block_on(rooms::append(&self.database, &self.clock, "test", updates));
        match outcomes.unwrap()[0] {
            Outcome::Stored { rev, .. } => rev,
            ref other => panic!("{other:?}"),
        }
    }

    fn quarantined(&self) -> Vec<u64> {
        let sql = "SELECT rev FROM loro_quarantine ORDER BY rev";
        let rows = block_on(self.database.execute(sql, vec![])).unwrap();
        rows.iter().map(|row| row.unsigned(0).unwrap()).collect()
    }

    fn run(&self, merger: &dyn Merger, job: &Job) -> Result<State, rooms::RoomError> {
        let state = block_on(supervise::run(
            &self.database,
            &self.clock,
            merger,
            ROOM,
            job,
        ))?;
        Ok(wire::decode(&state.into_body()).unwrap())
    }
}

/// Types a letter into this document, and returns the update.
fn letter(doc: &LoroDoc, letter: &str) -> Vec<u8> {
    let before = doc.oplog_vv();
    doc.get_text("text").insert(0, letter).unwrap();
    doc.commit();
    doc.export(ExportMode::updates(&before)).unwrap()
}

fn text(state: &State) -> String {
    let doc = LoroDoc::new();
    for blob in &state.blobs {
        doc.import(blob).unwrap();
    }
    doc.get_text("text").to_string()
}

/// A merger that dies of some updates, as a Wasm instance does of a trap.
struct Dies<'a> {
    world: &'a World,
    of: Vec<u64>,
    runs: Cell<u32>,
}

impl<'a> Dies<'a> {
    fn of<const N: usize>(world: &'a World, revs: [u64; N]) -> Self {
        Self {
            world,
            of: revs.into(),
            runs: Cell::new(0),
        }
    }
}

#[async_trait::async_trait(?Send)]
impl Merger for Dies<'_> {
    async fn run(&self, project: &str, job: &Job) -> Result<EncodedState, MergeError> {
        self.runs.set(self.runs.get() + 1);
        let until = match job {
            Job::Until { rev } => *rev,
            _ => u64::MAX,
        };
        let alive = block_on(self.world.database.execute(
            "SELECT rev FROM loro_updates WHERE project_id = ?1 AND length(payload) > 0",
            vec![project.into()],
        ))
        .unwrap();
        let poisoned = alive.iter().any(|row| {
            let rev = row.unsigned(0).unwrap();
            rev <= until && self.of.contains(&rev)
        });
        let work = || {
            assert!(!poisoned, "trap");
            block_on(supervise::work(
                &self.world.database,
                &self.world.clock,
                project,
                job,
                Memory::default(),
            ))
        };
        match std::panic::catch_unwind(AssertUnwindSafe(work)) {
            Ok(result) => result.map(EncodedState::from).map_err(MergeError::Failed),
            Err(_) => Err(MergeError::Panicked("trap".into())),
        }
    }
}

/// The refused update may be the reason why Loro panics on later ones.
#[test]
fn a_trial_says_why_loro_refuses_an_update() {
    let world = World::new();
    let doc = LoroDoc::new();
    let fine = world.append(letter(&doc, "a"));
    let damaged = world.append(letter(&doc, "b"));
    let sql = "UPDATE loro_updates SET payload = x'00' WHERE rev = ?1";
    block_on(world.database.execute(sql, vec![damaged.into()])).unwrap();
    let words = |rev| {
        let (database, clock) = (&world.database, &world.clock);
        let job = Job::Until { rev };
        let trial = supervise::work(database, clock, ROOM, &job, Memory::default());
        block_on(trial).unwrap().blobs.len()
    };
    assert_eq!((words(fine), words(damaged)), (0, 1));
}

#[test]
fn updates_that_trap_are_found_and_moved_aside() {
    let world = World::new();
    for n in 0..40 {
        let doc = LoroDoc::new();
        doc.set_peer_id(n + 1).unwrap();
        world.append(letter(&doc, "x"));
    }
    let merger = Dies::of(&world, [1, 17, 40]);
    let state = world.run(&merger, &Job::Snapshot).unwrap();
    assert_eq!(text(&state).len(), 37);
    assert_eq!(state.rev, 40);
    assert_eq!(world.quarantined(), [1, 17, 40]);
    assert!(merger.runs.get() < 60, "{} runs", merger.runs.get());

    // The room goes on, and the last rev is not given again.
    let doc = LoroDoc::new();
    assert_eq!(world.append(letter(&doc, "y")), 41);
    world.run(&merger, &Job::Compact).unwrap();
    assert_eq!(world.append(letter(&doc, "z")), 42);
    let state = world.run(&merger, &Job::Snapshot).unwrap();
    assert_eq!(text(&state).len(), 39);
}

/// A merge that dies for another reason, such as a lack of memory or of time, blames no update.
#[test]
fn nothing_is_moved_aside_when_no_update_is_to_blame() {
    struct Always(fn() -> MergeError, Cell<u32>);
    #[async_trait::async_trait(?Send)]
    impl Merger for Always {
        async fn run(&self, _: &str, _: &Job) -> Result<EncodedState, MergeError> {
            self.1.set(self.1.get() + 1);
            Err((self.0)())
        }
    }
    /// Panics on the whole log only, so that no update is to blame.
    #[derive(Default)]
    struct NotInTrials(Cell<u32>);
    #[async_trait::async_trait(?Send)]
    impl Merger for NotInTrials {
        async fn run(&self, _: &str, job: &Job) -> Result<EncodedState, MergeError> {
            self.0.set(self.0.get() + 1);
            match job {
                Job::Until { .. } => Ok(State::default().into()),
                _ => Err(MergeError::Panicked("only the whole".into())),
            }
        }
    }
    let world = World::new();
    let doc = LoroDoc::new();
    for _ in 0..5 {
        world.append(letter(&doc, "x"));
    }
    // No update is searched for if the log before all of them fails, too, or if all of it passes in the trial.
    let faults: [(fn() -> MergeError, u32); 4] = [
        (|| MergeError::Panicked("always".into()), 2),
        (|| MergeError::Died("no memory".into()), 1),
        (|| MergeError::Busy, 1),
        (
            || MergeError::Failed(rooms::RoomError::Merge("status 503".into())),
            1,
        ),
    ];
    for (fault, runs) in faults {
        let merger = Always(fault, Cell::default());
        assert!(world.run(&merger, &Job::Snapshot).is_err());
        assert_eq!(merger.1.get(), runs);
    }
    for (world, runs) in [(&world, 3), (&World::new(), 1)] {
        let merger = NotInTrials::default();
        assert!(world.run(&merger, &Job::Snapshot).is_err());
        assert_eq!(merger.0.get(), runs);
        assert!(world.quarantined().is_empty());
    }
}

#[test]
fn no_more_than_eight_updates_are_moved_aside_in_a_run() {
    for (of, is_merged) in [(8, true), (9, false)] {
        let world = World::new();
        for n in 0..10 {
            let doc = LoroDoc::new();
            doc.set_peer_id(n + 1).unwrap();
            world.append(letter(&doc, "x"));
        }
        let merger = Dies {
            of: (1..=of).collect(),
            ..Dies::of(&world, [])
        };
        let merged = world.run(&merger, &Job::Snapshot);
        assert_eq!(merged.is_ok(), is_merged, "{of}");
        assert_eq!(world.quarantined(), [1, 2, 3, 4, 5, 6, 7, 8], "{of}");
    }
}

#[test]
fn a_host_without_a_place_of_its_own_merges_here() {
    struct NoPlace;
    #[async_trait::async_trait(?Send)]
    impl Merger for NoPlace {
        async fn run(&self, _: &str, _: &Job) -> Result<EncodedState, MergeError> {
            Err(MergeError::NoPlace("forbidden".into()))
        }
    }
    let world = World::new();
    world.append(letter(&LoroDoc::new(), "x"));
    let state = world.run(&NoPlace, &Job::Snapshot).unwrap();
    assert_eq!((text(&state).as_str(), state.rev), ("x", 1));
}

/// Makes updates of two documents that share a peer id but not a history: the second one decodes, but refers to text
/// that the first document never had. Loro refuses it with an error, and does not panic.
fn that_do_not_fit() -> (Vec<u8>, Vec<u8>) {
    let ours = LoroDoc::new();
    ours.set_peer_id(1).unwrap();
    for n in 0..5 {
        ours.get_map("map").insert(&n.to_string(), n).unwrap();
    }
    ours.commit();
    let theirs = LoroDoc::new();
    theirs.set_peer_id(1).unwrap();
    theirs.get_text("text").insert(0, "hello").unwrap();
    theirs.commit();
    let before = theirs.oplog_vv();
    theirs.set_peer_id(2).unwrap();
    theirs.get_text("text").insert(5, " world").unwrap();
    theirs.commit();
    let theirs = theirs.export(ExportMode::updates(&before)).unwrap();
    (ours.export(ExportMode::all_updates()).unwrap(), theirs)
}

#[test]
fn an_update_that_loro_refuses_is_moved_aside() {
    let world = World::new();
    let here = Dies::of(&world, []);
    let (ours, theirs) = that_do_not_fit();
    world.append(ours);
    let bad = world.append(theirs);

    let other = LoroDoc::new();
    other.set_peer_id(3).unwrap();
    world.append(letter(&other, "!"));

    world.run(&here, &Job::Compact).unwrap();
    assert_eq!(world.quarantined(), [bad]);
    let state = world.run(&here, &Job::Snapshot).unwrap();
    assert_eq!((text(&state).as_str(), state.rev), ("!", 3));
}

/// The update that Loro refuses came first, and waited. The update for which it waited is not to blame.
#[test]
fn an_update_that_loro_refuses_once_it_waits_no_more_is_moved_aside() {
    let world = World::new();
    let here = Dies::of(&world, []);
    let (ours, theirs) = that_do_not_fit();
    let bad = world.append(theirs);
    world.run(&here, &Job::Compact).unwrap();
    assert!(world.quarantined().is_empty(), "it waits");
    world.append(ours);
    world.run(&here, &Job::Compact).unwrap();
    assert_eq!(world.quarantined(), [bad]);
    let state = world.run(&here, &Job::Snapshot).unwrap();
    let doc = LoroDoc::new();
    doc.import(&state.blobs[0]).unwrap();
    assert_eq!(doc.get_map("map").len(), 5);
}

/// An update traps once the update for which it waited has come. The later one is not to blame.
#[test]
fn an_update_that_traps_once_it_waits_no_more_is_moved_aside() {
    struct TrapsBoth<'a>(&'a World, u64);
    #[async_trait::async_trait(?Send)]
    impl Merger for TrapsBoth<'_> {
        async fn run(&self, project: &str, job: &Job) -> Result<EncodedState, MergeError> {
            let Self(world, bad) = self;
            let is_in = match job {
                Job::Until { rev } => rev == bad,
                _ => world.quarantined().is_empty(),
            };
            if is_in {
                return Err(MergeError::Panicked("trap".into()));
            }
            let (database, clock) = (&world.database, &world.clock);
            let work = supervise::work(database, clock, project, job, Memory::default());
            let state = work.await.map(EncodedState::from);
            state.map_err(MergeError::Failed)
        }
    }
    let world = World::new();
    let (one, two) = (LoroDoc::new(), LoroDoc::new());
    let first = letter(&one, "innocent");
    two.import(&first).unwrap();
    let bad = world.append(letter(&two, "bad"));
    world.append(letter(&LoroDoc::new(), "other "));
    world.append(first);
    let merger = TrapsBoth(&world, bad);
    let state = world.run(&merger, &Job::Snapshot).unwrap();
    assert_eq!(world.quarantined(), [bad]);
    assert!(text(&state).contains("innocent") && text(&state).contains("other"));
}

/// The clients that have the update send it again whenever they join, with what they wrote later.
#[test]
fn what_is_in_quarantine_is_refused_until_its_owner_decides() {
    let world = World::new();
    let here = Dies::of(&world, []);
    let send = |payload: &[u8]| {
        let updates = vec![Update {
            project: ROOM.into(),
            payload: payload.to_vec().into(),
            serial: None,
        }];
        let (database, clock) = (&world.database, &world.clock);
        let outcomes = rooms::append_surely(database, clock, &here, "test", updates);
        block_on(outcomes).unwrap().remove(0)
    };
    let is_refused = |outcome| matches!(outcome, Outcome::Refused { code: Some(code), .. } if code == wire::QUARANTINED);
    let (ours, theirs) = that_do_not_fit();
    world.append(ours);
    let bad = world.append(theirs.clone());
    world.run(&here, &Job::Compact).unwrap();
    assert_eq!(world.quarantined(), [bad]);
    assert!(is_refused(send(&theirs)));

    let other = LoroDoc::new();
    assert!(matches!(send(&letter(&other, "x")), Outcome::Stored { .. }));
    world.run(&here, &Job::Compact).unwrap();
    assert_eq!(world.quarantined(), [bad]);

    let discarded = rooms::discard(&world.database, ROOM, bad);
    assert!(block_on(discarded).unwrap());
    assert!(matches!(send(&theirs), Outcome::Stored { .. }));
}
