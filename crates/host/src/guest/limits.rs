//! The limits of the memory and the time that an instance may use.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use wasmtime::{ResourceLimiter, Store, UpdateDeadline};

use crate::budget::Claim;
use crate::machine;
use crate::other_host::{HostLimits, OtherHost};

/// The limits of one instance, and of the number of instances.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The bytes of linear memory of one instance.
    pub memory: usize,
    /// The bytes that all instances may hold together. An instance that would start beyond them is refused, and one
    /// that would grow beyond them is not given the memory.
    pub total_memory: usize,
    /// The processor time of one instance.
    pub cpu: Duration,
    /// The processor time of an instance that merges a document; at least `cpu`.
    pub merge_cpu: Duration,
    /// The time from start to end of one instance, waiting included.
    pub wall: Duration,
    /// The most instances at one time that answer users; calls of the relay, and of the app to itself, have places of
    /// their own.
    pub instances: u32,
    /// The time that a call waits for an instance before it is refused, if its lane lets it wait.
    pub queue: Duration,
    /// Says whether calls of different kinds have places of their own. Without lanes, as on a real Spin, all share those
    /// of the users and wait for them.
    pub lanes: bool,
    /// The limits of another host, if this one keeps them.
    pub of_host: Option<&'static HostLimits>,
}

impl Limits {
    /// Keeps the limits of another host as well.
    pub fn with_those_of(self, host: OtherHost) -> Self {
        let of_host = host.limits();
        Self {
            memory: of_host
                .memory
                .map_or(self.memory, |memory| memory.min(self.memory)),
            wall: of_host.handler.min(self.wall),
            of_host: Some(of_host),
            ..self
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 256 << 20,
            total_memory: machine::memory() / 2,
            cpu: Duration::from_secs(30),
            merge_cpu: Duration::from_secs(120),
            wall: Duration::from_secs(300),
            instances: 256,
            queue: Duration::from_secs(10),
            lanes: true,
            of_host: None,
        }
    }
}

/// The most entries of a guest's table of functions. Compiled Rust has some thousands.
const TABLE_ELEMENTS: usize = 100_000;

/// Keeps an instance within its memory.
#[derive(Debug)]
pub(crate) struct MemoryLimit {
    /// The most bytes that the instance may have.
    bytes: usize,
    /// The bytes that the instance has, in all its linear memories.
    held: usize,
    claim: Claim,
    meter: Arc<Meter>,
}

impl MemoryLimit {
    /// Allows `bytes` of linear memory, if the budget of `claim` has them; `meter` records the reason if a guest is not
    /// given memory.
    pub(crate) fn new(bytes: usize, claim: Claim, meter: Arc<Meter>) -> Self {
        Self {
            bytes,
            held: 0,
            claim,
            meter,
        }
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let held = self.held + desired.saturating_sub(current);
        let shortage = if held > self.bytes {
            Shortage::Instance
        } else if !self.claim.reaches(held) {
            Shortage::Budget
        } else {
            self.held = held;
            self.meter.held.store(held, Relaxed);
            return Ok(true);
        };
        self.meter.shortage.store(shortage as u8, Relaxed);
        Ok(false)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }
}

/// The reason why a guest was not given memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Shortage {
    /// The instance asked for more than one instance may have.
    Instance = 1,
    /// The instances together hold all that they may.
    Budget = 2,
}

/// Measures what an instance uses: its memory, and its processor time, which is the time in which its future is polled.
#[derive(Debug)]
pub(crate) struct Meter {
    epoch: Instant,
    /// The length of the polls that are over, in nanoseconds.
    used: AtomicU64,
    /// The beginning of the present poll, in nanoseconds after `epoch`.
    began: AtomicU64,
    /// The bytes of its memory, which never shrinks.
    held: AtomicUsize,
    /// A [`Shortage`], or 0.
    shortage: AtomicU8,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            used: AtomicU64::new(0),
            began: AtomicU64::new(0),
            held: AtomicUsize::new(0),
            shortage: AtomicU8::new(0),
        }
    }
}

impl Meter {
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The memory that the instance has grown to, in bytes.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// The reason why the guest was last not given memory; `None` if it always was.
    pub(crate) fn shortage(&self) -> Option<Shortage> {
        match self.shortage.load(Relaxed) {
            1 => Some(Shortage::Instance),
            2 => Some(Shortage::Budget),
            _ => None,
        }
    }

    /// Counts from zero again, because the guest has sent a part of its answer.
    pub(crate) fn answered(&self) {
        self.used.store(0, Relaxed);
        self.began.store(self.now(), Relaxed);
    }

    /// The time used so far, the present poll included.
    fn used(&self) -> Duration {
        let present = self.now().saturating_sub(self.began.load(Relaxed));
        Duration::from_nanos(self.used.load(Relaxed) + present)
    }
}

/// A future whose polls `meter` measures.
struct Metered<F> {
    future: Pin<Box<F>>,
    meter: Arc<Meter>,
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let began = self.meter.now();
        self.meter.began.store(began, Relaxed);
        let result = self.future.as_mut().poll(cx);
        let spent = self.meter.now() - began;
        self.meter.used.fetch_add(spent, Relaxed);
        result
    }
}

/// The error of an instance that used up its time.
#[derive(Debug, thiserror::Error)]
enum Exceeded {
    /// The instance computed for too long.
    #[error("used more than {0:?} of processor time")]
    Cpu(Duration),
    /// The instance ran, or waited, for too long.
    #[error("ran for more than {0:?}")]
    Wall(Duration),
}

/// Makes `store` watch the processor time that `meter` measures, and allows `cpu` of it. At every tick of the engine's
/// clock the guest gives way to other tasks, or is stopped.
pub(crate) fn watch<T: 'static>(store: &mut Store<T>, cpu: Duration, meter: Arc<Meter>) {
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| {
        if meter.used() > cpu {
            return Err(wasmtime::Error::from(Exceeded::Cpu(cpu)));
        }
        Ok(UpdateDeadline::YieldCustom(
            1,
            Box::pin(tokio::task::yield_now()),
        ))
    });
}

/// Runs a call into a guest within `limits`.
pub(crate) async fn within<T>(
    limits: &Limits,
    meter: Arc<Meter>,
    call: impl Future<Output = wasmtime::Result<T>>,
) -> wasmtime::Result<T> {
    let call = Metered {
        future: Box::pin(call),
        meter,
    };
    match tokio::time::timeout(limits.wall, call).await {
        Ok(result) => result,
        Err(_) => Err(wasmtime::Error::from(Exceeded::Wall(limits.wall))),
    }
}
