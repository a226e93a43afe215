//! The updates that are decided alone: those of a batch on which the app failed although it answers, large ones, and
//! those that the app compares with the document, so that no other client waits for them.
//!
//! Each is sent in a request of its own. It is refused only if the app says so about this very update, or on proof:
//! alone in its request it fails [`FAILURES`] times over at least [`FAILING`], and empty appends pass between those
//! tries. Their number differs from try to try, so that failures of the app at regular intervals do not look like the
//! fault of the update. If other updates fail as well and none is stored, that is no proof either. Anything else means
//! that the app is away, and if it is away for too long, the sender's socket is closed with 1013.

use crate::app::backoff::Backoff;
use crate::app::decision::{Decision, Refusal};
use crate::app::delivery::Decided;
use crate::app::error::AppError;
use crate::app::lane::{Lane, Lanes};
use crate::app::queue::CommitQueue;
use crate::app::submission::Submission;
use crate::settings::Settings;
use bytes::Bytes;
use http::StatusCode;
use parking_lot::Mutex;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep};

/// The number of requests about suspects that are under way at once.
const SIDE_LANES: usize = 8;

/// The number of times that an update fails alone before it is refused.
const FAILURES: u32 = 3;

/// The time over which it fails, because for a shorter time the app may fail on any request.
const FAILING: Duration = Duration::from_secs(5);

/// The number of empty appends that must pass between two tries.
const CONTROLS: RangeInclusive<u32> = 2..=4;

/// The suspects of a relay.
pub(crate) struct Suspects {
    settings: Arc<Settings>,
    queue: Arc<CommitQueue>,
    lanes: Lanes,
    turns: Semaphore,
    decided: mpsc::Sender<Decided>,
    /// The witness of what happens to other updates meanwhile.
    pub(crate) witness: Witness,
}

impl Suspects {
    /// Begins without suspects.
    pub(crate) fn new(
        settings: Arc<Settings>,
        queue: Arc<CommitQueue>,
        lanes: Lanes,
        decided: mpsc::Sender<Decided>,
    ) -> Self {
        Self {
            settings,
            queue,
            lanes,
            turns: Semaphore::new(SIDE_LANES),
            decided,
            witness: Witness::default(),
        }
    }

    /// Sets a batch aside and tries its updates: those of each socket one after the other, those of different sockets
    /// at the same time.
    pub(crate) fn try_each(self: &Arc<Self>, batch: Vec<Submission>) {
        for (socket, updates) in self.queue.set_aside(batch) {
            tokio::spawn(decide(self.clone(), socket, updates));
        }
    }
}

/// Decides the first `updates` of those that were set aside for a socket. What the socket has sent since then goes the
/// usual way again. If the app is away for longer than the relay has patience, the socket is closed with 1013.
async fn decide(suspects: Arc<Suspects>, socket: u64, updates: usize) {
    let queue = &suspects.queue;
    let mut trial = Trial {
        lane: suspects.lanes.open(),
        suspects: &suspects,
        begun: Instant::now(),
    };
    for _ in 0..updates {
        let Some(mut suspect) = queue.next_aside(socket) else {
            break;
        };
        let decision = match suspect.known_decision() {
            Some(decision) => Some(decision),
            None => trial.decision(&suspect).await,
        };
        let Some(decision) = decision else {
            let mut given_up = queue.take_aside(socket);
            given_up.push_front(suspect);
            queue.give_up(given_up.make_contiguous());
            return;
        };
        if decision.is_duplicate_peer() {
            suspect.socket.set_duplicate();
        }
        // The delivery task ends only with the relay.
        let _ = suspects.decided.send((vec![suspect], vec![decision])).await;
    }
    queue.readmit(socket);
}

/// The trial of one socket's updates.
struct Trial<'a> {
    suspects: &'a Suspects,
    lane: Lane,
    begun: Instant,
}

impl Trial<'_> {
    /// Tries an update until it is decided; `None` if the app was away for too long.
    async fn decision(&mut self, suspect: &Submission) -> Option<Decision> {
        let body = self.lane.encode(std::slice::from_ref(suspect));
        let witness = &self.suspects.witness;
        let _accusation = witness.accuse();
        let mut evidence = Evidence::default();
        let mut backoff = Backoff::app();
        loop {
            let refusal = match self.append(body.clone()).await {
                Ok(outcomes) => {
                    if let Some(decision) = outcomes.into_iter().next().and_then(Decision::of) {
                        witness.stored();
                        return Some(decision);
                    }
                    // An app that works always decides about a single update, so this one counts as away.
                    evidence = Evidence::default();
                    None
                }
                Err(AppError::Refused(StatusCode::PAYLOAD_TOO_LARGE)) => {
                    Some("the update is larger than the app takes")
                }
                Err(AppError::Refused(_)) => Some("the app cannot take this update"),
                Err(AppError::Status(StatusCode::INTERNAL_SERVER_ERROR)) => {
                    let is_proven = evidence
                        .failed(Instant::now())
                        .is_some_and(|since| witness.speaks_against(since));
                    is_proven.then_some("the app fails on this update, again and again")
                }
                Err(_) => {
                    evidence = Evidence::default();
                    None
                }
            };
            if let Some(reason) = refusal {
                let project = &suspect.project;
                tracing::warn!(%project, reason, "an update was refused");
                return Some(Decision::Refused(Refusal::of_invalid(reason)));
            }
            self.lane.count_retry();
            if !self.wait(&mut backoff, &mut evidence).await {
                return None;
            }
        }
    }

    /// Waits until empty appends pass. If they do not, what was found so far proves nothing. Returns false if the app
    /// was away for too long.
    async fn wait(&mut self, backoff: &mut Backoff, evidence: &mut Evidence) -> bool {
        loop {
            if self.begun.elapsed() >= self.suspects.settings.app_patience {
                return false;
            }
            sleep(backoff.next()).await;
            if self.passes_empty().await {
                return true;
            }
            *evidence = Evidence::default();
        }
    }

    /// Returns whether the app answers several appends of nothing in a row.
    async fn passes_empty(&mut self) -> bool {
        for _ in 0..rand::random_range(CONTROLS) {
            // The semaphore is never closed.
            let _turn = self.suspects.turns.acquire().await;
            let patience = self.suspects.settings.app_timeout;
            if !self.lane.passes_empty(patience).await {
                return false;
            }
        }
        true
    }

    async fn append(&mut self, body: Bytes) -> Result<Vec<wire::Outcome>, AppError> {
        // The semaphore is never closed.
        let _turn = self.suspects.turns.acquire().await;
        let patience = self.suspects.settings.app_timeout;
        self.lane.append(body, 1, patience).await
    }
}

/// The evidence against an update: the number of times that it failed alone while empty appends passed, and the time of
/// the first failure.
#[derive(Default)]
struct Evidence {
    failures: u32,
    since: Option<Instant>,
}

impl Evidence {
    /// Counts a failure. Returns the time of the first one, if the update has failed often and long enough.
    fn failed(&mut self, now: Instant) -> Option<Instant> {
        let since = *self.since.get_or_insert(now);
        self.failures += 1;
        let is_enough = self.failures >= FAILURES && now.duration_since(since) >= FAILING;
        is_enough.then_some(since)
    }
}

/// The fate of all other updates during a trial.
#[derive(Default)]
pub(crate) struct Witness {
    /// The number of updates on trial.
    accused: AtomicUsize,
    /// The time at which the app last answered an append of updates.
    stored: Mutex<Option<Instant>>,
}

impl Witness {
    /// Notes that the app has answered an append of updates: as a rule it has stored them.
    pub(crate) fn stored(&self) {
        *self.stored.lock() = Some(Instant::now());
    }

    fn accuse(&self) -> Accusation<'_> {
        self.accused.fetch_add(1, Ordering::Relaxed);
        Accusation(self)
    }

    /// Returns whether an update that has failed since this moment is the only one that fails, because others were stored
    /// meanwhile or no other is on trial.
    fn speaks_against(&self, since: Instant) -> bool {
        let stored = *self.stored.lock();
        self.accused.load(Ordering::Relaxed) == 1 || stored.is_some_and(|at| at >= since)
    }
}

/// Keeps an update on trial until it is dropped.
struct Accusation<'a>(&'a Witness);

impl Drop for Accusation<'_> {
    fn drop(&mut self) {
        self.0.accused.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_takes_three_failures_and_five_seconds() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        for (failures, proven) in [
            (&[0][..], false),
            (&[0, 6000], false),
            (&[0, 10, 20, 4999], false),
            (&[0, 2500, 5000], true),
            (&[0, 10, 20, 30, 5000], true),
        ] {
            let mut evidence = Evidence::default();
            let verdicts: Vec<bool> = failures
                .iter()
                .map(|millis| evidence.failed(at(*millis)).is_some())
                .collect();
            assert_eq!(verdicts.last(), Some(&proven), "{failures:?}");
            assert!(
                !verdicts[..verdicts.len() - 1].contains(&true),
                "{failures:?}"
            );
        }
    }

    #[test]
    fn an_update_that_fails_as_all_others_do_is_innocent() {
        let witness = Witness::default();
        let start = Instant::now();
        let later = start + Duration::from_secs(3600);
        let one = witness.accuse();
        assert!(witness.speaks_against(start), "no other was tried");
        let two = witness.accuse();
        assert!(!witness.speaks_against(start), "none was stored");
        witness.stored();
        assert!(witness.speaks_against(start));
        assert!(!witness.speaks_against(later), "none was stored since");
        drop(two);
        assert!(witness.speaks_against(later));
        drop(one);
    }
}
