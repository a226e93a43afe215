//! Tests reading the whole document as one blob, in every state that a room can have, also if no instance can do the
//! work.

#![allow(clippy::unwrap_used)]

mod writing;

use std::cell::{Cell, RefCell};

use loro::{ExportMode, LoroDoc, LoroMap, VersionVector};
use platform::{
    Database,
    native::{SetClock, SqliteFile, block_on},
};
use rooms::{
    Memory, limits,
    supervise::{self, MergeError, Merger, Wait},
};
use wire::{EncodedState, Job, State, Update};

const ROOM: &str = "room";

/// The things that happen to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runs {
    Well,
    /// The host has no free instance for it.
    Busy,
    /// The instance dies.
    Dies,
    /// The instance reports that its code panicked.
    Panics,
}

struct World {
    database: SqliteFile,
    clock: SetClock,
    runs: Cell<Runs>,
    memory: Memory,
    /// The writer of the cheap updates.
    writer: LoroDoc,
    /// The document as it should be, without its state.
    whole: LoroDoc,
    appended: Cell<u64>,
    peers: Cell<u64>,
    words: RefCell<u32>,
}

#[async_trait::async_trait(?Send)]
impl Merger for World {
    async fn run(&self, project: &str, job: &Job) -> Result<EncodedState, MergeError> {
        match self.runs.get() {
            Runs::Busy => return Err(MergeError::Busy),
            Runs::Dies => return Err(MergeError::Died("no memory".into())),
            Runs::Panics => return Err(MergeError::Panicked("it was odd".into())),
            Runs::Well => {}
        }
        supervise::work(&self.database, &self.clock, project, job, self.memory)
            .await
            .map(EncodedState::from)
            .map_err(MergeError::Failed)
    }

    fn memory(&self) -> Memory {
        self.memory
    }
}

impl World {
    fn new(mib: u32) -> Self {
        let clock = SetClock::default();
        clock.0.set(1000);
        let whole = LoroDoc::new();
        whole.detach();
        Self {
            database: SqliteFile::with_schema(),
            clock,
            runs: Cell::new(Runs::Well),
            memory: Memory::of_mib(mib),
            writer: LoroDoc::new(),
            whole,
            appended: Cell::default(),
            peers: Cell::new(100),
            words: RefCell::default(),
        }
    }

    fn append(&self, payloads: &[Vec<u8>]) {
        for batch in payloads.chunks(64) {
            let updates = batch.iter().map(|payload| Update {
                project: ROOM.into(),
                payload: payload.clone().into(),
                serial: None,
            });
            let (database, clock) = (&self.database, &self.clock);
            let updates = updates.collect();
            let stored = rooms::append_surely(database, clock, self, "test", updates);
            for outcome in block_on(stored).unwrap() {
                let stored = matches!(outcome, wire::Outcome::Stored { .. });
                assert!(stored, "{outcome:?}");
            }
            self.appended.set(self.appended.get() + batch.len() as u64);
        }
        for payload in payloads {
            self.whole.import(payload).unwrap();
        }
    }

    /// Appends an update that is cheap.
    fn edit(&self) {
        let before = self.writer.oplog_vv();
        let mut words = self.words.borrow_mut();
        *words += 1;
        let map = self.writer.get_map("words");
        map.insert(&words.to_string(), true).unwrap();
        self.writer.commit();
        let update = self.writer.export(ExportMode::updates(&before)).unwrap();
        self.append(&[update]);
    }

    /// Appends updates of two writers who never meet, whose state is not cheap.
    fn edit_costly(&self) {
        let last = self.peers.get() + 2;
        self.peers.set(last);
        self.append(&writing::who_never_meet([last - 1, last]));
    }

    /// Appends as many updates as may wait for one that never comes.
    fn edit_far_ahead(&self) {
        let doc = LoroDoc::new();
        let mut updates = Vec::new();
        for n in 0..=limits::WAITING_UPDATES as i32 {
            let before = doc.oplog_vv();
            doc.get_map("waiting").insert("n", n).unwrap();
            doc.commit();
            updates.push(doc.export(ExportMode::updates(&before)).unwrap());
        }
        self.append(&updates[1..]);
    }

    fn compact(&self) {
        let (database, clock) = (&self.database, &self.clock);
        let compacted = supervise::compact(database, clock, self, ROOM, Wait::Briefly);
        block_on(compacted).unwrap();
    }

    fn work(&self, job: &Job) {
        let (database, clock) = (&self.database, &self.clock);
        block_on(supervise::work(database, clock, ROOM, job, self.memory)).unwrap();
    }

    /// Returns what a `GET` answers, and its rev.
    fn read(&self) -> (Vec<u8>, u64) {
        let (database, clock) = (&self.database, &self.clock);
        let state = block_on(rooms::snapshot(database, clock, self, ROOM));
        let state: State = wire::decode(&state.unwrap().into_body()).unwrap();
        (state.blobs[0].to_vec(), state.rev)
    }

    fn count(&self, sql: &str) -> u64 {
        let rows = block_on(self.database.execute(sql, vec![])).unwrap();
        rows[0].unsigned(0).unwrap()
    }

    /// The rows of snapshots with and without a state, of blobs, and of the log.
    fn rows(&self) -> [u64; 4] {
        [
            "SELECT count(*) FROM loro_snapshots WHERE has_state = 1",
            "SELECT count(*) FROM loro_snapshots WHERE has_state = 0",
            "SELECT count(*) FROM loro_blobs",
            "SELECT count(*) FROM loro_updates WHERE length(payload) > 0",
        ]
        .map(|sql| self.count(sql))
    }

    /// Reads the room, once for each thing that may happen to its jobs. Each answer must be one blob with everything.
    fn check(&self, state: &str, rows: [u64; 4]) {
        assert_eq!(self.rows(), rows, "{state}");
        for runs in [Runs::Well, Runs::Busy, Runs::Dies, Runs::Panics] {
            self.runs.set(runs);
            let (blob, rev) = self.read();
            assert_eq!(rev, self.appended.get(), "{state}, {runs:?}");
            assert_eq!(version(&blob), self.whole.oplog_vv(), "{state}, {runs:?}");
        }
        self.runs.set(Runs::Well);
        // Nothing was moved aside on the way.
        assert_eq!(self.count("SELECT count(*) FROM loro_quarantine"), 0);
    }
}

/// The version of a reader that imports this blob and nothing else. It computes no state, because that takes long.
fn version(blob: &[u8]) -> VersionVector {
    let reader = LoroDoc::new();
    reader.detach();
    reader.import(blob).unwrap();
    reader.oplog_vv()
}

#[test]
fn the_whole_document_is_read_as_one_blob_in_every_state() {
    let world = World::new(256);
    world.check("nothing", [0, 0, 0, 0]);
    world.edit();
    world.edit();
    world.check("a log", [0, 0, 0, 2]);
    world.compact();
    world.check("a snapshot", [1, 0, 0, 0]);
    world.edit();
    world.check("a snapshot and a log", [1, 0, 0, 1]);
    world.edit_costly();
    world.check("a snapshot and a costly log", [1, 0, 0, 9]);
    world.compact();
    world.check("a snapshot and a blob", [1, 0, 1, 9]);
    world.edit();
    world.check("a snapshot, a blob and a log", [1, 0, 1, 10]);
    let take = "INSERT INTO loro_leases VALUES ('room', 'merge', 'another', 1, 2000, 1, 2000)";
    block_on(world.database.execute(take, vec![])).unwrap();
    world.check("a merge under way", [1, 0, 1, 10]);
    world.work(&Job::Fold);
    world.check("a folded room, as after many failed merges", [0, 1, 0, 0]);
    world.edit();
    world.check("a folded room and a log", [0, 1, 0, 1]);
    world.work(&Job::Pack);
    world.check("a folded room and a blob", [0, 1, 1, 1]);
    world.edit();
    world.check("a folded room, a blob and a log", [0, 1, 1, 2]);
    world.work(&Job::Merge);
    world.check("a merged room", [1, 0, 0, 0]);
}

#[test]
fn a_blob_alone_is_read_and_what_came_since() {
    let world = World::new(256);
    world.edit_costly();
    world.check("a costly log", [0, 0, 0, 8]);
    world.compact();
    world.check("a blob", [0, 0, 1, 8]);
    world.edit();
    world.check("a blob and a log", [0, 0, 1, 9]);
}

#[test]
fn updates_that_wait_stop_no_reader() {
    let most = limits::WAITING_UPDATES as u64;
    let world = World::new(256);
    world.edit_far_ahead();
    world.check("nothing but what waits", [0, 0, 0, most]);
    world.compact();
    world.check("nothing but what waits, compacted", [1, 0, 0, most]);
    world.edit();
    world.check("an update beside what waits", [1, 0, 0, most + 1]);
    world.edit_costly();
    world.compact();
    world.check("a blob beside what waits", [1, 0, 1, most + 9]);
    world.edit();
    world.check("a blob and a log beside what waits", [1, 0, 1, most + 10]);
    world.work(&Job::Fold);
    world.check("a folded room beside what waits", [0, 1, 0, most]);
}

/// A document that came as one snapshot, which Loro may not read as a whole in such an instance, is read all the same.
#[test]
fn a_large_document_that_came_as_a_snapshot_is_read() {
    let world = World::new(8);
    let doc = LoroDoc::new();
    let nodes = doc.get_map("nodes");
    for n in 0..4000 {
        let node = nodes.insert_container(&n.to_string(), LoroMap::new());
        node.unwrap().insert("x", n).unwrap();
    }
    doc.commit();
    let whole = doc.export(ExportMode::Snapshot).unwrap();
    let reads = |bytes: usize| bytes * 50 < (2 << 20);
    assert!(!reads(whole.len()), "{}", whole.len());
    world.append(&[whole]);
    world.check("a snapshot in the log", [0, 0, 0, 1]);
    world.edit_costly();
    world.check("a snapshot and others in the log", [0, 0, 0, 9]);
    world.work(&Job::Pack);
    world.check("a blob", [0, 0, 1, 9]);
    world.edit();
    world.check("a blob and a log", [0, 0, 1, 10]);
    world.work(&Job::Fold);
    world.check("a folded room", [0, 1, 0, 0]);
}

/// An instance has so little memory that an update which came as a snapshot cannot be made part of the folded room. The
/// updates that build on it are, and the room's version has all of them.
#[test]
fn a_join_gets_what_a_folded_room_kept_in_its_log() {
    let world = World::new(6);
    world.edit();
    let doc = LoroDoc::new();
    let map = doc.get_map("map");
    map.insert("first", true).unwrap();
    doc.commit();
    let kept = doc.export(ExportMode::Snapshot).unwrap();
    let before = doc.oplog_vv();
    map.insert("second", true).unwrap();
    doc.commit();
    let after = doc.export(ExportMode::updates(&before)).unwrap();
    world.append(&[kept, after]);
    world.work(&Job::Fold);
    assert_eq!(world.rows(), [0, 1, 0, 1]);
    for _ in 0..=limits::STATE_UPDATES {
        world.edit();
    }
    let take = "INSERT INTO loro_leases VALUES ('room', 'compact', 'another', 1, 2000, 1, 2000)";
    block_on(world.database.execute(take, vec![])).unwrap();
    let state = rooms::state(&world.database, &world.clock, &world, ROOM, None);
    let state: State = wire::decode(&block_on(state).unwrap().into_body()).unwrap();
    assert!(state.blobs.len() < limits::STATE_UPDATES);
    let reader = LoroDoc::new();
    for blob in &state.blobs {
        reader.import(blob).unwrap();
    }
    assert_eq!(reader.oplog_vv(), world.whole.oplog_vv());
}

#[test]
fn what_is_read_has_its_state() {
    let world = World::new(256);
    world.edit();
    world.compact();
    world.edit();
    world.runs.set(Runs::Busy);
    let reader = LoroDoc::new();
    reader.import(&world.read().0).unwrap();
    let words = reader.get_map("words").len();
    assert_eq!(words, 2);
    assert_eq!(reader.get_deep_value(), world.writer.get_deep_value());
}
