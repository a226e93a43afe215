//! Tests updates with damaged bytes. Whatever Loro makes of them, a new client, a client that comes back and the state
//! have the same document, and no update except the damaged one is blamed.

#![allow(clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::Duration;

use loro::{ExportMode, LoroDoc, LoroMap, LoroValue, VersionVector};
use platform::{
    Database,
    native::{SetClock, SqliteFile, block_on},
};
use rooms::{
    Memory, RoomError,
    supervise::{self, MergeError, Merger, Wait},
};
use wire::{EncodedState, Job, Outcome, State, Update};
use xxhash_rust::xxh32::xxh32;

const ROOM: &str = "room";

/// The number of updates that are damaged, each in a room of its own.
const CASES: u64 = 2000;

/// The longest time that a process may take. All cases together take seconds.
const PATIENCE: Duration = Duration::from_secs(300);

/// The number of the case with which a process begins.
const FROM: &str = "DAMAGED_FROM";

struct World {
    database: SqliteFile,
    clock: SetClock,
}

#[async_trait::async_trait(?Send)]
impl Merger for World {
    async fn run(&self, project: &str, job: &Job) -> Result<EncodedState, MergeError> {
        let (database, clock) = (&self.database, &self.clock);
        let work = || {
            let memory = Memory::default();
            block_on(supervise::work(database, clock, project, job, memory))
        };
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(result) => result.map(EncodedState::from).map_err(MergeError::Failed),
            Err(_) => Err(MergeError::Panicked("a panic".into())),
        }
    }
}

impl World {
    fn new() -> Self {
        let clock = SetClock::default();
        clock.0.set(1000);
        Self {
            database: SqliteFile::with_schema(),
            clock,
        }
    }

    /// Empties the room.
    fn clear(&self) {
        for table in [
            "loro_updates",
            "loro_snapshots",
            "loro_blobs",
            "loro_quarantine",
            "loro_leases",
            "loro_peers",
        ] {
            block_on(
                self.database
                    .execute(&format!("DELETE FROM {table}"), vec![]),
            )
            .unwrap();
        }
    }

    fn append(&self, payload: &[u8]) -> Outcome {
        let updates = vec![Update {
            project: ROOM.into(),
            payload: payload.to_vec().into(),
            serial: None,
        }];
        let (database, clock) = (&self.database, &self.clock);
        let outcomes = rooms::append_surely(database, clock, self, "test", updates);
        block_on(outcomes).unwrap().remove(0)
    }

    /// Appends an update that is not damaged.
    fn append_good(&self, payload: &[u8]) {
        let outcome = self.append(payload);
        assert!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
    }

    fn compact(&self) -> Result<(), RoomError> {
        let (database, clock) = (&self.database, &self.clock);
        block_on(supervise::compact(
            database,
            clock,
            self,
            ROOM,
            Wait::Briefly,
        ))
    }

    fn merge(&self) -> Result<(), RoomError> {
        block_on(supervise::merge(&self.database, &self.clock, self, ROOM))
    }

    fn work(&self, job: &Job) -> State {
        let (database, clock) = (&self.database, &self.clock);
        let state = block_on(supervise::run(database, clock, self, ROOM, job)).unwrap();
        wire::decode(&state.into_body()).unwrap()
    }

    /// The document with its state, which JSON has, too.
    fn document(&self) -> Vec<LoroValue> {
        self.work(&Job::Json);
        let doc = LoroDoc::new();
        for blob in &self.work(&Job::Snapshot).blobs {
            doc.import(blob).unwrap();
        }
        roots(&doc)
    }

    fn quarantined(&self) -> Vec<u64> {
        let sql = "SELECT rev FROM loro_quarantine ORDER BY rev";
        let rows = block_on(self.database.execute(sql, vec![])).unwrap();
        rows.iter().map(|row| row.unsigned(0).unwrap()).collect()
    }

    /// Checks that a client which has this document, or an empty one, gets what is lacking and then has the same as the
    /// state.
    fn check_client(&self, client: LoroDoc, document: &[LoroValue]) {
        let version = client.oplog_vv().encode();
        let version = Some(&version[..]).filter(|_| !client.oplog_vv().is_empty());
        let state = rooms::state(&self.database, &self.clock, self, ROOM, version);
        let state: State = wire::decode(&block_on(state).unwrap().into_body()).unwrap();
        for blob in &state.blobs {
            client.import(blob).unwrap();
        }
        let version = VersionVector::decode(&state.version).unwrap();
        // The version of the answer leaves out the log.
        assert!(client.oplog_vv().includes_vv(&version));
        assert_eq!(roots(&client), document);
    }
}

/// Returns the containers that the writers have written into: a damaged update may make another container of the same
/// name.
fn roots(doc: &LoroDoc) -> Vec<LoroValue> {
    vec![
        doc.get_text("text").get_richtext_value(),
        doc.get_map("map").get_deep_value(),
        doc.get_map("nodes").get_deep_value(),
        doc.get_map("later").get_deep_value(),
        doc.get_movable_list("list").get_deep_value(),
        doc.get_tree("tree").get_value_with_meta(),
    ]
}

/// A generator of random numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn of(case: u64) -> Self {
        let mut random = Self(case.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..5 {
            random.below(2);
        }
        random
    }

    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % most as u64).unwrap()
    }
}

fn edit(doc: &LoroDoc, random: &mut Random) {
    let n = doc.len_ops() as i64;
    match random.below(6) {
        0 => {
            let text = doc.get_text("text");
            let at = random.below(text.len_unicode() + 1);
            text.insert(at, "hello").unwrap();
        }
        1 => {
            let text = doc.get_text("text");
            let length = text.len_unicode();
            if length > 2 {
                text.delete(random.below(length - 1), 1).unwrap();
            }
        }
        2 => {
            let key = random.below(5).to_string();
            doc.get_map("map").insert(&key, n).unwrap();
        }
        3 => {
            let nodes = doc.get_map("nodes");
            let node = nodes.insert_container(&n.to_string(), LoroMap::new());
            node.unwrap().insert("x", n).unwrap();
        }
        4 => {
            let list = doc.get_movable_list("list");
            let length = list.len();
            if length > 2 && random.below(2) == 0 {
                list.mov(random.below(length), random.below(length))
                    .unwrap();
            } else {
                list.insert(random.below(length + 1), n).unwrap();
            }
        }
        _ => {
            let tree = doc.get_tree("tree");
            let nodes = tree.nodes();
            if nodes.len() > 2 && random.below(2) == 0 {
                let (one, other) = (random.below(nodes.len()), random.below(nodes.len()));
                // A node is not moved below itself.
                tree.mov(nodes[one], nodes[other]).ok();
            } else {
                tree.create(None).unwrap();
            }
        }
    }
    if random.below(4) == 0 {
        doc.commit();
    }
}

/// A document, and an update for it, by several writers.
fn written(random: &mut Random) -> (LoroDoc, Vec<u8>) {
    let doc = LoroDoc::new();
    doc.set_peer_id(1).unwrap();
    for _ in 0..10 {
        edit(&doc, random);
    }
    doc.commit();
    let base = doc.fork();
    let known = match random.below(8) {
        0 => VersionVector::default(),
        _ => doc.oplog_vv(),
    };
    for peer in 2..2 + random.below(4) as u64 {
        let other = doc.fork();
        other.set_peer_id(peer).unwrap();
        for _ in 0..=random.below(6) {
            edit(&other, random);
        }
        other.commit();
        let news = other.export(ExportMode::updates(&doc.oplog_vv()));
        doc.import(&news.unwrap()).unwrap();
        edit(&doc, random);
        doc.commit();
    }
    (base, doc.export(ExportMode::updates(&known)).unwrap())
}

/// Flips bits of an update and makes its checksum right, so that nothing else finds the damage first.
fn damaged(mut update: Vec<u8>, random: &mut Random) -> Vec<u8> {
    const CHECKED_FROM: usize = 20;
    const BLOCKS_FROM: usize = 22;
    for _ in 0..=random.below(2) {
        let at = BLOCKS_FROM + random.below(update.len() - BLOCKS_FROM);
        update[at] ^= 1 << random.below(8);
    }
    let checksum = xxh32(&update[CHECKED_FROM..], u32::from_le_bytes(*b"LORO"));
    update[CHECKED_FROM - 4..CHECKED_FROM].copy_from_slice(&checksum.to_le_bytes());
    update
}

/// Stores a damaged update among others, if the app takes it, and reads the room in every way.
fn check(world: &World, case: u64) {
    let mut random = Random::of(case);
    world.clear();
    let (base, update) = written(&mut random);
    if update.len() < 30 {
        return;
    }
    let damaged = damaged(update, &mut random);
    world.append_good(&base.export(ExportMode::all_updates()).unwrap());
    if random.below(2) == 0 {
        world.compact().unwrap();
    }
    // If the append panics, the relay gets an error, and refuses the update.
    let outcome = catch_unwind(AssertUnwindSafe(|| world.append(&damaged)));
    if !matches!(outcome, Ok(Outcome::Stored { .. })) {
        return;
    }
    let later = match random.below(3) {
        0 => LoroDoc::new(),
        _ => base.fork(),
    };
    later.set_peer_id(99).unwrap();
    let before = later.oplog_vv();
    later.get_map("later").insert("a", 1).unwrap();
    later.commit();
    if random.below(3) > 0 {
        world.append_good(&later.export(ExportMode::updates(&before)).unwrap());
    }
    let document = world.document();
    world.check_client(LoroDoc::new(), &document);
    world.compact().unwrap();
    world.merge().unwrap();
    assert_eq!(world.document(), document);
    world.check_client(LoroDoc::new(), &document);
    world.check_client(base, &document);
    let blamed = world.quarantined();
    assert!(blamed.is_empty() || blamed == [2], "blamed: {blamed:?}");
}

/// A panic of Loro's code ends an instance in Wasm. Natively, a second panic while the first unwinds ends the
/// process. So the cases run in a process of their own, and if it ends, the next process goes on after that case.
#[test]
fn a_damaged_update_is_refused_or_alone_to_blame_or_part_of_all() {
    let mut from = 0;
    let mut ended = 0;
    while from < CASES {
        let test = std::env::current_exe().unwrap();
        let output = Command::new(test)
            .args(["--exact", "cases", "--ignored", "--nocapture"])
            .env(FROM, from.to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        if output.status.success() {
            assert!(said.contains(" 1 passed;"), "no cases ran: {said}");
            break;
        }
        let mut cases = said.lines().filter_map(|line| line.strip_prefix("case "));
        let last: u64 = cases.next_back().unwrap().parse().unwrap();
        // A test that fails has an exit code.
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), None, "case {last}: {errors}");
        ended += 1;
        from = last + 1;
    }
    assert!(ended < CASES / 20, "{ended} of {CASES} were not decided");
}

#[test]
#[ignore = "the test above runs it"]
fn cases() {
    let Ok(from) = std::env::var(FROM) else {
        return;
    };
    std::thread::spawn(|| {
        std::thread::sleep(PATIENCE);
        eprintln!("the cases took longer than {PATIENCE:?}");
        std::process::exit(1);
    });
    let world = World::new();
    for case in from.parse().unwrap()..CASES {
        println!("case {case}");
        check(&world, case);
    }
}
