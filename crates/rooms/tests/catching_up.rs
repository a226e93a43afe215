//! Tests the answer to a relay that knows the room up to some rev, while clients write and the app compacts.

#![allow(clippy::unwrap_used)]

use std::cell::Cell;

use async_trait::async_trait;
use loro::{ExportMode, LoroDoc};
use platform::{
    Database, DatabaseError, Row, Value,
    native::{SetClock, SqliteFile, block_on},
};
use rooms::Memory;
use rooms::supervise::{MergeError, Merger};
use wire::{ByteVec, EncodedState, Job, Outcome, State, Update};

const ROOM: &str = "room";

/// A database in which another client appends an update after each of the next statements.
struct Busy {
    inner: SqliteFile,
    clock: SetClock,
    doc: LoroDoc,
    writes: Cell<u32>,
}

impl Busy {
    fn new() -> Self {
        Self {
            inner: SqliteFile::with_schema(),
            clock: SetClock::default(),
            doc: LoroDoc::new(),
            writes: Cell::new(0),
        }
    }

    /// Changes the document, and returns the change as an update of its own.
    fn change(&self) -> Vec<u8> {
        let before = self.doc.oplog_vv();
        let text = self.doc.get_text("text");
        text.insert(text.len_unicode(), "a").unwrap();
        self.doc.commit();
        self.doc.export(ExportMode::updates(&before)).unwrap()
    }

    async fn append(&self, payload: Vec<u8>) -> u64 {
        let updates = vec![Update {
            project: ROOM.into(),
            payload: payload.into(),
            serial: None,
        }];
        let (database, clock) = (&self.inner, &self.clock);
        let outcomes = rooms::append_surely(database, clock, &Nowhere, "test", updates).await;
        match outcomes.unwrap()[0] {
            Outcome::Stored { rev, .. } => rev,
            ref other => panic!("{other:?}"),
        }
    }

    fn compact(&self) {
        let merged = block_on(rooms::merge(
            &self.inner,
            &self.clock,
            ROOM,
            Memory::default(),
        ))
        .unwrap();
        block_on(rooms::compact(&self.inner, &self.clock, ROOM, &merged)).unwrap();
    }

    fn updates_after(&self, rev: u64) -> State {
        block_on(rooms::updates_after(self, ROOM, rev)).unwrap()
    }
}

#[async_trait(?Send)]
impl Database for Busy {
    async fn execute(&self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Row>, DatabaseError> {
        let rows = self.inner.execute(sql, parameters).await;
        if let Some(left) = self.writes.get().checked_sub(1) {
            self.writes.set(left);
            self.append(self.change()).await;
        }
        rows
    }
}

/// Has no instance for a job, so that it is done in place.
struct Nowhere;

#[async_trait(?Send)]
impl Merger for Nowhere {
    async fn run(&self, _project: &str, _job: &Job) -> Result<EncodedState, MergeError> {
        Err(MergeError::NoPlace("none here".into()))
    }
}

/// Makes a document from the blobs of such answers.
fn import(blobs: &[ByteVec]) -> LoroDoc {
    let doc = LoroDoc::new();
    for blob in blobs {
        doc.import(blob).unwrap();
    }
    doc
}

#[test]
fn an_update_stored_while_a_relay_catches_up_is_not_left_out() {
    let busy = Busy::new();
    let mut known = block_on(busy.append(busy.change()));
    let mut blobs = busy.updates_after(0).blobs;
    for _ in 0..4 {
        // The answer may leave out updates, but only ones after the rev that it names.
        busy.writes.set(3);
        let told = busy.updates_after(known);
        let expected: Vec<u64> = (known + 1..=told.rev).collect();
        assert_eq!(told.revs.as_ref(), Some(&expected), "of {told:?}");
        assert_eq!(told.blobs.len(), expected.len());
        known = told.rev;
        blobs.extend(told.blobs);
    }
    busy.writes.set(0);
    blobs.extend(busy.updates_after(known).blobs);
    assert_eq!(import(&blobs).get_deep_value(), busy.doc.get_deep_value());
}

#[test]
fn each_blob_comes_with_the_rev_that_it_reaches() {
    let busy = Busy::new();
    let updates: Vec<Vec<u8>> = (0..4).map(|_| busy.change()).collect();
    // The second update is late, so at the compaction the third waits for it.
    for n in [0, 2] {
        block_on(busy.append(updates[n].clone()));
    }
    busy.compact();
    let told = busy.updates_after(1);
    assert_eq!(
        (told.rev, told.revs),
        (2, Some(vec![2, 2])),
        "the snapshot, and what waits"
    );
    for n in [1, 3] {
        block_on(busy.append(updates[n].clone()));
    }
    let told = busy.updates_after(1);
    assert_eq!((told.rev, told.revs), (4, Some(vec![2, 2, 3, 4])));
    assert_eq!(
        import(&told.blobs).get_deep_value(),
        busy.doc.get_deep_value()
    );
    let told = busy.updates_after(2);
    assert_eq!((told.rev, told.revs), (4, Some(vec![3, 4])));
    let told = busy.updates_after(4);
    assert_eq!((told.rev, told.blobs.len()), (4, 0));
}
