//! Tests compaction in two steps: a log whose state is not cheap is compacted without it, and merged later.

#![allow(clippy::unwrap_used)]

mod writing;

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use loro::{ExportMode, LoroDoc, LoroMap, LoroValue, ToJson, VersionVector};
use platform::{
    Clock, Database,
    native::{SetClock, SqliteFile, block_on},
};
use rooms::{
    Memory, RoomError, limits,
    supervise::{self, MergeError, Merger, Wait},
};
use wire::{EncodedState, Job, Outcome, State, Update};

const ROOM: &str = "room";

struct World {
    database: SqliteFile,
    clock: SetClock,
    /// The jobs that were run.
    jobs: RefCell<Vec<Job>>,
    /// The failures of the next runs, before they do anything.
    faults: RefCell<Vec<MergeError>>,
}

#[async_trait::async_trait(?Send)]
impl Merger for World {
    async fn run(&self, project: &str, job: &Job) -> Result<EncodedState, MergeError> {
        self.jobs.borrow_mut().push(job.clone());
        if let Some(fault) = self.faults.borrow_mut().pop() {
            return Err(fault);
        }
        supervise::work(&self.database, &self.clock, project, job, Memory::default())
            .await
            .map(EncodedState::from)
            .map_err(MergeError::Failed)
    }
}

impl World {
    fn new() -> Self {
        let clock = SetClock::default();
        clock.0.set(1000);
        Self {
            database: SqliteFile::with_schema(),
            clock,
            jobs: RefCell::default(),
            faults: RefCell::default(),
        }
    }

    fn append(&self, payloads: impl IntoIterator<Item = Vec<u8>>) {
        for payload in payloads {
            let updates = vec![Update {
                project: ROOM.into(),
                payload: payload.into(),
                serial: None,
            }];
            // An update for which others waited has ids below theirs, so it is compared with the document.
            let (database, clock) = (&self.database, &self.clock);
            let outcomes = block_on(rooms::append_surely(database, clock, self, "test", updates));
            let outcome = &outcomes.unwrap()[0];
            assert!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
        }
    }

    fn compact(&self) -> Result<(), RoomError> {
        let wait = Wait::Briefly;
        block_on(supervise::compact(
            &self.database,
            &self.clock,
            self,
            ROOM,
            wait,
        ))
    }

    fn merge(&self) -> Result<(), RoomError> {
        block_on(supervise::merge(&self.database, &self.clock, self, ROOM))
    }

    fn to_merge(&self) -> usize {
        let rooms = block_on(rooms::to_merge(&self.database, &self.clock, 10));
        rooms.unwrap().len()
    }

    fn state(&self, version: Option<&VersionVector>) -> State {
        let version = version.map(VersionVector::encode);
        let version = version.as_deref();
        let state = rooms::state(&self.database, &self.clock, self, ROOM, version);
        wire::decode(&block_on(state).unwrap().into_body()).unwrap()
    }

    fn whole(&self) -> State {
        let state = rooms::snapshot(&self.database, &self.clock, self, ROOM);
        wire::decode(&block_on(state).unwrap().into_body()).unwrap()
    }

    fn json(&self) -> Result<String, RoomError> {
        let state = block_on(rooms::json(&self.database, &self.clock, self, ROOM))?;
        let state: State = wire::decode(&state.into_body()).unwrap();
        Ok(String::from_utf8(state.blobs[0].to_vec()).unwrap())
    }

    /// Does a job in an instance of this many MiB of memory.
    fn work(&self, job: &Job, mib: u32) -> State {
        self.try_to_work(job, mib).unwrap()
    }

    fn try_to_work(&self, job: &Job, mib: u32) -> Result<State, RoomError> {
        let (database, clock, memory) = (&self.database, &self.clock, Memory::of_mib(mib));
        block_on(supervise::work(database, clock, ROOM, job, memory))
    }

    fn count(&self, sql: &str) -> u64 {
        let rows = block_on(self.database.execute(sql, vec![])).unwrap();
        rows[0].unsigned(0).unwrap()
    }

    fn log(&self) -> u64 {
        self.count("SELECT count(*) FROM loro_updates WHERE length(payload) > 0")
    }

    fn blobs(&self) -> u64 {
        self.count("SELECT count(*) FROM loro_blobs")
    }
}

fn import(state: &State) -> LoroDoc {
    let doc = LoroDoc::new();
    for blob in &state.blobs {
        doc.import(blob).unwrap();
    }
    doc
}

/// Makes updates whose state is not cheap.
fn costly() -> Vec<Vec<u8>> {
    writing::who_never_meet([1, 2])
}

fn word(word: &str) -> Vec<u8> {
    let doc = LoroDoc::new();
    doc.get_map("words").insert(word, true).unwrap();
    doc.commit();
    doc.export(ExportMode::all_updates()).unwrap()
}

/// Imports these updates as a history, without their state, which takes long.
fn history<'a>(updates: impl IntoIterator<Item = &'a [u8]>) -> LoroDoc {
    let doc = LoroDoc::new();
    doc.detach();
    for update in updates {
        doc.import(update).unwrap();
    }
    doc
}

/// The version of all that a state has.
fn version_of(state: &State) -> VersionVector {
    history(state.blobs.iter().map(|blob| &***blob)).oplog_vv()
}

/// The version of all of these updates.
fn version_of_all(updates: &[Vec<u8>]) -> VersionVector {
    history(updates.iter().map(Vec::as_slice)).oplog_vv()
}

/// The value of all of these updates, which takes long.
fn value(updates: &[Vec<u8>]) -> LoroValue {
    let doc = history(updates.iter().map(Vec::as_slice));
    let whole = LoroDoc::new();
    whole
        .import(&doc.export(ExportMode::all_updates()).unwrap())
        .unwrap();
    whole.get_deep_value()
}

/// Makes an update of a peer that has not seen anything.
fn update(peer: u64, edit: impl FnOnce(&LoroDoc)) -> Vec<u8> {
    after(&LoroDoc::new(), peer, edit)
}

/// Makes an update of a peer that has seen this document.
fn after(seen: &LoroDoc, peer: u64, edit: impl FnOnce(&LoroDoc)) -> Vec<u8> {
    let doc = seen.fork();
    doc.set_peer_id(peer).unwrap();
    let before = doc.oplog_vv();
    edit(&doc);
    doc.commit();
    doc.export(ExportMode::updates(&before)).unwrap()
}

fn paste(doc: &LoroDoc, characters: usize) {
    let text = doc.get_text("text");
    text.insert(0, &"x".repeat(characters)).unwrap();
}

/// The time that Loro takes grows with the square of a paste's length, whatever is beside it.
#[test]
fn a_long_paste_beside_a_single_letter_is_merged_later() {
    let world = World::new();
    world.append([update(1, |doc| paste(doc, 160_000))]);
    world.append([update(2, |doc| paste(doc, 1))]);
    world.compact().unwrap();
    assert_eq!((world.log(), world.blobs()), (2, 1));
    assert!(matches!(world.json(), Err(RoomError::StateUnavailable)));
    world.merge().unwrap();
    assert_eq!((world.log(), world.blobs()), (0, 0));
    assert!(world.json().unwrap().len() > 160_000);
}

/// The state is cheap, but may take a second, and a compaction must take less.
#[test]
fn a_large_document_is_compacted_without_its_state_and_merged_later() {
    let world = World::new();
    for peer in 1..=20 {
        let text = format!("{peer:05}").repeat(13_000);
        world.append([update(peer, |doc| {
            doc.get_map("map").insert(&peer.to_string(), text).unwrap();
        })]);
    }
    world.compact().unwrap();
    assert_eq!((world.log(), world.blobs()), (20, 1));
    assert_eq!(*world.jobs.borrow(), [Job::Compact]);
    // The document can be read meanwhile.
    let json = world.json().unwrap();
    assert!(json.len() > 20 * 65_000);
    world.merge().unwrap();
    assert_eq!((world.log(), world.blobs()), (0, 0));
    assert_eq!(world.json().unwrap(), json);
}

#[test]
fn a_log_of_a_mebibyte_is_merged_at_once_and_a_longer_one_later() {
    for (bytes, rows) in [(1 << 20, (0, 0)), ((1 << 20) + 1, (1, 1))] {
        let world = World::new();
        let update = |length| {
            let value = "x".repeat(length);
            update(1, |doc| doc.get_map("map").insert("x", value).unwrap())
        };
        let beside = update(bytes).len() - bytes;
        let payload = update(bytes - beside);
        assert_eq!(payload.len(), bytes);
        world.append([payload]);
        world.compact().unwrap();
        assert_eq!((world.log(), world.blobs()), rows, "{bytes}");
    }
}

/// The log is short and young, so nothing else makes the document due.
#[test]
fn a_document_that_is_asked_for_as_json_is_merged_by_the_next_sweep() {
    let world = World::new();
    world.append([update(1, |doc| paste(doc, 160_000))]);
    world.append([update(2, |doc| paste(doc, 1))]);
    assert_eq!(world.to_merge(), 0);
    assert!(matches!(world.json(), Err(RoomError::StateUnavailable)));
    assert_eq!((world.log(), world.blobs(), world.to_merge()), (2, 1, 1));
    world.jobs.borrow_mut().clear();
    assert!(matches!(world.json(), Err(RoomError::StateUnavailable)));
    assert_eq!(*world.jobs.borrow(), [Job::Json]);

    // Once a merge has failed, the state cannot be cheap.
    let words = || "too slow".to_owned();
    world.faults.borrow_mut().push(MergeError::Died(words()));
    assert!(world.merge().is_err());
    world.jobs.borrow_mut().clear();
    assert!(matches!(world.json(), Err(RoomError::StateUnavailable)));
    assert_eq!(*world.jobs.borrow(), []);
    world.clock.0.set(world.clock.0.get() + 10);
    world.merge().unwrap();
    assert!(world.json().unwrap().len() > 160_000);
}

#[test]
fn a_long_paste_after_what_others_wrote_is_merged_at_once() {
    let world = World::new();
    let first = update(1, |doc| paste(doc, 1000));
    let seen = LoroDoc::new();
    seen.import(&first).unwrap();
    world.append([first]);
    world.compact().unwrap();
    world.append([after(&seen, 2, |doc| paste(doc, 1_000_000))]);
    world.compact().unwrap();
    assert_eq!((world.log(), world.blobs()), (0, 0));
    assert!(world.json().unwrap().len() > 1_001_000);
}

#[test]
fn a_long_paste_after_what_others_wrote_at_the_same_time_is_merged_at_once() {
    let world = World::new();
    let seen = LoroDoc::new();
    for peer in [1, 2] {
        let update = update(peer, |doc| paste(doc, 1000));
        seen.import(&update).unwrap();
        world.append([update]);
    }
    world.compact().unwrap();
    assert_eq!((world.log(), world.blobs()), (0, 0));
    world.append([after(&seen, 3, |doc| paste(doc, 1_000_000))]);
    world.compact().unwrap();
    assert_eq!((world.log(), world.blobs()), (0, 0));
    assert!(world.json().unwrap().len() > 1_002_000);
}

/// The values of maps cost no square.
#[test]
fn a_busy_board_is_merged_at_once() {
    let world = World::new();
    world.append([update(1, |doc| {
        let nodes = doc.get_map("nodes");
        for n in 0..160_000 {
            nodes.insert(&(n % 10).to_string(), n % 50).unwrap();
        }
    })]);
    world.append([update(2, |doc| paste(doc, 1))]);
    world.compact().unwrap();
    assert_eq!((world.log(), world.blobs()), (0, 0));
}

#[test]
fn a_costly_room_is_compacted_and_joined_at_once_and_merged_later() {
    let world = World::new();
    let mut updates = vec![word("first")];
    world.append(updates.clone());
    world.compact().unwrap();
    assert_eq!((world.log(), world.blobs()), (0, 0));

    world.append(costly());
    updates.extend(costly());
    world.compact().unwrap();
    // One blob stands for eight updates, which stay until a snapshot holds them.
    assert_eq!((world.log(), world.blobs()), (8, 1));
    let state = world.state(None);
    assert_eq!(state.revs, Some(vec![1, 9]));
    let expected = version_of_all(&updates);
    assert_eq!(version_of(&state), expected);
    assert_eq!(VersionVector::decode(&state.version).unwrap(), expected);

    // A later update follows the blob, and the next compaction adds it.
    updates.push(word("then"));
    world.append([updates.last().unwrap().clone()]);
    let expected = version_of_all(&updates);
    for version in [None, Some(VersionVector::default())] {
        let joined = version_of(&world.state(version.as_ref()));
        assert_eq!(joined, expected);
    }
    let lacking = world.state(Some(&version_of(&state)));
    assert!(lacking.blobs.iter().map(|blob| blob.len()).sum::<usize>() < 1000);
    assert_eq!(world.whole().blobs.len(), 1);
    assert_eq!(version_of(&world.whole()), expected);
    assert!(matches!(world.json(), Err(RoomError::StateUnavailable)));
    world.compact().unwrap();
    assert_eq!(world.state(None).revs, Some(vec![1, 10]));

    // The merge replaces all of it by a snapshot.
    assert_eq!(world.to_merge(), 1);
    world.merge().unwrap();
    assert_eq!((world.to_merge(), world.log(), world.blobs()), (0, 0, 0));
    let state = world.state(None);
    assert_eq!(state.revs, Some(vec![10]));
    // A document that has nothing gets the snapshot, too, and need not compute the state.
    let newcomer = world.state(Some(&VersionVector::default()));
    assert_eq!(newcomer.blobs, state.blobs);
    let joined = import(&state);
    let expected = value(&updates);
    assert_eq!(joined.get_deep_value(), expected);
    assert_eq!(world.json().unwrap(), expected.to_json());
}

#[test]
fn a_relay_catches_up_beside_a_blob() {
    let world = World::new();
    world.append(costly());
    world.compact().unwrap();
    world.append([word("then")]);
    let after = |rev| block_on(rooms::updates_after(&world.database, ROOM, rev)).unwrap();
    assert_eq!(after(6).revs, Some(vec![7, 8, 9]));
    assert_eq!((after(9).rev, after(9).blobs.len()), (9, 0));
    assert_eq!(version_of(&after(0)), version_of(&world.state(None)));
}

/// The app answers a document that is stored as one blob without reading it, because reading takes many times its
/// memory.
#[test]
fn a_whole_document_that_is_stored_as_one_is_not_read() {
    let world = World::new();
    let whole = |jobs| {
        world.jobs.borrow_mut().clear();
        let state = world.whole();
        assert_eq!(world.jobs.borrow().len(), jobs);
        version_of(&state)
    };
    let mut updates = costly();
    world.append(updates.clone());
    world.compact().unwrap();
    assert_eq!((world.log(), world.blobs()), (8, 1));
    assert_eq!(whole(0), version_of_all(&updates));
    // A later update is not in the stored blob.
    updates.push(word("then"));
    world.append([updates.last().unwrap().clone()]);
    assert_eq!(whole(1), version_of_all(&updates));
    world.compact().unwrap();
    assert_eq!(whole(0), version_of_all(&updates));
    world.merge().unwrap();
    assert_eq!(whole(0), version_of_all(&updates));
}

/// The app packs a large log without reading its operations, because reading takes many times the memory of the log.
#[test]
fn a_log_that_is_large_for_the_memory_is_packed_all_the_same() {
    let world = World::new();
    // In 7 MiB, Loro may read some KiB.
    let pack = || world.work(&Job::Pack, 7);
    let check = |updates: &[Vec<u8>], revs: &[u64]| {
        let state = world.state(None);
        assert_eq!(state.revs.as_deref(), Some(revs));
        assert_eq!(version_of(&state), version_of_all(updates));
    };
    let mut updates = costly();
    // One update comes before the update on which it builds, and one builds on an update that never comes.
    updates.swap(0, 1);
    let doc = LoroDoc::new();
    doc.get_map("words").insert("lost", 1).unwrap();
    doc.commit();
    let waiting = after(&doc, 77, |doc| {
        doc.get_map("words").insert("late", 2).unwrap()
    });
    world.append(updates.clone());
    world.append([waiting]);
    pack();
    assert_eq!((world.log(), world.blobs()), (9, 1));
    check(&updates, &[9, 9]);
    updates.push(word("then"));
    world.append([updates.last().unwrap().clone()]);
    pack();
    check(&updates, &[10, 9]);
    // An update that came as a snapshot is not joined.
    let doc = LoroDoc::new();
    doc.get_map("words").insert("whole", 1).unwrap();
    doc.commit();
    updates.push(doc.export(ExportMode::Snapshot).unwrap());
    world.append([updates.last().unwrap().clone()]);
    pack();
    check(&updates, &[11, 9]);
    // A snapshot beneath stays as it is.
    world.merge().unwrap();
    updates.push(word("more"));
    world.append([updates.last().unwrap().clone()]);
    pack();
    check(&updates, &[11, 12, 9]);
    world.merge().unwrap();
    assert_eq!((world.log(), world.blobs()), (1, 0));
    assert_eq!(import(&world.state(None)).get_deep_value(), value(&updates));
}

/// The room is too large for Loro to read as a whole. It is packed, read, folded and packed again, and none of it is
/// lost.
#[test]
fn a_room_that_loro_cannot_read_is_compacted_and_folded_all_the_same() {
    for has_snapshot in [false, true] {
        let world = World::new();
        let first = LoroDoc::new();
        first.get_map("words").insert("first", 1).unwrap();
        first.commit();
        let mut updates = vec![first.export(ExportMode::all_updates()).unwrap()];
        world.append(updates.clone());
        if has_snapshot {
            world.compact().unwrap();
            assert_eq!((world.log(), world.blobs()), (0, 0));
        }
        // The log has a whole document, which has another encoding, and an update that builds on it.
        let whole = LoroDoc::new();
        whole.get_map("words").insert("whole", 2).unwrap();
        whole.commit();
        updates.push(whole.export(ExportMode::Snapshot).unwrap());
        updates.push(after(&whole, 8, |doc| {
            doc.get_map("words").insert("then", 3).unwrap()
        }));
        updates.extend(costly());
        world.append(updates[1..].to_vec());
        let expected = version_of_all(&updates);
        let check = |log, blobs| {
            assert_eq!((world.log(), world.blobs()), (log, blobs));
            for state in [world.state(None), world.work(&Job::Updates, 6)] {
                assert_eq!(version_of(&state), expected);
            }
        };
        let log = world.log();
        world.work(&Job::Compact, 6);
        check(log, 1);
        world.work(&Job::Fold, 6);
        // The document that came as a snapshot has stayed, because none of it may be read.
        check(1, 0);
        updates.push(word("later"));
        world.append([updates.last().unwrap().clone()]);
        world.work(&Job::Compact, 6);
        world.work(&Job::Fold, 6);
        let expected = version_of_all(&updates);
        assert_eq!((world.log(), world.blobs()), (1, 0));
        assert_eq!(version_of(&world.state(None)), expected);
        // With more memory there is a state again.
        world.merge().unwrap();
        assert_eq!((world.log(), world.blobs()), (0, 0));
        assert_eq!(import(&world.state(None)).get_deep_value(), value(&updates));
    }
}

#[test]
fn what_waits_for_others_stays_beside_a_blob() {
    let world = World::new();
    let doc = LoroDoc::new();
    let parts: Vec<Vec<u8>> = (0..3)
        .map(|n| {
            let before = doc.oplog_vv();
            doc.get_map("late").insert(&n.to_string(), n).unwrap();
            doc.commit();
            doc.export(ExportMode::updates(&before)).unwrap()
        })
        .collect();
    world.append([parts[1].clone()]);
    world.append(costly());
    world.compact().unwrap();
    world.append([parts[2].clone()]);
    world.compact().unwrap();
    assert_eq!(world.blobs(), 1);
    let state = world.state(None);
    assert_eq!(state.revs, Some(vec![10, 10]));
    // Many updates that wait neither make a room due nor break a statement.
    let waiting = (0..200).map(|_| parts[2].clone());
    world.append(waiting);
    world.compact().unwrap();
    assert!(!block_on(rooms::is_due(&world.database, ROOM)).unwrap());
    let jobs = world.jobs.borrow().len();
    world.state(None);
    assert_eq!(world.jobs.borrow().len(), jobs, "a join compacts nothing");
    world.merge().unwrap();
    assert_eq!(world.log(), 202);
    // At last the missing update comes.
    world.append([parts[0].clone()]);
    let joined = import(&world.state(None));
    assert_eq!(joined.get_map("late").len(), 3);
    world.compact().unwrap();
    assert_eq!(world.log(), 0);
    assert_eq!(import(&world.state(None)).get_map("late").len(), 3);
}

#[test]
fn a_merge_that_ends_after_a_later_compaction_leaves_its_blob() {
    let world = World::new();
    world.append(costly());
    world.compact().unwrap();
    let state = world.state(None);
    // The merge has read the room when this is appended and compacted.
    let early = LoroDoc::new();
    early.import(&state.blobs[0]).unwrap();
    world.append([word("then")]);
    world.compact().unwrap();
    let snapshot = early.export(ExportMode::Snapshot).unwrap();
    let sql = "INSERT INTO loro_snapshots (project_id, snapshot, version, updated_at, rev)
               VALUES (?1, ?2, ?3, 0, 8)";
    let version = early.oplog_vv().encode();
    let parameters = vec![ROOM.into(), snapshot.into(), version.into()];
    block_on(world.database.execute(sql, parameters)).unwrap();
    let sql = "DELETE FROM loro_updates WHERE rev <= 8";
    block_on(world.database.execute(sql, vec![])).unwrap();
    let joined = import(&world.state(None));
    assert_eq!(joined.get_map("words").len(), 1);
    world.merge().unwrap();
    assert_eq!((world.log(), world.blobs()), (0, 0));
    assert_eq!(import(&world.state(None)).get_map("words").len(), 1);
}

/// The two documents share a peer id but no history: one update has no state, and the rest is costly.
#[test]
fn the_update_without_a_state_is_found_though_a_blob_holds_it() {
    let world = World::new();
    world.append(costly());
    let ours = LoroDoc::new();
    ours.set_peer_id(7).unwrap();
    for n in 0..5 {
        ours.get_map("map").insert(&n.to_string(), n).unwrap();
    }
    ours.commit();
    world.append([ours.export(ExportMode::all_updates()).unwrap()]);
    let theirs = LoroDoc::new();
    theirs.set_peer_id(7).unwrap();
    theirs.get_text("text").insert(0, "hello").unwrap();
    theirs.commit();
    let before = theirs.oplog_vv();
    theirs.get_text("text").insert(5, " world").unwrap();
    theirs.commit();
    world.append([theirs.export(ExportMode::updates(&before)).unwrap()]);
    world.append([word("innocent")]);
    world.compact().unwrap();
    assert_eq!(world.blobs(), 1);
    world.merge().unwrap();
    assert_eq!(world.count("SELECT rev FROM loro_quarantine"), 10);
    assert_eq!(world.count("SELECT count(*) FROM loro_quarantine"), 1);
    let joined = import(&world.state(None));
    assert_eq!(joined.get_map("map").len(), 5);
    assert_eq!(joined.get_map("words").len(), 1);
    assert_eq!((world.log(), world.blobs()), (0, 0));
}

/// The single updates are fine, and only together they are nested too deeply for JSON. No update is to blame for that,
/// because everything that others write later builds on it.
#[test]
fn containers_nested_over_several_updates_cost_a_room_its_json_alone() {
    let world = World::new();
    let doc = LoroDoc::new();
    let mut map = doc.get_map("map");
    let mut nest = |levels: usize| {
        let before = doc.oplog_vv();
        for _ in 0..levels {
            map = map.insert_container("a", LoroMap::new()).unwrap();
        }
        doc.commit();
        world.append([doc.export(ExportMode::updates(&before)).unwrap()]);
    };
    // The map is a level, too.
    for levels in [255, 256] {
        nest(levels);
    }
    world.json().unwrap();
    for levels in [1, 400, 400] {
        nest(levels);
        assert!(matches!(world.json(), Err(RoomError::TooDeep)));
    }
    let before = doc.oplog_vv();
    doc.get_map("words").insert("innocent", 1).unwrap();
    doc.commit();
    world.append([doc.export(ExportMode::updates(&before)).unwrap()]);
    let trial = world.work(&Job::Until { rev: 6 }, 256);
    assert_eq!(trial.blobs.len(), 0);
    world.compact().unwrap();
    assert_eq!((world.log(), world.blobs()), (0, 0));
    assert_eq!(world.count("SELECT count(*) FROM loro_quarantine"), 0);
    assert_eq!(import(&world.state(None)).get_map("words").len(), 1);
    assert!(matches!(world.json(), Err(RoomError::TooDeep)));
    // The document has JSON again as soon as the deep containers are deleted.
    let before = doc.oplog_vv();
    doc.get_map("map").delete("a").unwrap();
    doc.commit();
    world.append([doc.export(ExportMode::updates(&before)).unwrap()]);
    assert_eq!(
        world.json().unwrap(),
        r#"{"map":{},"words":{"innocent":1}}"#
    );
}

#[test]
fn a_failure_of_the_state_leads_to_a_blob_and_later_tries_wait() {
    let world = World::new();
    world.append([word("one"), word("two")]);
    world
        .faults
        .borrow_mut()
        .push(MergeError::Died("no memory".into()));
    world.compact().unwrap();
    assert_eq!(*world.jobs.borrow(), [Job::Compact, Job::Pack]);
    assert_eq!((world.log(), world.blobs()), (2, 1));
    for _ in 0..3 {
        let no_time = || MergeError::Died("no time".into());
        world.faults.borrow_mut().push(no_time());
        let (now, jobs) = (world.clock.0.get(), world.jobs.borrow().len());
        assert!(world.merge().is_err());
        // The next merge is not due at once.
        world.merge().unwrap();
        assert_eq!((world.to_merge(), world.jobs.borrow().len()), (0, jobs + 1));
        world.clock.0.set(now + 3600);
        assert_eq!(world.to_merge(), 1);
    }
    // A merge for which the host has no free instance does not count as a failure.
    world.faults.borrow_mut().push(MergeError::Busy);
    assert!(world.merge().is_err());
    world.merge().unwrap();
    assert_eq!((world.log(), world.blobs()), (0, 0));
    assert_eq!(import(&world.state(None)).get_map("words").len(), 2);
    assert_eq!(world.count("SELECT count(*) FROM loro_quarantine"), 0);
}

#[test]
fn a_document_has_no_json_while_the_instance_that_reads_it_dies() {
    let world = World::new();
    world.append([word("one")]);
    let no_memory = MergeError::Died("no memory".into());
    world.faults.borrow_mut().push(no_memory);
    assert!(matches!(world.json(), Err(RoomError::StateUnavailable)));
    world.faults.borrow_mut().push(MergeError::Busy);
    assert!(matches!(world.json(), Err(RoomError::Busy)));
    world.json().unwrap();
}

/// An instance of 32 MiB may neither read that much for a caller that waits nor hold so many operations.
#[test]
fn the_operations_of_a_room_that_is_too_large_are_noted() {
    let world = World::new();
    world.append([update(1, |doc| {
        let nodes = doc.get_map("nodes");
        for n in 0..100_000 {
            nodes.insert(&(n % 1000).to_string(), n).unwrap();
        }
    })]);
    let noted = || {
        let counted = "SELECT ifnull((SELECT operations FROM loro_operations), 0)";
        world.count(counted)
    };
    let json = world.try_to_work(&Job::Json, 32);
    assert!(matches!(json, Err(RoomError::StateUnavailable)), "{json:?}");
    world.work(&Job::Compact, 32);
    assert_eq!((world.log(), world.blobs(), noted()), (1, 1, 0));
    let merged = world.try_to_work(&Job::Merge, 32);
    let is_too_large = |error| {
        matches!(
            error,
            RoomError::TooLarge {
                operations: 100_000
            }
        )
    };
    assert!(merged.is_err_and(is_too_large));
    assert_eq!((world.log(), world.blobs(), noted()), (1, 1, 100_000));
    // A compaction in a larger instance goes on with the count.
    world.append([word("one more")]);
    world.work(&Job::Pack, 64);
    assert_eq!(noted(), 100_001);
    world.append([word("and one more")]);
    world.work(&Job::Merge, 64);
    assert_eq!((world.log(), world.blobs(), noted()), (0, 0, 100_002));
    block_on(rooms::delete(&world.database, &world.clock, ROOM)).unwrap();
    assert_eq!(noted(), 0);
}

/// Tests editors who see each other's work in the middle of what one of them sends at once, in an instance with so
/// little memory that the state is computed in stages.
#[test]
fn a_document_of_concurrent_editors_is_merged_in_stages() {
    let world = World::new();
    let docs: Vec<LoroDoc> = (1..=4).map(|_| LoroDoc::new()).collect();
    let mut random = 7_usize;
    let mut next = |most: usize| {
        random = (random * 1_103_515_245 + 12_345) % (1 << 31);
        random / 7 % most
    };
    let mut updates = Vec::new();
    for step in 0..400 {
        let (one, other) = (&docs[next(4)], &docs[next(4)]);
        if next(3) == 0 {
            one.import(&other.export(ExportMode::updates(&one.oplog_vv())).unwrap())
                .unwrap();
            continue;
        }
        let before = one.oplog_vv();
        let words: String = (0..4000)
            .map(|_| char::from(b'a' + next(26) as u8))
            .collect();
        let node = one.get_map("nodes");
        node.insert(&step.to_string(), words).unwrap();
        one.commit();
        updates.push(one.export(ExportMode::updates(&before)).unwrap());
    }
    world.append(updates.clone());
    world.work(&Job::Merge, 24);
    assert_eq!((world.log(), world.blobs()), (0, 0));
    assert_eq!(world.count("SELECT count(*) FROM loro_quarantine"), 0);
    assert_eq!(import(&world.state(None)).get_deep_value(), value(&updates));
}

/// Lets merges fail, each when it is due, until the room's log was folded or `most` have failed. Returns how many
/// failed, or 0 if the log was not folded.
fn fail_merges(world: &World, most: usize) -> usize {
    for failed in 1..=most {
        world.clock.0.set(world.clock.0.get() + 3600);
        let no_time = || MergeError::Died("no time".into());
        world.faults.borrow_mut().push(no_time());
        assert!(world.merge().is_err());
        if world.jobs.borrow().last() == Some(&Job::Fold) {
            return failed;
        }
    }
    0
}

#[test]
fn after_many_failures_the_log_beside_a_blob_goes_and_all_of_it_stays() {
    let world = World::new();
    let mut updates = vec![word("first")];
    world.append(updates.clone());
    world.compact().unwrap();
    world.append(costly());
    updates.extend(costly());
    world.compact().unwrap();
    assert_eq!(fail_merges(&world, 8), 0);
    assert_eq!((world.log(), world.blobs()), (8, 1));
    updates.push(word("beside the blob"));
    world.append([updates.last().unwrap().clone()]);
    assert_eq!(fail_merges(&world, 1), 1);
    assert_eq!((world.log(), world.blobs()), (0, 0));

    // The folded room is read as a blob is.
    let check = |updates: &[Vec<u8>]| {
        let expected = version_of_all(updates);
        for version in [None, Some(VersionVector::default())] {
            let joined = version_of(&world.state(version.as_ref()));
            assert_eq!(joined, expected);
        }
        assert_eq!(world.whole().blobs.len(), 1);
        assert_eq!(version_of(&world.whole()), expected);
    };
    check(&updates);
    assert!(matches!(world.json(), Err(RoomError::StateUnavailable)));
    // A later update is compacted, and leaves the log, too, when the next merge has failed.
    for n in 0..3 {
        updates.push(word(&n.to_string()));
        world.append([updates.last().unwrap().clone()]);
        check(&updates);
        world.compact().unwrap();
        assert_eq!((world.log(), world.blobs()), (1, 1));
        assert_eq!(world.state(None).blobs.len(), 2);
        check(&updates);
        assert_eq!(fail_merges(&world, 1), 1);
        assert_eq!((world.log(), world.blobs()), (0, 0));
    }
    check(&updates);

    // A merge that succeeds at last puts a snapshot in its place, also at the same rev.
    world.clock.0.set(world.clock.0.get() + 3600);
    assert_eq!(world.to_merge(), 1);
    world.merge().unwrap();
    assert_eq!(world.to_merge(), 0);
    check(&updates);
    assert_eq!(world.json().unwrap(), value(&updates).to_json());
    assert_eq!(
        world.count("SELECT count(*) FROM loro_snapshots WHERE has_state = 1"),
        1
    );
    world.append([word("and on")]);
    world.compact().unwrap();
    assert_eq!((world.log(), world.blobs()), (0, 0));
}

#[test]
fn what_waits_is_not_folded() {
    let world = World::new();
    let doc = LoroDoc::new();
    let mut parts = Vec::new();
    for n in 0..3 {
        let before = doc.oplog_vv();
        doc.get_map("words").insert(&n.to_string(), true).unwrap();
        doc.commit();
        parts.push(doc.export(ExportMode::updates(&before)).unwrap());
    }
    world.append([word("there"), parts[1].clone(), parts[2].clone()]);
    world.append(costly());
    world.clock.0.set(2000);
    world
        .faults
        .borrow_mut()
        .push(MergeError::Died("no memory".into()));
    world.compact().unwrap();
    assert_eq!(world.blobs(), 1);
    assert_eq!(fail_merges(&world, 9), 9);
    // Two updates still wait, and a reader gets them as one.
    assert_eq!((world.log(), world.blobs()), (2, 0));
    assert_eq!(world.state(None).blobs.len(), 2);
    world.append([parts[0].clone()]);
    assert_eq!(import(&world.state(None)).get_map("words").len(), 4);
    world.compact().unwrap();
    world.clock.0.set(world.clock.0.get() + 3600);
    world.merge().unwrap();
    assert_eq!((world.log(), world.blobs()), (0, 0));
    assert_eq!(import(&world.state(None)).get_map("words").len(), 4);
}

/// The worst that a client can do is to send as many updates as a room takes that wait for one that never came.
#[test]
fn all_updates_that_may_wait_come_as_one_and_make_no_read_compact() {
    let world = World::new();
    let doc = LoroDoc::new();
    let mut updates = Vec::new();
    for n in 0..=limits::WAITING_UPDATES as i32 {
        let before = doc.oplog_vv();
        doc.get_map("waiting")
            .insert(&(n % 7).to_string(), n)
            .unwrap();
        doc.commit();
        updates.push(doc.export(ExportMode::updates(&before)).unwrap());
    }
    let first = updates.remove(0);
    world.append([word("there")]);
    for batch in updates.chunks(64) {
        let updates = batch.iter().map(|payload| Update {
            project: ROOM.into(),
            payload: payload.clone().into(),
            serial: None,
        });
        let (database, clock) = (&world.database, &world.clock);
        let stored = rooms::append_surely(database, clock, &world, "test", updates.collect());
        block_on(stored).unwrap();
    }
    world.compact().unwrap();
    assert_eq!(world.log(), limits::WAITING_UPDATES as u64);
    for is_packed in [false, true] {
        if is_packed {
            world.append(costly());
            world.compact().unwrap();
            assert_eq!(world.blobs(), 1);
        }
        let jobs = world.jobs.borrow().len();
        let due = rooms::sweep(&world.database, &world.clock, 10);
        assert!(block_on(due).unwrap().is_empty());
        assert!(!block_on(rooms::is_due(&world.database, ROOM)).unwrap());
        let state = world.state(None);
        assert_eq!(state.blobs.len(), 2 + usize::from(is_packed));
        let revs = state.revs.as_ref().unwrap();
        assert!(revs.iter().max() == revs.get(usize::from(is_packed)));
        assert_eq!(world.jobs.borrow().len(), jobs);
        let known = version_of(&state);
        assert_eq!(world.state(Some(&known)).blobs.len(), 2);
        let joined = import(&state);
        joined.import(&first).unwrap();
        assert_eq!(joined.get_map("waiting").len(), 7);
    }
    world.append([first]);
    assert_eq!(import(&world.state(None)).get_map("waiting").len(), 7);
    world.merge().unwrap();
    assert_eq!((world.log(), world.blobs()), (0, 0));
    assert_eq!(import(&world.state(None)).get_map("waiting").len(), 7);
}

#[test]
fn a_room_whose_compaction_fails_does_not_stand_before_others() {
    let world = World::new();
    world.append([word("one")]);
    world.clock.0.set(2000);
    let sweep = || block_on(rooms::sweep(&world.database, &world.clock, 1)).unwrap();
    assert_eq!(sweep(), [ROOM]);
    for _ in 0..2 {
        world
            .faults
            .borrow_mut()
            .push(MergeError::Died("no time".into()));
    }
    assert!(world.compact().is_err());
    assert!(sweep().is_empty());
    // A client can join the room all the same.
    world
        .faults
        .borrow_mut()
        .push(MergeError::Died("no time".into()));
    let version = VersionVector::default();
    assert_eq!(
        import(&world.state(Some(&version))).get_map("words").len(),
        1
    );
    world.clock.0.set(2010);
    assert_eq!(sweep(), [ROOM]);
}

#[test]
fn one_compaction_of_a_room_runs_at_a_time() {
    let world = World::new();
    world.append([word("one")]);
    let sql = "INSERT INTO loro_leases VALUES ('room', 'compact', 'another', 1, ?1, 1, ?1)";
    let until = world.clock.0.get() + 60;
    block_on(world.database.execute(sql, vec![until.into()])).unwrap();
    world.compact().unwrap();
    assert!(world.jobs.borrow().is_empty());
    assert_eq!(world.log(), 1);
    world.clock.0.set(until);
    world.compact().unwrap();
    assert_eq!(*world.jobs.borrow(), [Job::Compact]);
    assert_eq!(world.log(), 0);
}

/// A clock whose every sleep takes a second.
#[derive(Default)]
struct Sleeps(Cell<u32>);

#[async_trait::async_trait(?Send)]
impl Clock for Sleeps {
    fn unix_seconds(&self) -> i64 {
        self.0.get().into()
    }

    async fn sleep(&self, _: Duration) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn a_caller_that_waits_for_a_compaction_looks_until_it_ends() {
    let world = World::new();
    for (wait, until, sleeps) in [
        (Wait::No, 3_i64, 0),
        (Wait::Briefly, 3, 3),
        (Wait::Briefly, 60, 50),
    ] {
        let sql = "REPLACE INTO loro_leases VALUES ('room', 'compact', 'another', 1, ?1, 1, ?1)";
        block_on(world.database.execute(sql, vec![until.into()])).unwrap();
        let clock = Sleeps::default();
        let compacted = supervise::compact(&world.database, &clock, &world, ROOM, wait);
        block_on(compacted).unwrap();
        assert_eq!(clock.0.get(), sleeps, "{wait:?}, {until}");
        assert!(world.jobs.borrow().is_empty());
    }
}

/// A snapshot of values that repeat themselves has a hundredth of their bytes, but its state takes memory for all of them.
#[test]
fn what_compression_saves_counts_like_operations() {
    let world = World::new();
    let doc = LoroDoc::new();
    let write = |key: &str| {
        let before = doc.oplog_vv();
        doc.get_map("map").insert(key, "x".repeat(1 << 20)).unwrap();
        doc.commit();
        world.append([doc.export(ExportMode::updates(&before)).unwrap()]);
    };
    for number in 0..8 {
        write(&number.to_string());
        world.work(&Job::Merge, 256);
    }
    let snapshot = world.count("SELECT length(snapshot) FROM loro_snapshots");
    assert!(snapshot < 256 << 10, "{snapshot}");
    let counted = world.count("SELECT operations FROM loro_operations");
    assert!(counted * quota::BYTES_OF_OPERATION > 7 << 20, "{counted}");
    write("last");
    let too_large = world.try_to_work(&Job::Json, 64).unwrap_err();
    assert!(
        matches!(too_large, RoomError::TooLarge { .. }),
        "{too_large}"
    );
    world.json().unwrap();
}
