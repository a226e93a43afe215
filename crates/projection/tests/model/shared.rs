//! The state that the world and the fake services share: chance, time, what is to happen, and which process runs.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashSet},
    rc::Rc,
    task::Waker,
};

/// The milliseconds in which users do something, and things go wrong.
pub(crate) const CHAOS: u64 = 240_000;

/// An action of a process.
#[derive(Debug, Clone)]
pub(crate) enum Job {
    /// A round of a poller.
    Tick,
    /// A user posts a task for a project, perhaps for one of its nodes.
    Post {
        project: u64,
        kind: &'static str,
        node: Option<u64>,
    },
    /// A user cancels one of the tasks.
    Cancel(u64),
    /// A user sets one of the tasks back.
    Retry(u64),
    /// The app asks itself for a submission.
    Submission {
        service: String,
        answer: Rc<Cell<Option<u16>>>,
    },
    /// A service calls back.
    CallBack {
        service: &'static str,
        job: String,
        body: String,
    },
    /// An event about a project arrives.
    Project(String),
}

/// The state of chance and time.
pub(crate) struct Shared {
    random: Cell<u64>,
    /// The milliseconds since the beginning.
    pub(crate) now: Cell<u64>,
    /// The jobs that happen later, by their time and a number.
    pub(crate) timeline: RefCell<BTreeMap<(u64, u64), Job>>,
    pub(crate) sleepers: RefCell<BTreeMap<(u64, u64), Waker>>,
    numbers: Cell<u64>,
    /// The number of statements so far.
    pub(crate) statements: Cell<u64>,
    /// The most tasks that may be under way at each service.
    pub(crate) places: Cell<u32>,
    /// Says whether nothing goes wrong at all.
    pub(crate) is_calm: Cell<bool>,
    /// Says whether anything may go wrong.
    pub(crate) is_chaos: Cell<bool>,
    /// Says whether the service of films is asked about several jobs in one question.
    pub(crate) is_together: bool,
    /// The process that runs.
    pub(crate) process: Cell<u64>,
    /// The processes that have died, or were held up.
    pub(crate) dead: RefCell<HashSet<u64>>,
}

impl Shared {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Cell::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d),
            now: Cell::new(0),
            timeline: RefCell::default(),
            sleepers: RefCell::default(),
            numbers: Cell::new(0),
            statements: Cell::new(0),
            places: Cell::new(5),
            is_calm: Cell::default(),
            is_chaos: Cell::new(true),
            is_together: seed % 2 == 1,
            process: Cell::new(0),
            dead: RefCell::default(),
        }
    }

    /// A number below `n`.
    pub(crate) fn below(&self, n: u64) -> u64 {
        // SplitMix64.
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    /// Returns `true` by chance, `n` times in a hundred, while things may go wrong.
    pub(crate) fn mishap(&self, n: u64) -> bool {
        self.is_chaos.get() && self.below(100) < n
    }

    pub(crate) fn number(&self) -> u64 {
        self.numbers.set(self.numbers.get() + 1);
        self.numbers.get()
    }

    /// Schedules a job this many milliseconds from now.
    pub(crate) fn later(&self, milliseconds: u64, job: Job) {
        let at = (self.now.get() + milliseconds, self.number());
        self.timeline.borrow_mut().insert(at, job);
    }

    pub(crate) fn unix_seconds(&self) -> i64 {
        1_700_000_000 + (self.now.get() / 1000) as i64
    }
}
