//! Tests which jobs a reader asks for. None of them is done here, so each answer is the room as it is stored.

use std::cell::RefCell;

use async_trait::async_trait;
use platform::{
    Value,
    native::{SetClock, SqliteFile, block_on},
};

use super::*;
use crate::{
    limits::{MERGE_ON_READ_BYTES, STATE_UPDATES},
    supervise::MergeError,
};

/// A room, and the jobs that were asked for.
struct Room {
    database: SqliteFile,
    clock: SetClock,
    asked: RefCell<Vec<&'static str>>,
    /// The rev up to which a compaction shortens the log.
    shortened: u64,
    writer: LoroDoc,
}

#[async_trait(?Send)]
impl Merger for Room {
    async fn run(&self, _: &str, job: &Job) -> Result<EncodedState, MergeError> {
        let name = match job {
            Job::Compact => "compact",
            Job::Snapshot => "snapshot",
            Job::Updates => "updates",
            Job::UpdatesSince { .. } => "updates since",
            _ => "another",
        };
        if name == "compact" {
            let sql = "DELETE FROM loro_updates WHERE rev <= ?1";
            let shorten = self.database.execute(sql, vec![self.shortened.into()]);
            shorten
                .await
                .map_err(|error| MergeError::Failed(error.into()))?;
        }
        self.asked.borrow_mut().push(name);
        Err(MergeError::Busy)
    }
}

impl Room {
    fn new() -> Self {
        Self {
            database: SqliteFile::with_schema(),
            clock: SetClock::default(),
            asked: RefCell::default(),
            shortened: 0,
            writer: LoroDoc::new(),
        }
    }

    fn sql(&self, sql: &str, parameters: Vec<Value>) {
        block_on(self.database.execute(sql, parameters)).unwrap();
    }

    /// A letter, as an update.
    fn typed(&self) -> Vec<u8> {
        let before = self.writer.oplog_vv();
        self.writer.get_text("text").insert(0, "x").unwrap();
        self.writer.commit();
        self.writer.export(ExportMode::updates(&before)).unwrap()
    }

    fn version(&self) -> Vec<u8> {
        self.writer.oplog_vv().encode()
    }

    fn row(&self, rev: u64, payload: Vec<u8>) {
        let sql = "INSERT INTO loro_updates (project_id, rev, payload, origin, created_at)
                   VALUES ('p', ?1, ?2, 'test', 0)";
        self.sql(sql, vec![rev.into(), payload.into()]);
    }

    fn log(self, revs: impl IntoIterator<Item = u64>) -> Self {
        for rev in revs {
            self.row(rev, self.typed());
        }
        self
    }

    fn snapshot(self, rev: u64) -> Self {
        self.typed();
        let snapshot = self.writer.export(ExportMode::Snapshot).unwrap();
        let sql =
            "INSERT INTO loro_snapshots (project_id, rev, snapshot, version, updated_at, has_state)
                   VALUES ('p', ?1, ?2, ?3, 0, 1)";
        let parameters = vec![rev.into(), snapshot.into(), self.version().into()];
        self.sql(sql, parameters);
        self
    }

    fn blob(self, rev: u64) -> Self {
        let blob = self.typed();
        let sql = "INSERT INTO loro_blobs (project_id, rev, blob, version, waiting, updated_at)
                   VALUES ('p', ?1, ?2, ?3, '[]', 0)";
        self.sql(sql, vec![rev.into(), blob.into(), self.version().into()]);
        self
    }

    /// The jobs that a join asks for, and the blobs that its client gets.
    fn joined(&self, version: Option<&[u8]>) -> (Vec<&'static str>, usize) {
        let state = state(&self.database, &self.clock, self, "p", version);
        let state = block_on(state).unwrap();
        let blobs = state.decoded().unwrap().blobs.len();
        (self.asked.take(), blobs)
    }
}

#[test]
fn a_short_log_is_merged_for_a_client_that_joins() {
    let snapshot = &["snapshot"][..];
    for (name, room, asked, blobs) in [
        ("nothing", Room::new(), &[][..], 1),
        ("one update", Room::new().log([1]), &[], 1),
        ("two updates", Room::new().log([1, 2]), snapshot, 2),
        ("a snapshot", Room::new().snapshot(1), &[], 1),
        (
            "a log after it",
            Room::new().snapshot(1).log([2]),
            snapshot,
            2,
        ),
        // An update that waits would be there after a merge, too.
        ("what waits", Room::new().log([1]).snapshot(2), &[], 2),
        ("a blob", Room::new().blob(1).log([2]), &[], 2),
        ("both", Room::new().snapshot(1).blob(2).log([3]), &[], 3),
    ] {
        assert_eq!(room.joined(None), (asked.to_vec(), blobs), "{name}");
    }
    for (bytes, asked) in [
        (MERGE_ON_READ_BYTES, snapshot),
        (MERGE_ON_READ_BYTES + 1, &[]),
    ] {
        let room = Room::new();
        room.row(1, vec![1; bytes - 7]);
        room.row(2, vec![1; 7]);
        assert_eq!(room.joined(None), (asked.to_vec(), 2), "{bytes} bytes");
    }
}

#[test]
fn a_long_log_is_compacted_for_a_client_that_joins() {
    let most = STATE_UPDATES as u64;
    for (name, room, shortened, asked, blobs) in [
        (
            "bound",
            Room::new().log(1..=most),
            0,
            &["snapshot"][..],
            most,
        ),
        (
            "log",
            Room::new().log(1..=most + 1),
            0,
            &["compact", "updates"],
            most + 1,
        ),
        (
            "log after a snapshot",
            Room::new().snapshot(1).log(2..=most + 2),
            0,
            &["compact", "updates since"],
            most + 2,
        ),
        // The compaction helped.
        (
            "shortened",
            Room::new().log(1..=most + 1),
            1,
            &["compact"],
            most,
        ),
    ] {
        let room = Room { shortened, ..room };
        let blobs = usize::try_from(blobs).unwrap();
        assert_eq!(room.joined(None), (asked.to_vec(), blobs), "{name}");
    }
}

#[test]
fn a_client_that_knows_something_asks_for_the_rest() {
    let room = Room::new().log([1, 2]);
    let nothing = VersionVector::default().encode();
    let known = room.version();
    for (version, asked) in [
        (&[][..], &["snapshot"][..]),
        (&nothing, &["snapshot"]),
        (&known, &["updates since", "snapshot"]),
    ] {
        assert_eq!(room.joined(Some(version)), (asked.to_vec(), 2));
    }
    let wrong = state(&room.database, &room.clock, &room, "p", Some(&[0xff; 3]));
    assert!(matches!(block_on(wrong), Err(RoomError::BadVersion)));
}

#[test]
fn a_relay_gets_what_came_since_or_the_whole_room() {
    let most = STATE_UPDATES as u64;
    for (revs, since, expected) in [
        (3, 0, 3),
        (3, 2, 1),
        (3, 3, 0),
        (most + 1, 1, most),
        (most + 2, 1, most + 2),
    ] {
        let room = Room::new().log(1..=revs);
        let state = block_on(updates_after(&room.database, "p", since)).unwrap();
        let sent: Vec<u64> = state.revs.unwrap_or_default();
        assert_eq!(sent.len() as u64, expected, "{revs} since {since}");
        assert_eq!((state.blobs.len() as u64, state.rev), (expected, revs));
    }
}

#[test]
fn a_document_is_whole_as_it_is_stored_if_that_is_one_blob() {
    for (name, room, asked) in [
        ("nothing", Room::new(), &[][..]),
        ("a snapshot", Room::new().snapshot(1), &[]),
        ("a blob", Room::new().blob(1), &[]),
        ("a log", Room::new().log([1]), &["snapshot"]),
        (
            "a log after it",
            Room::new().snapshot(1).log([2]),
            &["snapshot"],
        ),
        ("both", Room::new().snapshot(1).blob(2), &["updates"]),
        (
            "a log after a blob",
            Room::new().blob(1).log([2]),
            &["updates"],
        ),
    ] {
        let whole = snapshot(&room.database, &room.clock, &room, "p");
        let whole = block_on(whole).unwrap();
        let whole = whole.decoded().unwrap();
        assert_eq!(*room.asked.borrow(), asked, "{name}");
        // No instance answers, so the parts are joined here.
        assert_eq!(whole.blobs.len(), 1, "{name}");
        let doc = LoroDoc::new();
        doc.import(whole.blobs[0]).unwrap();
        assert_eq!(doc.oplog_vv(), room.writer.oplog_vv(), "{name}");
    }
}
