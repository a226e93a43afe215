//! Group commit: while one append is with the app, what arrives for any room waits, and is the
//! next one.
//!
//! There is one append in flight, ever, so updates are stored in the order in which they arrived;
//! each socket's, too. A request whose outcome is not known is repeated with the same bytes, for a
//! repeated append is harmless. What was decided goes to a second task, which tells rooms and
//! senders while the next append is already on its way.

use crate::Relay;
use crate::app::AppError;
use crate::backoff::Backoff;
use crate::frame::Frame;
use crate::raw;
use crate::room::Update;
use crate::rooms;
use crate::socket::{Close, Socket};
use crate::upstream::Dedicated;
use bytes::Bytes;
use http::StatusCode;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};

/// What an update in a request takes beyond its payload and its project's name.
const ENVELOPE: usize = 32;

/// An update that alone traps the app this often is refused.
const TRAPS: u32 = 3;

/// Decided batches that may wait to be delivered before the next append waits for them.
const UNDELIVERED: usize = 4;

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
    fn size(&self) -> usize {
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
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Submission>,
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
            queue.waiting.push_back(submission);
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

    fn release(&self, relay: &Relay, batch: &[Submission]) {
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
}

/// Commits for as long as the relay runs.
pub(crate) async fn run(relay: Arc<Relay>) {
    let (decided, deliveries) = mpsc::channel(UNDELIVERED);
    let deliveries = tokio::spawn(deliver(relay.clone(), deliveries));
    let mut writer = Writer {
        relay: relay.clone(),
        line: None,
        away_since: None,
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

/// A batch, and one outcome for each.
type Decided = (Vec<Submission>, Vec<wire::Outcome>);

/// Sends batches to the app, one after the other.
struct Writer {
    relay: Arc<Relay>,
    line: Option<Dedicated>,
    away_since: Option<Instant>,
    decided: mpsc::Sender<Decided>,
}

/// What the app made of a request that it answered.
enum Answer {
    Outcomes(Vec<wire::Outcome>),
    /// The instance died, or the request as a whole was refused: one of its updates is to blame.
    Poisoned(StatusCode),
}

/// The app was away for longer than the relay waits.
struct GaveUp;

impl Writer {
    /// Has every update of a batch decided. One on which the app traps is found by halving.
    async fn commit(&mut self, batch: Vec<Submission>) {
        let mut pieces = vec![batch];
        let mut traps = 0;
        let mut backoff = Backoff::app();
        while let Some(mut piece) = pieces.pop() {
            match self.append(&piece).await {
                Ok(Answer::Outcomes(outcomes)) => self.decide(piece, outcomes).await,
                Ok(Answer::Poisoned(_)) if piece.len() > 1 => {
                    let second = piece.split_off(piece.len() / 2);
                    pieces.push(second);
                    pieces.push(piece);
                }
                Ok(Answer::Poisoned(StatusCode::INTERNAL_SERVER_ERROR)) if traps + 1 < TRAPS => {
                    traps += 1;
                    sleep(backoff.next()).await;
                    pieces.push(piece);
                }
                Ok(Answer::Poisoned(status)) => {
                    traps = 0;
                    backoff = Backoff::app();
                    let project = piece.first().map(|update| update.project.clone());
                    tracing::warn!(?project, %status, "an update was refused");
                    let reason = "the app cannot take this update".to_owned();
                    self.decide(piece, vec![wire::Outcome::Refused { reason }])
                        .await;
                }
                Err(GaveUp) => {
                    pieces.push(piece);
                    for piece in pieces.drain(..).rev() {
                        self.give_up(&piece);
                    }
                    loop {
                        let waiting = self.relay.committer.queue().take();
                        if waiting.is_empty() {
                            return;
                        }
                        self.give_up(&waiting);
                    }
                }
            }
        }
    }

    async fn decide(&self, batch: Vec<Submission>, outcomes: Vec<wire::Outcome>) {
        // The delivery task ends only after this one.
        let _ = self.decided.send((batch, outcomes)).await;
    }

    /// The senders of these have to try again later.
    fn give_up(&self, batch: &[Submission]) {
        for submission in batch {
            submission.socket.close(Close::TRY_AGAIN_LATER);
            submission.socket.decided(1, submission.size());
        }
        self.relay.committer.release(&self.relay, batch);
    }

    /// Asks the app until it answers, or was away for too long.
    async fn append(&mut self, batch: &[Submission]) -> Result<Answer, GaveUp> {
        let body = encode(&self.relay.id, batch);
        let mut backoff = Backoff::app();
        let mut reused = self.line.is_some();
        loop {
            self.relay.metrics.appends_total.add(1);
            let answer = self
                .relay
                .app
                .append(&mut self.line, body.clone(), batch.len())
                .await;
            let error = match answer {
                Ok(outcomes) => {
                    self.here();
                    return Ok(Answer::Outcomes(outcomes));
                }
                Err(AppError::Status(
                    status @ (StatusCode::INTERNAL_SERVER_ERROR
                    | StatusCode::BAD_REQUEST
                    | StatusCode::PAYLOAD_TOO_LARGE),
                )) => {
                    self.here();
                    return Ok(Answer::Poisoned(status));
                }
                Err(error) => error,
            };
            self.relay.metrics.append_retries_total.add(1);
            if std::mem::take(&mut reused) && matches!(error, AppError::Unreachable(_)) {
                // The app may have closed a connection that was idle.
                continue;
            }
            let patience = self.relay.settings.app_patience;
            let since = *self.away_since.get_or_insert_with(|| {
                tracing::warn!(%error, "the app stores nothing: trying again");
                Instant::now()
            });
            self.relay.committer.away.store(true, Ordering::Relaxed);
            if since.elapsed() >= patience {
                return Err(GaveUp);
            }
            let wait = backoff
                .next()
                .min(patience.saturating_sub(since.elapsed()))
                .max(Duration::from_millis(1));
            sleep(wait).await;
        }
    }

    fn here(&mut self) {
        if let Some(since) = self.away_since.take() {
            self.relay.committer.away.store(false, Ordering::Relaxed);
            tracing::info!(after = ?since.elapsed(), "the app stores updates again");
        }
    }
}

fn encode(origin: &str, batch: &[Submission]) -> Bytes {
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

/// Tells rooms and senders what became of updates.
async fn deliver(relay: Arc<Relay>, mut decided: mpsc::Receiver<Decided>) {
    while let Some((batch, outcomes)) = decided.recv().await {
        let mut stored: Vec<(Arc<str>, Vec<Update>)> = Vec::new();
        let mut index: HashMap<Arc<str>, usize> = HashMap::new();
        let mut senders: HashMap<u64, Sender> = HashMap::new();
        let mut refused = 0;
        for (submission, outcome) in batch.iter().zip(outcomes) {
            let sender = senders
                .entry(submission.socket.id)
                .or_insert_with(|| Sender::new(submission.socket.clone()));
            sender.updates += 1;
            sender.bytes += submission.size();
            sender.number = submission.number;
            match outcome {
                wire::Outcome::Stored { rev } => {
                    sender.rev = rev;
                    let room = *index.entry(submission.project.clone()).or_insert_with(|| {
                        stored.push((submission.project.clone(), Vec::new()));
                        stored.len() - 1
                    });
                    stored[room].1.push(Update {
                        first: rev,
                        last: rev,
                        frames: vec![submission.frame.clone()],
                        sender: submission.socket.id,
                    });
                }
                wire::Outcome::Refused { reason } => {
                    refused += 1;
                    submission
                        .socket
                        .refuse("invalid_update", &reason, Some(submission.number));
                }
            }
        }
        relay.metrics.updates_refused_total.add(refused);
        relay
            .metrics
            .updates_stored_total
            .add(batch.len() - refused);
        for (project, mut updates) in stored {
            updates.sort_by_key(|update| update.first);
            if rooms::is_shared(&relay, &project) {
                relay.pubsub.publish_updates(&project, &relay.id, &updates);
            }
            rooms::deliver(&relay, &project, updates).await;
        }
        for sender in senders.into_values() {
            if sender.socket.wants.events {
                sender.socket.push([&raw::saved(sender.number, sender.rev)]);
            }
            sender.socket.flush();
            sender.socket.decided(sender.updates, sender.bytes);
        }
        relay.committer.release(&relay, &batch);
    }
}

/// What one batch decided for one socket.
struct Sender {
    socket: Arc<Socket>,
    updates: usize,
    bytes: usize,
    number: u64,
    rev: u64,
}

impl Sender {
    fn new(socket: Arc<Socket>) -> Self {
        Self {
            socket,
            updates: 0,
            bytes: 0,
            number: 0,
            rev: 0,
        }
    }
}
