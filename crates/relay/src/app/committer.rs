//! The group commit: while one append is with the app, the updates that arrive for any room wait, and make up the next
//! one.
//!
//! The main lane has one append in flight, so updates are stored in the order in which they arrived, and those of each
//! socket in its order. An append whose outcome is not known is repeated, because the app knows each update by its
//! serial number and stores it once. If a batch fails, or takes long, while an empty append passes, it is set aside,
//! and with it what its senders send next: the [`suspects`](crate::app::suspects) decide each of its updates alone, and
//! the main lane goes on with all other sockets. A large update, and one that the app leaves undecided, are set aside
//! in the same way. The [`delivery`](crate::app::delivery) gives the updates to rooms, and answers their senders, while
//! the next append is already on its way.

use crate::app::backoff::Backoff;
use crate::app::decision::Decision;
use crate::app::delivery::{Decided, Delivery};
use crate::app::error::AppError;
use crate::app::lane::{Lanes, MainLane};
use crate::app::queue::CommitQueue;
use crate::app::submission::Submission;
use crate::app::suspects::Suspects;
use crate::chores::LOOK;
use crate::metrics::Metrics;
use crate::room::rooms::Rooms;
use crate::settings::Settings;
use http::StatusCode;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// The number of decided batches that may wait to be delivered before the next append waits for them.
const UNDELIVERED: usize = 4;

/// The time that the main lane waits for an answer before it asks whether the batch is the reason for the delay. If the
/// app is slow altogether, the lane waits for as long as any request.
const LATE: Duration = Duration::from_secs(3);

/// The number of times that the app may have no room for a batch, although it has room for an empty append, before the
/// batch is set aside.
const TURNED_AWAY: u32 = 3;

/// The main lane: sends batches to the app, one after the other.
pub(crate) struct Committer {
    settings: Arc<Settings>,
    metrics: Arc<Metrics>,
    queue: Arc<CommitQueue>,
    rooms: Arc<Rooms>,
    lanes: Lanes,
}

impl Committer {
    /// Stores what is in `queue`, and gives it to `rooms`. `origin` is the id of the relay.
    pub(crate) fn new(queue: Arc<CommitQueue>, rooms: Arc<Rooms>, origin: Arc<str>) -> Self {
        Self {
            settings: rooms.settings.clone(),
            metrics: rooms.metrics.clone(),
            lanes: Lanes {
                app: rooms.app.clone(),
                metrics: rooms.metrics.clone(),
                origin,
            },
            queue,
            rooms,
        }
    }

    /// Commits for as long as the relay runs.
    pub(crate) async fn run(self) {
        let (decided, deliveries) = mpsc::channel(UNDELIVERED);
        let delivery = Delivery::new(self.queue.clone(), self.rooms);
        let delivery = tokio::spawn(delivery.run(deliveries));
        let mut writer = Writer {
            main: self.lanes.open_main(),
            away_since: None,
            suspects: Arc::new(Suspects::new(
                self.settings.clone(),
                self.queue.clone(),
                self.lanes,
                decided.clone(),
            )),
            settings: self.settings,
            metrics: self.metrics,
            queue: self.queue,
            decided,
        };
        loop {
            match timeout(LOOK, writer.queue.next_batch()).await {
                Ok(batch) => writer.commit(batch).await,
                Err(_) => writer.main.look(),
            }
            if delivery.is_finished() {
                tracing::error!("the delivery task ended");
                return;
            }
        }
    }
}

struct Writer {
    settings: Arc<Settings>,
    metrics: Arc<Metrics>,
    queue: Arc<CommitQueue>,
    suspects: Arc<Suspects>,
    main: MainLane,
    away_since: Option<Instant>,
    decided: mpsc::Sender<Decided>,
}

impl Writer {
    /// Brings a batch to its end: it is decided, set aside, or, if the app was away for too long, given up.
    async fn commit(&mut self, batch: Vec<Submission>) {
        let (known, batch) = part_known(batch);
        if !known.0.is_empty() {
            // The delivery task ends only after this one.
            let _ = self.decided.send(known).await;
        }
        if batch.is_empty() {
            return;
        }
        self.queue.unanswered.add(&batch);
        if batch.iter().any(Submission::is_large) {
            // It goes by a side lane, so that no other client waits for it.
            self.suspects.try_each(batch);
            return;
        }
        let updates = batch.len();
        self.metrics
            .histograms
            .batch_updates
            .observe(updates as f64);
        let body = self.main.lane.encode(&batch);
        let whole_patience = self.settings.app_timeout;
        let mut patience = whole_patience.min(LATE);
        let mut backoff = Backoff::app();
        let mut turned_away = 0;
        // The app may close an idle connection at the moment at which it is used.
        let mut is_reused = self.main.lane.is_reused();
        loop {
            let answer = self.main.append(body.clone(), updates, patience).await;
            let error = match answer {
                Ok(outcomes) => {
                    self.app_is_here();
                    self.suspects.witness.stored();
                    let (decided, undecided) = split(batch, outcomes);
                    if !undecided.is_empty() {
                        self.suspects.try_each(undecided);
                    }
                    // The delivery task ends only after this one.
                    let _ = self.decided.send(decided).await;
                    return;
                }
                Err(error) => error,
            };
            self.main.lane.count_retry();
            if std::mem::take(&mut is_reused) && matches!(error, AppError::Unreachable(_)) {
                continue;
            }
            turned_away += u32::from(is_full(&error));
            let is_suspicious = match &error {
                AppError::Refused(_) => true,
                error if is_full(error) && turned_away < TURNED_AWAY => false,
                _ => self.main.lane.passes_empty(patience).await,
            };
            if is_suspicious {
                self.app_is_here();
                tracing::warn!(%error, updates = batch.len(), "only this append failed: its updates are set aside");
                self.metrics.updates_suspected_total.add(batch.len());
                self.suspects.try_each(batch);
                return;
            }
            patience = whole_patience;
            if !self.wait(&error, &mut backoff).await {
                self.give_up(&batch);
                return;
            }
        }
    }

    /// Waits until an app that is away may be asked again. Returns false if it was away for too long.
    async fn wait(&mut self, error: &AppError, backoff: &mut Backoff) -> bool {
        let patience = self.settings.app_patience;
        let since = *self.away_since.get_or_insert_with(|| {
            tracing::warn!(%error, "the app stores nothing: trying again");
            Instant::now()
        });
        self.queue.set_away(true);
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
        self.queue.give_up(batch);
        loop {
            let waiting = self.queue.take_batch();
            if waiting.is_empty() {
                return;
            }
            self.queue.give_up(&waiting);
        }
    }

    fn app_is_here(&mut self) {
        if let Some(since) = self.away_since.take() {
            self.queue.set_away(false);
            tracing::info!(after = ?since.elapsed(), "the app stores updates again");
        }
    }
}

/// Splits a batch into the updates whose decision is known and those about which the app must be asked.
fn part_known(batch: Vec<Submission>) -> (Decided, Vec<Submission>) {
    let (mut known, mut unknown) = (Decided::default(), Vec::new());
    for mut submission in batch {
        match submission.known_decision() {
            Some(decision) => {
                known.0.push(submission);
                known.1.push(decision);
            }
            None => unknown.push(submission),
        }
    }
    (known, unknown)
}

/// Splits a batch into the updates that the app decided and those that it left undecided. The later updates of the same
/// sender go with an undecided one, because a sender gets its answers in the order of its updates.
fn split(batch: Vec<Submission>, outcomes: Vec<wire::Outcome>) -> (Decided, Vec<Submission>) {
    let mut senders = HashSet::new();
    let (mut decided, mut undecided) = (Decided::default(), Vec::new());
    for (mut submission, outcome) in batch.into_iter().zip(outcomes) {
        let sender = submission.socket.id;
        match Decision::of(outcome) {
            Some(decision) if !senders.contains(&sender) => {
                decided.0.push(submission);
                decided.1.push(decision);
            }
            decision => {
                senders.insert(sender);
                submission.decision = decision;
                undecided.push(submission);
            }
        }
    }
    (decided, undecided)
}

/// Returns whether the app says that it has no room at the moment, which is seldom the fault of the request.
fn is_full(error: &AppError) -> bool {
    matches!(
        error,
        AppError::Status(StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
    )
}
