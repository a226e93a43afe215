//! The updates that wait to be stored, and those that were set aside to be decided alone.

use crate::app::submission::Submission;
use crate::app::unanswered::Unanswered;
use crate::metrics::Metrics;
use crate::socket::close::Close;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Notify;

/// The most bytes of the updates in one request, each with its envelope: three of the largest that the main lane takes, and
/// more.
const MOST_BYTES: usize = 1024 * 1024;

/// The queue is full.
#[derive(Debug, thiserror::Error)]
#[error("too many updates wait to be stored")]
pub(crate) struct Full;

/// The updates that the relay has taken from clients and the app has not decided.
pub(crate) struct CommitQueue {
    /// The limit in bytes.
    limit: usize,
    metrics: Arc<Metrics>,
    lines: Mutex<Lines>,
    arrived: Notify,
    /// Wakes [`settle`](Self::settle) after updates were decided.
    settled: Notify,
    /// The last append failed and is being repeated.
    is_away: AtomicBool,
    /// The serial number of the last update.
    serial: AtomicU64,
    /// The updates that may be stored although no answer has said so yet.
    pub(crate) unanswered: Arc<Unanswered>,
}

#[derive(Default)]
struct Lines {
    waiting: VecDeque<Submission>,
    /// The updates that were set aside and, behind them, those that the same sender has sent since, by the id of the
    /// sender's socket.
    aside: HashMap<u64, VecDeque<Submission>>,
    /// The bytes of the updates that wait, are with the app, or are being delivered.
    bytes: usize,
    /// The number of those updates.
    updates: usize,
}

impl CommitQueue {
    /// An empty queue that may hold `limit` bytes.
    pub(crate) fn new(limit: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            limit,
            metrics,
            lines: Mutex::default(),
            arrived: Notify::new(),
            settled: Notify::new(),
            is_away: AtomicBool::new(false),
            serial: AtomicU64::new(0),
            unanswered: Arc::default(),
        }
    }

    /// The serial number of the next update: 1, 2, 3 …
    pub(crate) fn next_serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Takes an update.
    ///
    /// # Errors
    /// If the queue is full. While the app is away, the limit is that of the settings. While the app is only slow, it
    /// is twice that, because sockets are not read beyond half of it (see [`is_congested`](Self::is_congested)), and
    /// what they had begun to send must still fit.
    pub(crate) fn submit(&self, submission: Submission) -> Result<(), Full> {
        let size = submission.size();
        {
            let mut lines = self.lines.lock();
            let limit = if self.is_away.load(Ordering::Relaxed) {
                self.limit
            } else {
                self.limit * 2
            };
            if lines.updates > 0 && lines.bytes + size > limit {
                return Err(Full);
            }
            submission.socket.submitted(size);
            lines.bytes += size;
            lines.updates += 1;
            match lines.aside.get_mut(&submission.socket.id) {
                Some(line) => line.push_back(submission),
                None => lines.waiting.push_back(submission),
            }
        }
        self.metrics.pending_updates.add(1);
        self.metrics.pending_bytes.add(size);
        self.arrived.notify_one();
        Ok(())
    }

    /// Returns whether a socket that already has updates here should not be read for now.
    pub(crate) fn is_congested(&self) -> bool {
        !self.is_away.load(Ordering::Relaxed) && self.lines.lock().bytes > self.limit / 2
    }

    /// Notes whether the app is away, which decides how much may wait.
    pub(crate) fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::Relaxed);
    }

    /// Resolves when every update that was taken is decided and delivered.
    pub(crate) async fn settle(&self) {
        loop {
            let settled = self.settled.notified();
            if self.lines.lock().updates == 0 {
                return;
            }
            settled.await;
        }
    }

    /// Waits for updates, and takes as many as fit into one request. A large one is always alone.
    pub(crate) async fn next_batch(&self) -> Vec<Submission> {
        loop {
            let arrived = self.arrived.notified();
            let batch = self.take_batch();
            if !batch.is_empty() {
                return batch;
            }
            arrived.await;
        }
    }

    /// Takes as many updates as fit into one request; none if none wait.
    pub(crate) fn take_batch(&self) -> Vec<Submission> {
        self.lines.lock().take_batch()
    }

    /// Sets a batch aside, and all other waiting updates of its senders. Returns the id of each sender's socket with
    /// the number of updates of the batch that are its own.
    pub(crate) fn set_aside(&self, batch: Vec<Submission>) -> HashMap<u64, usize> {
        self.lines.lock().set_aside(batch)
    }

    /// Takes the next update that was set aside for a socket.
    pub(crate) fn next_aside(&self, socket: u64) -> Option<Submission> {
        self.lines.lock().aside.get_mut(&socket)?.pop_front()
    }

    /// Puts the updates that were set aside for a socket back to the front of the queue, before anything that it sends
    /// from now on.
    pub(crate) fn readmit(&self, socket: u64) {
        {
            let mut lines = self.lines.lock();
            for submission in lines.aside.remove(&socket).into_iter().flatten().rev() {
                lines.waiting.push_front(submission);
            }
        }
        self.arrived.notify_one();
    }

    /// Takes all updates that were set aside for a socket.
    pub(crate) fn take_aside(&self, socket: u64) -> VecDeque<Submission> {
        self.lines.lock().aside.remove(&socket).unwrap_or_default()
    }

    /// Gives updates up: closes the sockets of their senders with [`Close::TRY_AGAIN_LATER`].
    pub(crate) fn give_up(&self, batch: &[Submission]) {
        for submission in batch {
            submission.socket.close(Close::TRY_AGAIN_LATER);
            submission.socket.decided(1, submission.size());
        }
        self.release(batch);
    }

    /// Forgets updates that are decided and delivered, or given up.
    pub(crate) fn release(&self, batch: &[Submission]) {
        self.unanswered.remove(batch);
        let bytes: usize = batch.iter().map(Submission::size).sum();
        {
            let mut lines = self.lines.lock();
            lines.bytes -= bytes;
            lines.updates -= batch.len();
        }
        self.metrics.pending_updates.sub(batch.len());
        self.metrics.pending_bytes.sub(bytes);
        self.settled.notify_waiters();
    }
}

impl Lines {
    fn take_batch(&mut self) -> Vec<Submission> {
        if self.waiting.front().is_some_and(Submission::is_large) {
            return self.waiting.drain(..1).collect();
        }
        let mut bytes = 0;
        let count = self
            .waiting
            .iter()
            .take(wire::MAX_APPEND_UPDATES)
            .take_while(|submission| {
                bytes += submission.size();
                !submission.is_large() && bytes <= MOST_BYTES
            })
            .count();
        self.waiting.drain(..count).collect()
    }

    fn set_aside(&mut self, batch: Vec<Submission>) -> HashMap<u64, usize> {
        let mut counts = HashMap::new();
        for submission in batch {
            let id = submission.socket.id;
            *counts.entry(id).or_default() += 1;
            self.aside.entry(id).or_default().push_back(submission);
        }
        for submission in std::mem::take(&mut self.waiting) {
            match self.aside.get_mut(&submission.socket.id) {
                Some(line) => line.push_back(submission),
                None => self.waiting.push_back(submission),
            }
        }
        counts
    }
}
