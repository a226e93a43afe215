//! Tests the room log against the simplest model: one `LoroDoc` in memory that imports every acknowledged update.
//!
//! Editors edit at random. Compactions and merges run at random, also two of them at once, and their instances panic,
//! die at any statement or are not free. The database is killed between any two statements, and updates are replayed.
//! The state that a client gets when it joins always equals the model, and no update is ever blamed.

#![allow(clippy::unwrap_used)]

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, HashMap},
};

use loro::{ExportMode, LoroDoc, ToJson, VersionVector};
use platform::{
    Database, DatabaseError, Row, Value, migrations,
    native::{KillableDatabase, SetClock, block_on, database_in},
};
use proptest::prelude::*;
use rooms::{
    Memory, Merged, limits,
    supervise::{self, MergeError, Merger, Wait},
};
use wire::{EncodedState, Job, Outcome, State, Update};

/// Merges in this process, unless a fault comes first.
struct Here<'a> {
    database: &'a KillableDatabase,
    clock: &'a SetClock,
    /// The faults of the next runs; the last one comes first.
    faults: RefCell<Vec<Option<Fault>>>,
    memory: Memory,
}

/// The ways in which the instance of a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The instance's code panics, though no update is to blame.
    Panic,
    /// The instance has no time or no memory left after this number of statements. If it needs fewer, only its answer
    /// is lost.
    Death(u32),
    /// The host has no free instance.
    NoPlace,
}

/// The database as one instance sees it. Once, before a statement, something comes in between.
struct Instance<'a> {
    database: &'a KillableDatabase,
    /// The statements before that.
    left: Cell<u32>,
    /// The work that comes in between. It returns whether the instance lives on.
    between: RefCell<Option<Box<dyn FnOnce() -> bool + 'a>>>,
    is_dead: Cell<bool>,
}

impl<'a> Instance<'a> {
    fn new(
        database: &'a KillableDatabase,
        statements: u32,
        between: impl FnOnce() -> bool + 'a,
    ) -> Self {
        Self {
            database,
            left: Cell::new(statements),
            between: RefCell::new(Some(Box::new(between))),
            is_dead: Cell::new(false),
        }
    }

    /// Does now the work that comes in between, if it was not done yet.
    fn interrupt(&self) {
        let between = self.between.borrow_mut().take();
        if let Some(between) = between {
            self.is_dead.set(!between());
        }
    }
}

#[async_trait::async_trait(?Send)]
impl Database for Instance<'_> {
    async fn execute(&self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Row>, DatabaseError> {
        match self.left.get() {
            0 => self.interrupt(),
            left => self.left.set(left - 1),
        }
        if self.is_dead.get() {
            return Err(DatabaseError::Failed("the instance is dead".into()));
        }
        self.database.execute(sql, parameters).await
    }
}

#[async_trait::async_trait(?Send)]
impl Merger for Here<'_> {
    async fn run(&self, project: &str, job: &Job) -> Result<EncodedState, MergeError> {
        let fault = self.faults.borrow_mut().pop().flatten();
        match fault {
            // All updates of this test are good, so a trial of one of them does not panic.
            Some(Fault::Panic) if !matches!(job, Job::Until { .. }) => {
                return Err(MergeError::Panicked("of no update".into()));
            }
            Some(Fault::NoPlace) => return Err(MergeError::Busy),
            Some(Fault::Death(statements)) => {
                let database = Instance::new(self.database, statements, || false);
                let _ = supervise::work(&database, self.clock, project, job, self.memory).await;
                return Err(MergeError::Died("no time or no memory".into()));
            }
            Some(Fault::Panic) | None => {}
        }
        supervise::work(self.database, self.clock, project, job, self.memory)
            .await
            .map(EncodedState::from)
            .map_err(MergeError::Failed)
    }

    fn memory(&self) -> Memory {
        self.memory
    }
}

/// The memory of an instance: enough for a state, or so little that Loro is not to read the log either.
fn memory() -> impl Strategy<Value = Memory> {
    prop_oneof![2 => Just(Memory::default()), 1 => Just(Memory::of_mib(6))]
}

/// The next event.
#[derive(Debug, Clone)]
enum Step {
    /// An editor types, draws or deletes.
    Edit {
        editor: usize,
        what: u8,
        at: u16,
    },
    /// The editors send what they have not sent, together in one append.
    Send {
        editors: Vec<usize>,
        killed: Option<(u32, bool)>,
    },
    /// An editor keeps back the update that it would send next.
    Withhold {
        editor: usize,
    },
    /// An editor sends the updates that it kept back.
    Release {
        editor: usize,
    },
    /// An editor joins anew and imports the room's state.
    Join {
        editor: usize,
        with_version: bool,
    },
    /// An acknowledged update is sent again as a new one.
    Replay {
        which: u16,
    },
    /// An editor sends again what it has since a version that it had before, as after a lost connection.
    Resend {
        editor: usize,
        since: u16,
    },
    /// A client writes under the peer id of an editor.
    Conflict {
        editor: usize,
        beside_others: bool,
    },
    /// A relay that has lost an answer asks again.
    Repeat {
        which: u16,
        beside_others: bool,
    },
    Compact {
        killed: Option<(u32, bool)>,
    },
    /// A caller asks for a compaction or a merge, and its instances may fail.
    Ask {
        merge: bool,
        faults: Vec<Option<Fault>>,
        memory: Memory,
        killed: Option<(u32, bool)>,
        /// Says whether the waits after earlier failures are over.
        later: bool,
    },
    /// The work of two instances at once: the second one works between two statements of the first, and an editor may
    /// send something in between, too.
    Twice {
        first: Job,
        statements: u32,
        second: Job,
        sending: Option<usize>,
        memory: Memory,
        killed: Option<(u32, bool)>,
    },
    /// A compaction reads, and writes only when `CompactEnd` comes.
    CompactBegin,
    CompactEnd {
        killed: Option<(u32, bool)>,
    },
}

fn killed() -> impl Strategy<Value = Option<(u32, bool)>> {
    prop_oneof![3 => Just(None), 1 => (1..4u32, any::<bool>()).prop_map(Some)]
}

fn fault() -> impl Strategy<Value = Option<Fault>> {
    prop_oneof![
        3 => Just(None),
        1 => Just(Some(Fault::Panic)),
        1 => (0..8u32).prop_map(|statements| Some(Fault::Death(statements))),
        1 => Just(Some(Fault::NoPlace)),
    ]
}

/// A job that changes how a room is stored.
fn job() -> impl Strategy<Value = Job> {
    prop_oneof![
        Just(Job::Compact),
        Just(Job::Pack),
        Just(Job::Merge),
        Just(Job::Fold)
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let editor = 0..EDITORS;
    prop_oneof![
        8 => (editor.clone(), any::<u8>(), any::<u16>())
            .prop_map(|(editor, what, at)| Step::Edit { editor, what, at }),
        6 => (prop::collection::vec(editor.clone(), 1..4), killed())
            .prop_map(|(editors, killed)| Step::Send { editors, killed }),
        1 => editor.clone().prop_map(|editor| Step::Withhold { editor }),
        1 => editor.clone().prop_map(|editor| Step::Release { editor }),
        1 => any::<u16>().prop_map(|which| Step::Replay { which }),
        2 => (editor.clone(), any::<u16>())
            .prop_map(|(editor, since)| Step::Resend { editor, since }),
        1 => (editor.clone(), any::<bool>())
            .prop_map(|(editor, beside_others)| Step::Conflict { editor, beside_others }),
        2 => (editor, any::<bool>())
            .prop_map(|(editor, with_version)| Step::Join { editor, with_version }),
        2 => (any::<u16>(), any::<bool>())
            .prop_map(|(which, beside_others)| Step::Repeat { which, beside_others }),
        1 => killed().prop_map(|killed| Step::Compact { killed }),
        2 => (any::<bool>(), prop::collection::vec(fault(), 0..5), memory(), killed(), any::<bool>())
            .prop_map(|(merge, faults, memory, killed, later)| Step::Ask {
                merge,
                faults,
                memory,
                killed,
                later,
            }),
        2 => (job(), 0..7u32, job(), prop::option::of(0..EDITORS), memory(), killed()).prop_map(
            |(first, statements, second, sending, memory, killed)| Step::Twice {
                first,
                statements,
                second,
                sending,
                memory,
                killed,
            }
        ),
        1 => Just(Step::CompactBegin),
        1 => killed().prop_map(|killed| Step::CompactEnd { killed }),
    ]
}

const EDITORS: usize = 3;
const ROOM: &str = "room";

struct Editor {
    doc: LoroDoc,
    sent: VersionVector,
    withheld: Vec<Vec<u8>>,
}

impl Editor {
    fn edit(&self, what: u8, at: u16) {
        let at = usize::from(at);
        let text = self.doc.get_text("text");
        let list = self.doc.get_list("list");
        match what % 5 {
            0 => text
                .insert(at % (text.len_unicode() + 1), "hello ")
                .unwrap(),
            1 if text.len_unicode() > 0 => text.delete(at % text.len_unicode(), 1).unwrap(),
            2 => {
                let key = (at % 7).to_string();
                let node = self.doc.get_map("nodes");
                node.insert(&key, i64::from(what)).unwrap();
            }
            3 => list.insert(at % (list.len() + 1), i64::from(what)).unwrap(),
            _ if !list.is_empty() => list.delete(at % list.len(), 1).unwrap(),
            _ => text.insert(0, "x").unwrap(),
        }
        self.doc.commit();
    }

    fn take_unsent(&mut self) -> Option<Vec<u8>> {
        let version = self.doc.oplog_vv();
        if version == self.sent {
            return None;
        }
        let update = self.doc.export(ExportMode::updates(&self.sent)).unwrap();
        self.sent = version;
        Some(update)
    }
}

struct Acknowledged {
    update: Update,
    rev: u64,
    /// The time at which it was stored, in Unix seconds.
    at: i64,
}

struct World {
    database: KillableDatabase,
    clock: SetClock,
    editors: Vec<Editor>,
    model: LoroDoc,
    acknowledged: Vec<Acknowledged>,
    revs: BTreeSet<u64>,
    serial: u64,
    unfinished: Option<Merged>,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = KillableDatabase::new(database_in(&folder.path().join("rooms.db")).unwrap());
        let clock = SetClock::default();
        block_on(migrations::apply(&database, &clock)).unwrap();
        let editors = (0..EDITORS)
            .map(|n| {
                let doc = LoroDoc::new();
                doc.set_peer_id(n as u64 + 1).unwrap();
                Editor {
                    doc,
                    sent: VersionVector::default(),
                    withheld: Vec::new(),
                }
            })
            .collect();
        Self {
            database,
            clock,
            editors,
            model: LoroDoc::new(),
            acknowledged: Vec::new(),
            revs: BTreeSet::new(),
            serial: 0,
            unfinished: None,
            _folder: folder,
        }
    }

    /// Puts the log into a snapshot.
    fn compacts(&self) {
        let (database, clock) = (&self.database, &self.clock);
        let merged = block_on(rooms::merge(database, clock, ROOM, Memory::default())).unwrap();
        block_on(rooms::compact(database, clock, ROOM, &merged)).unwrap();
    }

    /// Runs something with a database that may be killed meanwhile, and revives the database.
    fn mortal<T>(&self, killed: Option<(u32, bool)>, run: impl FnOnce(&Self) -> T) -> T {
        if let Some((statements, last_happens)) = killed {
            self.database.kill_after(statements, last_happens);
        }
        let result = run(self);
        self.database.revive();
        result
    }

    fn update(&mut self, payload: Vec<u8>) -> Update {
        self.serial += 1;
        Update {
            project: ROOM.into(),
            payload: payload.into(),
            serial: Some(self.serial),
        }
    }

    fn append(&mut self, payloads: Vec<Vec<u8>>, killed: Option<(u32, bool)>) {
        let updates: Vec<Update> = payloads.into_iter().map(|p| self.update(p)).collect();
        self.append_updates(updates, killed);
    }

    fn append_updates(&mut self, updates: Vec<Update>, killed: Option<(u32, bool)>) {
        let outcomes = self.outcomes(&updates, killed);
        let mut new = Vec::new();
        for (update, outcome) in updates.into_iter().zip(outcomes) {
            let Outcome::Stored { rev, waits } = outcome else {
                panic!("a good update was refused: {outcome:?}");
            };
            let mut known = self.acknowledged.iter();
            if let Some(known) = known.find(|known| known.update.serial == update.serial) {
                assert_eq!(rev, known.rev, "a repeat got another rev");
                continue;
            }
            new.push((rev, waits, update));
        }
        new.sort_by_key(|(rev, ..)| *rev);
        for (rev, waits, update) in new {
            assert!(self.revs.insert(rev), "rev {rev} was given twice");
            assert_eq!(self.revs.len() as u64, rev, "an update was stored twice");
            let status = self.model.import(&update.payload).unwrap();
            assert!(
                waits.is_some() || status.pending.is_none(),
                "an update waits, and its outcome does not say so"
            );
            let at = self.clock.0.get();
            self.acknowledged.push(Acknowledged { update, rev, at });
        }
    }

    /// The outcomes of an append whose answer may be lost.
    fn outcomes(&self, updates: &[Update], killed: Option<(u32, bool)>) -> Vec<Outcome> {
        let send = |world: &Self| {
            let here = Here {
                database: &world.database,
                clock: &world.clock,
                faults: RefCell::default(),
                memory: Memory::default(),
            };
            let (database, clock) = (&world.database, &world.clock);
            let updates = updates.to_vec();
            block_on(rooms::append_surely(
                database, clock, &here, "test", updates,
            ))
        };
        let outcomes = match self.mortal(killed, send) {
            Ok(outcomes) => outcomes,
            // The updates may be stored or not. The test sends them again, as a relay does.
            Err(_) => send(self).unwrap(),
        };
        assert_eq!(outcomes.len(), updates.len());
        outcomes
    }

    /// Sends an update with other operations than an editor's own under its peer id, and one that builds on it and
    /// would fit the editor's, which must be refused.
    fn conflict(&mut self, editor: usize, beside_others: bool) {
        let peer = editor as u64 + 1;
        let end = self.model.oplog_vv().get(&peer).copied().unwrap_or(0);
        if end == 0 {
            return;
        }
        let other = LoroDoc::new();
        other.set_peer_id(peer).unwrap();
        let write = |operations: std::ops::Range<i32>| {
            let before = other.oplog_vv();
            for n in operations {
                other.get_map("elsewhere").insert("x", n).unwrap();
            }
            other.commit();
            other.export(ExportMode::updates(&before)).unwrap()
        };
        let mut updates = vec![self.update(write(0..end)), self.update(write(end..end + 1))];
        if beside_others {
            let own = self.editors[editor].doc.export(ExportMode::all_updates());
            updates.insert(0, self.update(own.unwrap()));
        }
        let outcomes = self.outcomes(&updates, None);
        for refused in outcomes.iter().rev().take(2) {
            assert!(
                matches!(refused, Outcome::Refused { code: Some(code), .. } if code == wire::DUPLICATE_PEER),
                "{refused:?}"
            );
        }
        if beside_others {
            self.append_updates(vec![updates.remove(0)], None);
        }
    }

    fn state(&self, version: Option<&[u8]>) -> State {
        let here = Here {
            database: &self.database,
            clock: &self.clock,
            faults: RefCell::default(),
            memory: Memory::default(),
        };
        let state = block_on(rooms::state(
            &self.database,
            &self.clock,
            &here,
            ROOM,
            version,
        ));
        wire::decode(&state.unwrap().into_body()).unwrap()
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Edit { editor, what, at } => self.editors[editor].edit(what, at),
            Step::Send { editors, killed } => {
                let payloads: Vec<Vec<u8>> = editors
                    .into_iter()
                    .filter_map(|editor| self.editors[editor].take_unsent())
                    .collect();
                if !payloads.is_empty() {
                    self.append(payloads, killed);
                }
            }
            Step::Withhold { editor } => {
                let editor = &mut self.editors[editor];
                let update = editor.take_unsent();
                editor.withheld.extend(update);
            }
            Step::Release { editor } => {
                let withheld = std::mem::take(&mut self.editors[editor].withheld);
                if !withheld.is_empty() {
                    self.append(withheld, None);
                }
            }
            Step::Join {
                editor,
                with_version,
            } => {
                let version = with_version.then(|| self.editors[editor].doc.oplog_vv().encode());
                let state = self.state(version.as_deref());
                for blob in &state.blobs {
                    self.editors[editor].doc.import(blob).unwrap();
                }
            }
            Step::Replay { which } => {
                if let Some(n) = usize::from(which).checked_rem(self.acknowledged.len()) {
                    self.append(vec![self.acknowledged[n].update.payload.to_vec()], None);
                }
            }
            Step::Resend { editor, since } => {
                let doc = &self.editors[editor].doc;
                let mut version = doc.oplog_vv();
                for end in version.values_mut() {
                    *end = i32::from(since) % (*end + 1);
                }
                let update = doc.export(ExportMode::updates(&version)).unwrap();
                if doc.oplog_vv() != version {
                    self.append(vec![update], None);
                }
            }
            Step::Conflict {
                editor,
                beside_others,
            } => self.conflict(editor, beside_others),
            Step::Repeat {
                which,
                beside_others,
            } => {
                let since = self.clock.0.get() - wire::REPEATED_WITHIN.as_secs() as i64;
                let mut recent = self.acknowledged.iter().filter(|update| update.at >= since);
                let many = recent.clone().count();
                if let Some(n) = usize::from(which).checked_rem(many) {
                    let mut updates: Vec<Update> = recent
                        .nth(n)
                        .map(|known| known.update.clone())
                        .into_iter()
                        .collect();
                    if beside_others {
                        let payload = updates[0].payload.to_vec();
                        updates.insert(0, self.update(payload));
                    }
                    self.append_updates(updates, None);
                }
            }
            Step::Compact { killed } => {
                self.mortal(killed, |world| {
                    let merged = block_on(rooms::merge(
                        &world.database,
                        &world.clock,
                        ROOM,
                        Memory::default(),
                    ));
                    if let Ok(merged) = merged {
                        let compact = rooms::compact(&world.database, &world.clock, ROOM, &merged);
                        let _ = block_on(compact);
                    }
                });
            }
            Step::Ask {
                merge,
                faults,
                memory,
                killed,
                later,
            } => {
                if later {
                    self.clock.0.set(self.clock.0.get() + 8000);
                }
                self.mortal(killed, |world| {
                    let here = Here {
                        database: &world.database,
                        clock: &world.clock,
                        faults: RefCell::new(faults),
                        memory,
                    };
                    let (database, clock) = (&world.database, &world.clock);
                    // Work that fails is tried again later.
                    let _ = if merge {
                        block_on(supervise::merge(database, clock, &here, ROOM))
                    } else {
                        block_on(supervise::compact(database, clock, &here, ROOM, Wait::No))
                    };
                });
            }
            Step::Twice {
                first,
                statements,
                second,
                sending,
                memory,
                killed,
            } => {
                let jobs = [&first, &second];
                self.twice(jobs, statements, sending, memory, killed);
            }
            Step::CompactBegin => {
                let merged = block_on(rooms::merge(
                    &self.database,
                    &self.clock,
                    ROOM,
                    Memory::default(),
                ))
                .unwrap();
                self.unfinished = Some(merged);
            }
            Step::CompactEnd { killed } => {
                if let Some(merged) = self.unfinished.take() {
                    self.mortal(killed, |world| {
                        let compact = rooms::compact(&world.database, &world.clock, ROOM, &merged);
                        let _ = block_on(compact);
                    });
                }
            }
        }
    }

    fn twice(
        &mut self,
        [first, second]: [&Job; 2],
        statements: u32,
        sending: Option<usize>,
        memory: Memory,
        killed: Option<(u32, bool)>,
    ) {
        let payload = sending.and_then(|editor| self.editors[editor].take_unsent());
        let sent: Vec<Update> = payload.map(|p| self.update(p)).into_iter().collect();
        self.mortal(killed, |world| {
            let (database, clock) = (&world.database, &world.clock);
            let between = || {
                let _ = block_on(rooms::append(database, clock, "test", sent.clone()));
                let _ = block_on(supervise::work(database, clock, ROOM, second, memory));
                true
            };
            let instance = Instance::new(database, statements, between);
            let _ = block_on(supervise::work(&instance, clock, ROOM, first, memory));
            instance.interrupt();
        });
        if !sent.is_empty() {
            // The relay has lost the answer, and asks again.
            self.append_updates(sent, None);
        }
    }

    fn check(&self) {
        let joined = LoroDoc::new();
        let state = self.state(None);
        for blob in &state.blobs {
            joined.import(blob).unwrap();
        }
        assert_eq!(joined.oplog_vv(), self.model.oplog_vv());
        assert_eq!(
            joined.get_deep_value().to_json_value(),
            self.model.get_deep_value().to_json_value()
        );
        // Updates that wait for a withheld one must still be there when it comes at last.
        for editor in &self.editors {
            for update in &editor.withheld {
                joined.import(update).unwrap();
            }
        }
        let complete = LoroDoc::new();
        for update in self
            .acknowledged
            .iter()
            .map(|known| &known.update.payload[..])
            .chain(
                self.editors
                    .iter()
                    .flat_map(|editor| &editor.withheld)
                    .map(Vec::as_slice),
            )
        {
            complete.import(update).unwrap();
        }
        assert_eq!(joined.oplog_vv(), complete.oplog_vv());

        let revs: Vec<u64> = self.revs.iter().copied().collect();
        let waiting = block_on(rooms::waiting(&self.database, ROOM, &revs)).unwrap();
        let version = self.model.oplog_vv();
        let expected = self.acknowledged.iter().filter(|known| {
            let meta = LoroDoc::decode_import_blob_meta(&known.update.payload, false).unwrap();
            !version.includes_vv(&meta.partial_end_vv)
        });
        let expected: BTreeSet<u64> = expected.map(|known| known.rev).collect();
        let found: BTreeSet<u64> = waiting.iter().map(|waiting| waiting.rev).collect();
        assert_eq!(found, expected);
        for waiting in waiting {
            let reached = version.get(&waiting.peer).copied().unwrap_or(0);
            assert_eq!(waiting.counter as i32, reached, "{waiting:?}");
        }

        let quarantined = self
            .database
            .execute("SELECT rev FROM loro_quarantine", vec![]);
        assert_eq!(block_on(quarantined).unwrap(), []);

        let head = block_on(rooms::head(&self.database, ROOM)).unwrap();
        assert!(head >= self.revs.last().copied().unwrap_or(0));
        assert_eq!(state.rev, head);
        assert!(
            self.model
                .oplog_vv()
                .includes_vv(&VersionVector::decode(&state.version).unwrap())
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.min(96), ..ProptestConfig::default() })]

    #[test]
    fn the_joined_state_is_the_merge_of_all_acknowledged_updates(
        steps in prop::collection::vec(step(), 1..80)
    ) {
        let mut world = World::new();
        for step in steps {
            let looks = matches!(
                step,
                Step::Compact { .. }
                    | Step::CompactEnd { .. }
                    | Step::Ask { .. }
                    | Step::Twice { .. }
                    | Step::Send { killed: Some(_), .. }
            );
            world.step(step);
            if looks {
                world.check();
            }
        }
        world.check();
    }

    /// Checks that one statement serves many rooms, and that each room has its own revs, dense and in the order of the
    /// batch.
    #[test]
    fn an_append_for_many_rooms_counts_in_each(
        batches in prop::collection::vec(prop::collection::vec(0..5u8, 1..20), 1..6)
    ) {
        let world = World::new();
        let mut counts: HashMap<u8, u64> = HashMap::new();
        let doc = LoroDoc::new();
        doc.get_text("text").insert(0, "hi").unwrap();
        doc.commit();
        let good = doc.export(ExportMode::all_updates()).unwrap();
        for batch in batches {
            let updates = batch
                .iter()
                .map(|room| Update {
                    project: room.to_string(),
                    // Room 4 gets nonsense: it is refused, and no other room notices.
                    payload: if *room == 4 { b"nonsense".to_vec() } else { good.clone() }.into(),
                    serial: None,
                })
                .collect();
            let append = rooms::append(&world.database, &world.clock, "test", updates);
            let outcomes = block_on(append).unwrap();
            for (room, outcome) in batch.iter().zip(outcomes) {
                if *room == 4 {
                    let refused = matches!(outcome, Outcome::Refused { .. });
                    prop_assert!(refused);
                } else {
                    let count = counts.entry(*room).or_default();
                    *count += 1;
                    prop_assert_eq!(outcome, Outcome::Stored { rev: *count, waits: None });
                }
            }
        }
        let projects: Vec<String> = (0..5).map(|room| room.to_string()).collect();
        let heads = block_on(rooms::heads(&world.database, &projects)).unwrap();
        let expected: Vec<u64> = (0..5).map(|room| counts.get(&room).copied().unwrap_or(0)).collect();
        prop_assert_eq!(heads, expected);
    }
}

#[test]
fn a_long_log_is_never_handed_to_a_client_that_joins() {
    let mut world = World::new();
    for n in 0..1500u16 {
        world.editors[0].edit(0, n);
        let update = world.editors[0].take_unsent().unwrap();
        world.append(vec![update], None);
    }
    let state = world.state(None);
    assert!(
        state.blobs.len() <= limits::STATE_UPDATES + 1,
        "{}",
        state.blobs.len()
    );
    world.check();
}

#[test]
fn a_client_that_joins_gets_few_blobs_also_while_a_compaction_is_under_way() {
    for is_compacted_before in [false, true] {
        let mut world = World::new();
        for n in 0..500u16 {
            world.editors[0].edit(0, n);
            let update = world.editors[0].take_unsent().unwrap();
            world.append(vec![update], None);
            if n == 50 && is_compacted_before {
                world.compacts();
            }
        }
        let now = world.clock.0.get();
        let lease = "INSERT INTO loro_leases VALUES (?1, 'compact', 'another', 1, ?2, 1, ?2)";
        let parameters = vec![ROOM.into(), (now + 3600).into()];
        block_on(world.database.execute(lease, parameters)).unwrap();
        let state = world.state(None);
        assert_eq!(state.rev, 500);
        assert_eq!(state.blobs.len(), 1 + usize::from(is_compacted_before));
        world.check();
    }
}

#[test]
fn a_relay_gets_what_it_lacks_and_no_more() {
    let mut world = World::new();
    for n in 0..10 {
        world.editors[0].edit(0, n);
        let update = world.editors[0].take_unsent().unwrap();
        world.append(vec![update], None);
    }
    let after = |rev| block_on(rooms::updates_after(&world.database, ROOM, rev)).unwrap();
    let blobs: Vec<Vec<u8>> = after(7).blobs.into_iter().map(Into::into).collect();
    let acknowledged = world.acknowledged[7..].iter();
    let expected: Vec<Vec<u8>> = acknowledged
        .map(|known| known.update.payload.to_vec())
        .collect();
    assert_eq!(blobs, expected);
    assert_eq!(after(7).rev, 10);
    assert_eq!((after(10).rev, after(10).blobs.len()), (10, 0));

    world.compacts();
    // The log is gone; the snapshot holds all.
    assert_eq!((after(7).rev, after(7).blobs.len()), (10, 1));
    assert_eq!((after(10).rev, after(10).blobs.len()), (10, 0));
}

#[test]
fn the_sweep_finds_what_is_due_by_age_count_or_bytes() {
    let mut world = World::new();
    let sweep = |world: &World| block_on(rooms::sweep(&world.database, &world.clock, 10)).unwrap();
    world.clock.0.set(1000);
    world.editors[0].edit(0, 0);
    let update = world.editors[0].take_unsent().unwrap();
    world.append(vec![update.clone()], None);
    assert!(sweep(&world).is_empty());
    world.clock.0.set(1000 + limits::COMPACT_SECONDS);
    assert_eq!(sweep(&world), [ROOM]);

    world.compacts();
    assert!(sweep(&world).is_empty());

    for _ in 0..limits::COMPACT_UPDATES {
        world.append(vec![update.clone()], None);
    }
    assert_eq!(sweep(&world), [ROOM]);
    assert!(block_on(rooms::is_due(&world.database, ROOM)).unwrap());
}
