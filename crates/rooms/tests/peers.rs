//! Tests the operations up to which each peer has written: what an append concludes from them, and what keeps them
//! right.

#![allow(clippy::unwrap_used)]

use std::time::Instant;

use loro::{ExportMode, LoroDoc};
use platform::{
    Database, migrations,
    native::{SetClock, SqliteFile, block_on},
};
use rooms::{
    Memory,
    limits::{WAITING_BYTES, WAITING_UPDATES},
    supervise::{self, MergeError, Merger},
};
use wire::{EncodedState, Job, Outcome, Update};

const ROOM: &str = "room";

struct World {
    database: SqliteFile,
    clock: SetClock,
    _folder: tempfile::TempDir,
}

#[async_trait::async_trait(?Send)]
impl Merger for World {
    async fn run(&self, project: &str, job: &Job) -> Result<EncodedState, MergeError> {
        supervise::work(&self.database, &self.clock, project, job, Memory::default())
            .await
            .map(EncodedState::from)
            .map_err(MergeError::Failed)
    }
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = SqliteFile::open(&folder.path().join("rooms.db")).unwrap();
        let clock = SetClock::default();
        block_on(migrations::apply(&database, &clock)).unwrap();
        Self {
            database,
            clock,
            _folder: folder,
        }
    }

    fn append(&self, payloads: &[&Vec<u8>]) -> Vec<Outcome> {
        let updates = updates(payloads);
        block_on(rooms::append(&self.database, &self.clock, "test", updates)).unwrap()
    }

    fn append_surely(&self, payloads: &[&Vec<u8>]) -> Vec<Outcome> {
        let (database, clock, updates) = (&self.database, &self.clock, updates(payloads));
        block_on(rooms::append_surely(database, clock, self, "test", updates)).unwrap()
    }

    fn execute(&self, sql: &str) {
        block_on(self.database.execute(sql, vec![])).unwrap();
    }

    fn peers(&self) -> i64 {
        let sql = "SELECT count(*) FROM loro_peers";
        let rows = block_on(self.database.execute(sql, vec![])).unwrap();
        rows[0].integer(0).unwrap()
    }
}

fn updates(payloads: &[&Vec<u8>]) -> Vec<Update> {
    let updates = payloads.iter().map(|payload| Update {
        project: ROOM.into(),
        payload: payload.to_vec().into(),
        serial: None,
    });
    updates.collect()
}

fn writer(peer: u64) -> LoroDoc {
    let doc = LoroDoc::new();
    doc.set_peer_id(peer).unwrap();
    doc
}

fn typed(doc: &LoroDoc, words: &str) -> Vec<u8> {
    let before = doc.oplog_vv();
    doc.get_text("text").insert(0, words).unwrap();
    doc.commit();
    doc.export(ExportMode::updates(&before)).unwrap()
}

fn fits(rev: u64) -> Outcome {
    Outcome::Stored { rev, waits: None }
}

fn waits(rev: u64) -> Outcome {
    let waits = Some(true);
    Outcome::Stored { rev, waits }
}

#[test]
fn an_append_knows_what_fits_waits_or_overlaps() {
    let world = World::new();
    // The largest peer ids are negative in SQL.
    let (one, other) = (writer(u64::MAX - 1), writer(7));
    let own: Vec<Vec<u8>> = (0..4).map(|n| typed(&one, &n.to_string())).collect();
    other
        .import(&one.export(ExportMode::all_updates()).unwrap())
        .unwrap();
    let reply = typed(&other, "reply");
    assert_eq!(world.append(&[&own[0], &own[1]]), [fits(1), fits(2)]);
    // The last update may be sent again, also twice in a request.
    assert_eq!(world.append(&[&own[1], &own[1]]), [fits(3), fits(4)]);
    assert_eq!(world.append(&[&own[0]]), [Outcome::Suspect]);
    // The third is missing, for its author and for the client that has seen it. In one request, an update that waits
    // makes those wait that build on it.
    assert_eq!(world.append(&[&own[3], &reply]), [waits(5), waits(6)]);
    assert_eq!(world.append(&[&typed(&other, "!")]), [waits(7)]);
    let missing = block_on(rooms::waiting(&world.database, ROOM, &[1, 5, 6, 7])).unwrap();
    let missing: Vec<_> = missing.iter().map(|w| (w.rev, w.peer, w.counter)).collect();
    assert_eq!(
        missing,
        [(5, u64::MAX - 1, 2), (6, u64::MAX - 1, 2), (7, 7, 0)]
    );
    // Another update has the same ids, in a later request and in the same one.
    let twin = writer(7);
    assert_eq!(world.append(&[&typed(&twin, "other")]), [Outcome::Suspect]);
    let (twins, fresh) = ([writer(8), writer(8)], typed(&writer(9), "x"));
    let twins = twins.map(|doc| typed(&doc, "z"));
    let differs = typed(&writer(8), "y");
    assert_eq!(
        world.append(&[&twins[0], &twins[1], &differs, &fresh]),
        [fits(8), fits(9), Outcome::Suspect, fits(10)]
    );
}

/// Makes a document that two clients continue under one peer id, each up to the same counter.
fn twins() -> (LoroDoc, LoroDoc, [Vec<u8>; 4]) {
    let (one, twin) = (writer(42), writer(42));
    let beginning = typed(&one, "begin");
    twin.import(&beginning).unwrap();
    twin.set_peer_id(42).unwrap();
    let (own, other) = (typed(&one, "one"), typed(&twin, "two"));
    let further = typed(&twin, "!");
    (one, twin, [beginning, own, other, further])
}

const SUSPECT: Outcome = Outcome::Suspect;

/// The update would by accident fit what another client wrote.
#[test]
fn what_builds_on_a_suspect_is_one() {
    let world = World::new();
    let (one, twin, [beginning, own, other, further]) = twins();
    let reader = writer(7);
    reader
        .import(&twin.export(ExportMode::all_updates()).unwrap())
        .unwrap();
    let (reply, fresh) = (typed(&reader, "reply"), typed(&writer(8), "x"));
    world.append(&[&beginning, &own]);
    assert_eq!(
        world.append(&[&other, &fresh, &further, &reply]),
        [SUSPECT, fits(3), SUSPECT, SUSPECT]
    );
    // In the same request, the next update of the first client is a suspect, too. Alone, it fits.
    let next = typed(&one, "?");
    assert_eq!(world.append(&[&other, &next]), [SUSPECT, SUSPECT]);
    assert_eq!(world.append(&[&next]), [fits(4)]);
}

/// The app does not know in a later request that the update builds on the suspect, so the relay must not send it.
#[test]
fn what_fits_by_accident_in_a_request_of_its_own_is_stored() {
    let world = World::new();
    let (_, _, [beginning, own, other, further]) = twins();
    world.append(&[&beginning, &own]);
    assert_eq!(world.append(&[&other]), [SUSPECT]);
    assert_eq!(world.append(&[&further]), [fits(3)]);
}

#[test]
fn what_builds_on_a_suspect_of_the_same_request_is_one() {
    let (_, _, [beginning, own, other, further]) = twins();
    let all = [&beginning, &own, &other, &further, &own];
    assert_eq!(
        World::new().append(&all),
        [fits(1), fits(2), SUSPECT, SUSPECT, fits(3)]
    );
}

/// An update that builds on very many others of its request is decided alone.
#[test]
fn a_request_knows_sixteen_beginnings_of_an_update() {
    for (others, last) in [(15, fits(16)), (16, SUSPECT)] {
        let reader = writer(1);
        let mut updates: Vec<Vec<u8>> = (0..others)
            .map(|n| typed(&writer(2 + n), "other"))
            .collect();
        reader.import_batch(&updates).unwrap();
        updates.push(typed(&reader, "all"));
        let outcomes = World::new().append(&updates.iter().collect::<Vec<_>>());
        assert_eq!(outcomes.last(), Some(&last), "{others}");
    }
}

/// The room has no notes of its peers, so the app finds out once what is missing.
#[test]
fn a_room_from_before_goes_on() {
    let world = World::new();
    let doc = writer(1);
    assert_eq!(world.append(&[&typed(&doc, "a")]), [fits(1)]);
    world.execute("DELETE FROM loro_peers");
    world.execute("UPDATE loro_updates SET spans = NULL");
    assert_eq!(world.append(&[&typed(&doc, "b")]), [waits(2)]);
    assert_eq!(
        block_on(rooms::waiting(&world.database, ROOM, &[2])).unwrap(),
        []
    );
    assert_eq!(world.append(&[&typed(&doc, "c")]), [fits(3)]);
    let all = doc.export(ExportMode::all_updates()).unwrap();
    assert_eq!(world.append(&[&all]), [Outcome::Suspect]);
}

#[test]
fn quarantine_frees_the_ids_and_deletion_all() {
    let world = World::new();
    let doc = writer(1);
    world.append(&[&typed(&doc, "a"), &typed(&doc, "b")]);
    world.execute("UPDATE loro_updates SET payload = x'' WHERE rev = 2");
    assert_eq!(world.peers(), 0);
    // Nothing is refused, and what builds on the quarantined update waits.
    assert_eq!(world.append(&[&typed(&doc, "c")]), [waits(3)]);
    let waiting = block_on(rooms::waiting(&world.database, ROOM, &[3])).unwrap();
    assert_eq!((waiting[0].peer, waiting[0].counter), (1, 1));
    block_on(rooms::delete(&world.database, &world.clock, ROOM)).unwrap();
    assert_eq!(world.peers(), 0);
}

/// Types updates that follow each other, and returns the first of them apart from the others.
fn without_beginning(doc: &LoroDoc, count: usize, words: &str) -> (Vec<u8>, Vec<Vec<u8>>) {
    let first = typed(doc, "first");
    (first, (0..count).map(|_| typed(doc, words)).collect())
}

fn is_stored(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Stored { .. })
}

/// The room takes no further update that waits, in numbers or in bytes, and all that do not wait.
#[test]
fn updates_that_wait_are_bounded_and_others_are_not() {
    let large = "x".repeat(WAITING_BYTES / 8);
    for (words, count) in [("x", WAITING_UPDATES), (&*large, 8)] {
        let world = World::new();
        let (doc, fine) = (writer(1), writer(2));
        let (first, waiting) = without_beginning(&doc, count, words);
        assert_eq!(world.append(&[&typed(&fine, "fits")]), [fits(1)]);
        for batch in waiting.chunks(100) {
            let outcomes = world.append_surely(&batch.iter().collect::<Vec<_>>());
            assert!(outcomes.iter().all(is_stored));
        }
        // A resend is taken although no more may wait, because it is stored already.
        let resent = [&waiting[0], &waiting[count - 1]];
        assert_eq!(world.append(&resent), [SUSPECT, SUSPECT]);
        let last = 1 + count as u64;
        assert_eq!(world.append_surely(&resent), [waits(2), waits(last)]);
        let next = [typed(&doc, "next"), typed(&doc, "and so on")];
        assert_eq!(world.append(&[&next[0]]), [SUSPECT]);
        for outcome in world.append_surely(&[&next[0], &next[1]]) {
            let Outcome::Refused { reason, code } = outcome else {
                panic!("{outcome:?}");
            };
            assert_eq!(code.as_deref(), Some(wire::WAITING_FULL));
            assert!(reason.contains("operation 0 of the peer 1"), "{reason}");
        }
        // Updates that fit are stored as before, also beside one that does not.
        assert!(matches!(
            world.append(&[&typed(&fine, "fits"), &next[0], &typed(&fine, "too")])[..],
            [Outcome::Stored { .. }, SUSPECT, Outcome::Stored { .. }]
        ));
        // If nothing is noted of the room's peers, the app looks at the document once.
        world.execute("DELETE FROM loro_peers");
        let fitting = ["a", "b", "c"].map(|words| typed(&fine, words));
        assert_eq!(world.append(&[&fitting[0]]), [SUSPECT]);
        let stored = |outcomes: &[Outcome]| outcomes.iter().all(is_stored);
        assert!(stored(&world.append_surely(&[&fitting[0], &fitting[1]])));
        assert!(stored(&world.append(&[&fitting[2]])));
        // When the missing update comes, those that were refused are stored, too.
        assert!(stored(&world.append_surely(&[&first, &next[0], &next[1]])));
        assert_eq!(
            block_on(rooms::waiting(&world.database, ROOM, &[2])).unwrap(),
            []
        );
    }
}

/// A single request cannot exceed the bound either.
#[test]
fn of_one_request_only_so_many_updates_wait() {
    let large = "x".repeat(WAITING_BYTES / 8);
    for (words, most) in [("x", WAITING_UPDATES), (&*large, 8)] {
        let world = World::new();
        let (doc, other) = (writer(1), writer(2));
        let (_, waiting) = without_beginning(&doc, most + 3, words);
        let fitting = typed(&other, "fits");
        let mut request: Vec<&Vec<u8>> = waiting.iter().collect();
        request.push(&fitting);
        let outcomes = world.append_surely(&request);
        let (kept, beyond) = outcomes.split_at(most);
        assert!(kept.iter().all(is_stored));
        for outcome in &beyond[..3] {
            let Outcome::Refused { code, .. } = outcome else {
                panic!("{outcome:?}");
            };
            assert_eq!(code.as_deref(), Some(wire::WAITING_FULL));
        }
        assert!(is_stored(&beyond[3]));
    }
}

/// Prints what one append costs in a room whose log is 200 kB.
#[test]
#[ignore = "measures"]
fn the_cost_of_an_append() {
    const APPENDS: u32 = 2000;
    let world = World::new();
    let doc = writer(1);
    for _ in 0..100 {
        world.append(&[&typed(&doc, &"x".repeat(2000))]);
    }
    let updates: Vec<Vec<u8>> = (0..APPENDS).map(|_| typed(&doc, "y")).collect();
    let begun = Instant::now();
    for update in &updates {
        world.append(&[update]);
    }
    println!("one append: {:?}", begun.elapsed() / APPENDS);
    let updates: Vec<Vec<u8>> = (0..APPENDS).map(|_| typed(&doc, "y")).collect();
    let begun = Instant::now();
    for batch in updates.chunks(100) {
        world.append(&batch.iter().collect::<Vec<_>>());
    }
    println!(
        "an update in a batch of 100: {:?}",
        begun.elapsed() / APPENDS
    );
    let writers: Vec<LoroDoc> = (2..102).map(writer).collect();
    let batches: Vec<Vec<Vec<u8>>> = (0..APPENDS / 100)
        .map(|_| writers.iter().map(|doc| typed(doc, "z")).collect())
        .collect();
    let begun = Instant::now();
    for batch in &batches {
        world.append(&batch.iter().collect::<Vec<_>>());
    }
    println!(
        "an update in a batch of 100 peers: {:?}",
        begun.elapsed() / APPENDS
    );
}
