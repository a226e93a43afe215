//! Group commit: while one append is with the app, what arrives for any room waits, and is the
//! next one.
//!
//! There is one append in flight in the main lane, so updates are stored in the order in which they
//! arrived; each socket's, too. A request whose outcome is not known is repeated with the same bytes,
//! for a repeated append is harmless. A batch that fails, or takes long, while an empty append
//! passes is set aside, and with it what its senders send next: [`suspects`] decides each of its
//! updates alone, and the main lane goes on with all other sockets. What was decided goes to
//! [`delivery`], which tells rooms and senders while the next append is already on its way.

use crate::Relay;
use crate::app::backoff::Backoff;
use crate::app::client::AppError;
use crate::app::delivery::{self, Decided};
use crate::app::suspects::{self, Witness};
use crate::app::upstream::Dedicated;
use crate::socket::frame::Frame;
use crate::socket::socket::{Close, Socket};
use bytes::Bytes;
use http::StatusCode;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::{Instant, sleep};

/// What an update in a request takes beyond its payload and its project's name.
const ENVELOPE: usize = 32;

/// Decided batches that may wait to be delivered before the next append waits for them.
const UNDELIVERED: usize = 4;

/// How many requests about suspects are under way at once.
const SIDE_LANES: usize = 8;

/// How long the main lane waits for an answer before it asks whether it is the batch that takes so long. If the
/// app is slow altogether, it waits for as long as any request.
const LATE: Duration = Duration::from_secs(3);

/// How often the app may have no room for a batch, though it has room for an empty append, before the batch
/// is set aside.
const TURNED_AWAY: u32 = 3;

/// An update on its way into a room.
pub(crate) struct Submission {
    pub(crate) project: Arc<str>,
    pub(crate) socket: Arc<Socket>,
    /// The how-manieth binary frame of its connection it is, from 1.
    pub(crate) number: u64,
    /// The update, already as the room's other sockets will get it.
    pub(crate) frame: Frame,
}

impl Submission {
    /// What it counts for in limits.
    pub(crate) fn size(&self) -> usize {
        self.frame.payload().len() + self.project.len() + ENVELOPE
    }
}

/// The queue is full.
#[derive(Debug)]
pub(crate) struct Full;

/// The updates that wait to be stored.
#[derive(Default)]
pub(crate) struct Committer {
    queue: Mutex<Queue>,
    arrived: Notify,
    /// Told whenever a batch was delivered.
    settled: Notify,
    /// The last append failed, and is being repeated.
    away: AtomicBool,
    /// What else speaks for or against a suspect.
    pub(crate) witness: Witness,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Submission>,
    /// By [`Socket::id`]: the updates that were set aside, and, behind them, what their sender has
    /// sent since.
    aside: HashMap<u64, VecDeque<Submission>>,
    /// The bytes of what waits, of what is with the app, and of what is being delivered.
    bytes: usize,
    /// Likewise the updates.
    updates: usize,
}

impl Committer {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an update.
    ///
    /// # Errors
    /// When the queue is full: while the app is away that is the limit of the settings. While it
    /// only is slow, sockets are not read beyond half of that, see
    /// [`is_congested`](Self::is_congested), and twice the limit is left for what they had begun.
    pub(crate) fn submit(&self, relay: &Relay, submission: Submission) -> Result<(), Full> {
        let size = submission.size();
        let limit = relay.settings.max_commit_queue;
        {
            let mut queue = self.queue();
            let limit = if self.away.load(Ordering::Relaxed) {
                limit
            } else {
                limit * 2
            };
            if queue.updates > 0 && queue.bytes + size > limit {
                return Err(Full);
            }
            submission.socket.submitted(size);
            queue.bytes += size;
            queue.updates += 1;
            match queue.aside.get_mut(&submission.socket.id) {
                Some(line) => line.push_back(submission),
                None => queue.waiting.push_back(submission),
            }
        }
        relay.metrics.pending_updates.add(1);
        relay.metrics.pending_bytes.add(size);
        self.arrived.notify_one();
        Ok(())
    }

    /// Whether sockets that already have something waiting here should not be read for now.
    pub(crate) fn is_congested(&self, relay: &Relay) -> bool {
        !self.away.load(Ordering::Relaxed)
            && self.queue().bytes > relay.settings.max_commit_queue / 2
    }

    /// Resolves when everything that was taken is decided and delivered.
    pub(crate) async fn settle(&self) {
        loop {
            let settled = self.settled.notified();
            if self.queue().updates == 0 {
                return;
            }
            settled.await;
        }
    }

    async fn next_batch(&self) -> Vec<Submission> {
        loop {
            let arrived = self.arrived.notified();
            let batch = self.queue().take();
            if !batch.is_empty() {
                return batch;
            }
            arrived.await;
        }
    }

    /// The next update of a socket that was set aside.
    pub(crate) fn next_aside(&self, socket: u64) -> Option<Submission> {
        self.queue().aside.get_mut(&socket)?.pop_front()
    }

    /// What a socket has sent since it was set aside goes the usual way again, before anything that
    /// it sends from here on.
    pub(crate) fn readmit(&self, socket: u64) {
        {
            let mut queue = self.queue();
            for submission in queue.aside.remove(&socket).into_iter().flatten().rev() {
                queue.waiting.push_front(submission);
            }
        }
        self.arrived.notify_one();
    }

    /// Takes away what a socket has sent since it was set aside.
    pub(crate) fn take_aside(&self, socket: u64) -> VecDeque<Submission> {
        self.queue().aside.remove(&socket).unwrap_or_default()
    }

    /// The senders of these have to try again later.
    pub(crate) fn give_up(&self, relay: &Relay, batch: &[Submission]) {
        for submission in batch {
            submission.socket.close(Close::TRY_AGAIN_LATER);
            submission.socket.decided(1, submission.size());
        }
        self.release(relay, batch);
    }

    /// Forgets updates that are decided and delivered, or given up.
    pub(crate) fn release(&self, relay: &Relay, batch: &[Submission]) {
        let bytes: usize = batch.iter().map(Submission::size).sum();
        {
            let mut queue = self.queue();
            queue.bytes -= bytes;
            queue.updates -= batch.len();
        }
        relay.metrics.pending_updates.sub(batch.len());
        relay.metrics.pending_bytes.sub(bytes);
        self.settled.notify_waiters();
    }
}

impl Queue {
    /// As many as fit into one request, from the front.
    fn take(&mut self) -> Vec<Submission> {
        let mut bytes = 0;
        let count = self
            .waiting
            .iter()
            .take(wire::MAX_APPEND_UPDATES)
            .take_while(|submission| {
                bytes += submission.size();
                // The first always fits: one update of the largest size leaves room to spare.
                bytes <= wire::MAX_APPEND_BYTES - 4096
            })
            .count();
        self.waiting.drain(..count).collect()
    }

    /// Sets a batch aside, and whatever else waits of its senders. Returns each sender's id, with how
    /// many updates of the batch are its own.
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

/// Commits for as long as the relay runs.
pub(crate) async fn run(relay: Arc<Relay>) {
    let (decided, deliveries) = mpsc::channel(UNDELIVERED);
    let deliveries = tokio::spawn(delivery::deliver(relay.clone(), deliveries));
    let mut writer = Writer {
        relay: relay.clone(),
        line: None,
        away_since: None,
        lanes: Arc::new(Semaphore::new(SIDE_LANES)),
        decided,
    };
    loop {
        let batch = relay.committer.next_batch().await;
        writer.commit(batch).await;
        if deliveries.is_finished() {
            tracing::error!("the delivery task ended");
            return;
        }
    }
}

/// The main lane: sends batches to the app, one after the other.
struct Writer {
    relay: Arc<Relay>,
    line: Option<Dedicated>,
    away_since: Option<Instant>,
    /// Shared by all suspects.
    lanes: Arc<Semaphore>,
    decided: mpsc::Sender<Decided>,
}

impl Writer {
    /// Has a batch decided, set aside, or, if the app was away for too long, given up.
    async fn commit(&mut self, batch: Vec<Submission>) {
        let body = encode(&self.relay.id, &batch);
        let timeout = self.relay.settings.app_timeout;
        let mut patience = timeout.min(LATE);
        let mut backoff = Backoff::app();
        let mut turned_away = 0;
        // The app may close a connection that is idle at the moment at which it is used.
        let mut reused = self.line.is_some();
        loop {
            let error = match self.append(body.clone(), batch.len(), patience).await {
                Ok(outcomes) => {
                    self.here();
                    self.relay.committer.witness.stored();
                    // The delivery task ends only after this one.
                    let _ = self.decided.send((batch, outcomes)).await;
                    return;
                }
                Err(error) => error,
            };
            self.relay.metrics.append_retries_total.add(1);
            if std::mem::take(&mut reused) && matches!(error, AppError::Unreachable(_)) {
                continue;
            }
            turned_away += u32::from(is_full(&error));
            let suspicious = match &error {
                AppError::Refused(_) => true,
                error if is_full(error) && turned_away < TURNED_AWAY => false,
                _ => self.passes_empty(patience).await,
            };
            if suspicious {
                self.here();
                tracing::warn!(%error, updates = batch.len(), "an append failed alone: set aside");
                self.set_aside(batch);
                return;
            }
            patience = timeout;
            if !self.wait(&error, &mut backoff).await {
                self.give_up(&batch);
                return;
            }
        }
    }

    async fn append(
        &mut self,
        body: Bytes,
        updates: usize,
        patience: Duration,
    ) -> Result<Vec<wire::Outcome>, AppError> {
        self.relay.metrics.appends_total.add(1);
        let app = &self.relay.app;
        app.append(&mut self.line, body, updates, patience).await
    }

    /// Whether the app answers an append of nothing.
    async fn passes_empty(&mut self, patience: Duration) -> bool {
        let nothing = encode(&self.relay.id, &[]);
        let app = &self.relay.app;
        let answer = app.append(&mut self.line, nothing, 0, patience).await;
        answer.is_ok()
    }

    fn set_aside(&self, batch: Vec<Submission>) {
        self.relay.metrics.updates_suspected_total.add(batch.len());
        let counts = self.relay.committer.queue().set_aside(batch);
        for (socket, updates) in counts {
            tokio::spawn(suspects::decide(
                self.relay.clone(),
                socket,
                updates,
                self.lanes.clone(),
                self.decided.clone(),
            ));
        }
    }

    /// Waits until an app that is away may be asked again. False: it was away for too long.
    async fn wait(&mut self, error: &AppError, backoff: &mut Backoff) -> bool {
        let patience = self.relay.settings.app_patience;
        let since = *self.away_since.get_or_insert_with(|| {
            tracing::warn!(%error, "the app stores nothing: trying again");
            Instant::now()
        });
        self.relay.committer.away.store(true, Ordering::Relaxed);
        if since.elapsed() >= patience {
            return false;
        }
        let wait = backoff
            .next()
            .min(patience.saturating_sub(since.elapsed()))
            .max(Duration::from_millis(1));
        sleep(wait).await;
        true
    }

    /// Gives up a batch, and everything that waits behind it.
    fn give_up(&self, batch: &[Submission]) {
        let committer = &self.relay.committer;
        committer.give_up(&self.relay, batch);
        loop {
            let waiting = committer.queue().take();
            if waiting.is_empty() {
                return;
            }
            committer.give_up(&self.relay, &waiting);
        }
    }

    fn here(&mut self) {
        if let Some(since) = self.away_since.take() {
            self.relay.committer.away.store(false, Ordering::Relaxed);
            tracing::info!(after = ?since.elapsed(), "the app stores updates again");
        }
    }
}

/// Whether the app says that it has no room just now, which is seldom about what it was asked.
fn is_full(error: &AppError) -> bool {
    matches!(
        error,
        AppError::Status(StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
    )
}

/// An append, as the app reads it.
pub(crate) fn encode(origin: &str, batch: &[Submission]) -> Bytes {
    let updates = batch
        .iter()
        .map(|submission| wire::Update {
            project: submission.project.to_string(),
            payload: submission.frame.payload().to_vec().into(),
        })
        .collect();
    wire::encode(&wire::AppendRequest {
        origin: origin.to_owned(),
        updates,
    })
    .into()
}
