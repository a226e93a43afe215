use platform::native::{SetClock, SqliteFile, block_on};

use super::*;

/// A room with these updates.
fn room(updates: &[Vec<u8>]) -> SqliteFile {
    let database = SqliteFile::with_schema();
    for (rev, update) in (1_u64..).zip(updates) {
        let sql = "INSERT INTO loro_updates (project_id, rev, payload, origin, created_at)
                   VALUES ('p', ?1, ?2, 'test', 0)";
        let parameters = vec![rev.into(), update.clone().into()];
        block_on(database.execute(sql, parameters)).unwrap();
    }
    database
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
