//! Updates under suspicion: those of a batch on which the app failed although it answers.
//!
//! Each is sent alone. It is refused only if the app says so about this very update, or on proof:
//! alone in its request it fails [`FAILURES`] times over at least [`FAILING`], and empty appends
//! pass between those tries, each time another number of them, so that no pattern of failures looks
//! like its fault. If other updates fail as well and none is stored, that is no proof either.
//! Anything else means that the app is away: its sender is told to try again later.

use crate::Relay;
use crate::app::backoff::Backoff;
use crate::app::client::AppError;
use crate::app::committer::{Submission, encode};
use crate::app::delivery::Decided;
use crate::app::upstream::Dedicated;
use bytes::Bytes;
use http::StatusCode;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep};

/// How often an update fails alone before it is refused.
const FAILURES: u32 = 3;

/// The time over which it does. The app may fail for a moment on whatever it is asked.
const FAILING: Duration = Duration::from_secs(5);

/// How many empty appends must pass between two tries.
const CONTROLS: RangeInclusive<u32> = 2..=4;

/// Decides the first `updates` of those that were set aside for a socket, one after the other; what the
/// socket has sent since then goes the usual way again. Ends after the patience that the relay has
/// with an app that is away: then the socket is closed with 1013.
pub(crate) async fn decide(
    relay: Arc<Relay>,
    socket: u64,
    updates: usize,
    lanes: Arc<Semaphore>,
    decided: mpsc::Sender<Decided>,
) {
    let mut trial = Trial {
        relay: &relay,
        lanes,
        line: None,
        begun: Instant::now(),
    };
    for _ in 0..updates {
        let Some(suspect) = relay.committer.next_aside(socket) else {
            break;
        };
        let Some(outcome) = trial.outcome(&suspect).await else {
            let mut given_up = relay.committer.take_aside(socket);
            given_up.push_front(suspect);
            relay.committer.give_up(&relay, given_up.make_contiguous());
            return;
        };
        // The delivery task ends only with the relay.
        let _ = decided.send((vec![suspect], vec![outcome])).await;
    }
    relay.committer.readmit(socket);
}

/// The trial of one socket's updates.
struct Trial<'a> {
    relay: &'a Relay,
    lanes: Arc<Semaphore>,
    line: Option<Dedicated>,
    begun: Instant,
}

impl Trial<'_> {
    /// What becomes of an update; `None` if the app was away for too long to tell.
    async fn outcome(&mut self, suspect: &Submission) -> Option<wire::Outcome> {
        let body = encode(&self.relay.id, std::slice::from_ref(suspect));
        let witness = &self.relay.committer.witness;
        let _accusation = witness.accuse();
        let mut evidence = Evidence::default();
        let mut backoff = Backoff::app();
        loop {
            let answer = self.append(body.clone(), 1).await;
            let refusal = match answer {
                Ok(outcomes) => {
                    witness.stored();
                    return outcomes.into_iter().next();
                }
                Err(AppError::Refused(StatusCode::PAYLOAD_TOO_LARGE)) => {
                    Some("the update is larger than the app takes")
                }
                Err(AppError::Refused(_)) => Some("the app cannot take this update"),
                Err(AppError::Status(StatusCode::INTERNAL_SERVER_ERROR)) => {
                    let proven = evidence
                        .failed(Instant::now())
                        .is_some_and(|since| witness.speaks_against(since));
                    proven.then_some("the app fails on this update, again and again")
                }
                Err(_) => {
                    evidence = Evidence::default();
                    None
                }
            };
            if let Some(reason) = refusal {
                let project = &suspect.project;
                tracing::warn!(%project, reason, "an update was refused");
                let reason = reason.to_owned();
                return Some(wire::Outcome::Refused { reason });
            }
            self.relay.metrics.append_retries_total.add(1);
            loop {
                if self.begun.elapsed() >= self.relay.settings.app_patience {
                    return None;
                }
                sleep(backoff.next()).await;
                if self.passes_empty().await {
                    break;
                }
                evidence = Evidence::default();
            }
        }
    }

    /// Whether the app answers appends of nothing, several in a row.
    async fn passes_empty(&mut self) -> bool {
        for _ in 0..rand::random_range(CONTROLS) {
            let nothing = encode(&self.relay.id, &[]);
            if self.append(nothing, 0).await.is_err() {
                return false;
            }
        }
        true
    }

    async fn append(
        &mut self,
        body: Bytes,
        updates: usize,
    ) -> Result<Vec<wire::Outcome>, AppError> {
        // Never closed.
        let _lane = self.lanes.acquire().await;
        self.relay.metrics.appends_total.add(1);
        let app = &self.relay.app;
        let patience = self.relay.settings.app_timeout;
        app.append(&mut self.line, body, updates, patience).await
    }
}

/// How often, and since when, an update has failed alone while an empty append passed.
#[derive(Default)]
struct Evidence {
    failures: u32,
    since: Option<Instant>,
}

impl Evidence {
    /// Counts a failure. If there are enough of them, tells since when.
    fn failed(&mut self, now: Instant) -> Option<Instant> {
        let since = *self.since.get_or_insert(now);
        self.failures += 1;
        let is_enough = self.failures >= FAILURES && now.duration_since(since) >= FAILING;
        is_enough.then_some(since)
    }
}

/// What happens to other updates meanwhile.
#[derive(Default)]
pub(crate) struct Witness {
    /// The updates that are on trial.
    accused: AtomicUsize,
    /// When an update was stored last.
    stored: Mutex<Option<Instant>>,
}

impl Witness {
    /// An update was stored.
    pub(crate) fn stored(&self) {
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        *stored = Some(Instant::now());
    }

    fn accuse(&self) -> Accusation<'_> {
        self.accused.fetch_add(1, Ordering::Relaxed);
        Accusation(self)
    }

    /// Whether an update that has failed since then is the only one that does: others were stored
    /// meanwhile, or no other is on trial.
    fn speaks_against(&self, since: Instant) -> bool {
        let stored = *self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        self.accused.load(Ordering::Relaxed) == 1 || stored.is_some_and(|at| at >= since)
    }
}

/// An update on trial, until this is dropped.
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
