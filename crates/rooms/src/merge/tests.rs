use std::cell::RefCell;

use platform::native::{SetClock, SqliteFile, block_on};

use super::*;
use crate::fold::fold;

/// A room with these updates.
fn room(updates: &[Vec<u8>]) -> SqliteFile {
    let database = SqliteFile::with_schema();
    for (rev, update) in (1..).zip(updates) {
        append(&database, rev, update);
    }
    database
}

fn append(database: &SqliteFile, rev: u64, update: &[u8]) {
    let sql = "INSERT INTO loro_updates (project_id, rev, payload, origin, created_at)
               VALUES ('p', ?1, ?2, 'test', 0)";
    let parameters = vec![rev.into(), update.to_vec().into()];
    block_on(database.execute(sql, parameters)).unwrap();
}

fn typed(doc: &LoroDoc, words: &str) -> Vec<u8> {
    let before = doc.oplog_vv();
    doc.get_text("text").insert(0, words).unwrap();
    doc.commit();
    doc.export(ExportMode::updates(&before)).unwrap()
}

fn merged(database: &SqliteFile) -> Merged {
    let clock = SetClock::default();
    block_on(merge(database, &clock, "p", Memory::default())).unwrap()
}

#[test]
fn a_change_is_an_update_of_its_own_and_no_change_is_none() {
    let doc = LoroDoc::new();
    let merged = merged(&room(&[typed(&doc, "hello")]));
    assert!(merged.change(7, |_| Ok(())).unwrap().is_none());
    let change = merged.change(7, |doc| doc.get_text("text").insert(5, " world"));
    let change = change.unwrap().unwrap();
    doc.import(&change).unwrap();
    assert_eq!(doc.get_text("text").to_string(), "hello world");
    assert_eq!(doc.oplog_vv().get(&7), Some(&6));
}

#[test]
fn a_document_is_whole_if_nothing_waits() {
    let doc = LoroDoc::new();
    let (first, missing) = (typed(&doc, "a"), typed(&doc, "b"));
    let last = typed(&doc, "c");
    assert!(merged(&room(std::slice::from_ref(&first))).is_whole());
    assert!(!merged(&room(&[first.clone(), last.clone()])).is_whole());
    assert!(merged(&room(&[first, last, missing])).is_whole());
}

/// The two documents have a peer id in common but no history, so the second one's update fits by its numbers alone.
#[test]
fn a_trial_fails_with_the_update_that_loro_refuses() {
    let [ours, theirs] = [(); 2].map(|()| {
        let doc = LoroDoc::new();
        doc.set_peer_id(1).unwrap();
        doc
    });
    for key in 0..5 {
        ours.get_map("map").insert(&key.to_string(), key).unwrap();
    }
    ours.commit();
    let ours = ours.export(ExportMode::all_updates()).unwrap();
    typed(&theirs, "hello");
    let before = theirs.oplog_vv();
    theirs.set_peer_id(2).unwrap();
    theirs.get_text("text").insert(5, " world").unwrap();
    theirs.commit();
    let theirs = theirs.export(ExportMode::updates(&before)).unwrap();
    let database = room(&[ours, theirs]);
    for (rev, fails) in [(1, false), (2, true)] {
        let words = block_on(try_until(&database, "p", rev, Memory::default())).unwrap();
        assert_eq!(words.is_some_and(|words| !words.is_empty()), fails, "{rev}");
    }
}

#[test]
fn a_state_that_no_reader_can_import_is_none() {
    let database = room(&[typed(&LoroDoc::new(), "hello")]);
    let (cost, memory) = (Cost::LONG, Memory::default());
    let room = Room {
        database: &database,
        project: "p",
        bounds: Bounds { cost, memory },
    };
    let fails = |error: fn() -> RoomError| block_on(room.fails_looking(1, |_| Err(error())));
    let words = fails(|| RoomError::Loro("odd\nand long".to_owned()));
    assert_eq!(words.unwrap().as_deref(), Some("odd"));
    // Another failure says nothing about the updates.
    assert!(fails(|| RoomError::Busy).is_err());
}

#[test]
fn a_fault_is_told_in_the_words_of_the_first() {
    let refused = |rev, reason: &str| Refused {
        rev,
        reason: reason.to_owned(),
    };
    for (fault, words) in [
        (Fault::Together("both".to_owned()), "both"),
        (
            Fault::Updates(vec![refused(1, "one"), refused(2, "two")]),
            "one",
        ),
    ] {
        assert_eq!(fault.into_words(), words);
    }
}

#[test]
fn a_trial_in_too_little_memory_is_an_error() {
    let database = room(&[typed(&LoroDoc::new(), "hello")]);
    let trial = block_on(try_until(&database, "p", 1, Memory::of_mib(6)));
    assert!(matches!(trial, Err(RoomError::TooLarge { .. })));
}

#[test]
fn a_trial_takes_each_way_once() {
    let doc = LoroDoc::new();
    let database = room(&[typed(&doc, "hello")]);
    let (cost, memory) = (Cost::LONG, Memory::default());
    let room = Room {
        database: &database,
        project: "p",
        bounds: Bounds { cost, memory },
    };
    let ways = |rev| {
        let ways = RefCell::new(Vec::new());
        let fault = block_on(room.fails_looking(rev, |merged| {
            ways.borrow_mut().push(merged.way);
            Ok(())
        }));
        assert_eq!(fault.unwrap(), None);
        ways.into_inner()
    };
    assert_eq!(ways(1), [Way::OneByOne, Way::AsOne, Way::InParts]);
    // Without a state, the whole document is the cheapest.
    block_on(fold(&database, &SetClock::default(), "p", memory)).unwrap();
    append(&database, 2, &typed(&doc, "world"));
    assert_eq!(
        ways(2),
        [Way::Whole, Way::OneByOne, Way::AsOne, Way::InParts]
    );
}

/// Makes the rows of a log of three updates that are not concurrent, after a document with or without its state.
fn rows(has_state: bool) -> Rows {
    let doc = LoroDoc::new();
    let first = typed(&doc, "first");
    let snapshot = SnapshotRow {
        blob: if has_state {
            doc.export(ExportMode::Snapshot).unwrap()
        } else {
            first
        },
        has_state,
        ..SnapshotRow::default()
    };
    let log = (2..5).map(|rev| LogRow {
        rev,
        payload: typed(&doc, "words"),
    });
    Rows {
        snapshot: Some(snapshot),
        log: log.collect(),
        ..Rows::default()
    }
}

#[test]
fn the_steps_begin_with_a_state_and_are_in_parts_if_they_are_more_than_a_stage() {
    for (has_state, way, begins, one_stage, two_stages) in [
        (true, Way::OneByOne, true, 3, 2),
        (true, Way::AsOne, true, 1, 2),
        (true, Way::InParts, true, 2, 2),
        (true, Way::Whole, false, 1, 2),
        (false, Way::OneByOne, false, 4, 2),
        (false, Way::AsOne, false, 1, 2),
        (false, Way::InParts, false, 2, 2),
        (false, Way::Whole, false, 1, 2),
    ] {
        let rows = rows(has_state);
        let history = History::of(&rows).unwrap();
        let base = rows.snapshot.clone().map(|row| row.blob);
        let base = base.filter(|_| begins);
        let bytes = rows.bytes() - base.as_ref().map_or(0, Vec::len);
        for (stage, count) in [(bytes, one_stage), (bytes - 1, two_stages)] {
            let steps = steps(rows.clone(), &history, way, Cost::NONE, stage).unwrap();
            assert_eq!(steps.base, base, "{way:?}");
            assert_eq!(steps.updates.len(), count, "{way:?}, {has_state}");
        }
    }
}

#[test]
fn parts_that_cost_more_than_allowed_are_not_made() {
    let log = (1..3).map(|rev| LogRow {
        rev,
        payload: typed(&LoroDoc::new(), "words"),
    });
    let rows = Rows {
        log: log.collect(),
        ..Rows::default()
    };
    let history = History::of(&rows).unwrap();
    let steps = steps(rows, &history, Way::AsOne, Cost::NONE, 1);
    assert!(matches!(steps, Err(RoomError::StateUnavailable)));
}

#[test]
fn a_state_that_costs_nothing_exceeds_no_bounds() {
    let (cost, memory) = (Cost::NONE, Memory::default());
    let merged = Merged::until(rows(true), ALL, Bounds { cost, memory }, None);
    assert!(merged.unwrap().is_ok());
}
