//! The persistent line: a line is open while requests flow, and the next one is opened before it ends.

use crate::app::backoff::Backoff;
use crate::app::error::AppError;
use crate::app::line::{Answer, Line, Opener, Wear};
use crate::metrics::Metrics;
use bytes::Bytes;
use futures_util::FutureExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// The pauses before another try if no line works on the way to the app: a minute, then longer ones.
const NO_WAY: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(30 * 60));

/// The pause before another try after the app was away.
const AWAY: Duration = Duration::from_secs(1);

/// The pauses before another try if a line ended with its first request, for example because that request kills the
/// app's instances: a second, then longer ones.
const DIED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The line for one kind of requests. At most two are open at any moment, one of which carries nothing yet.
pub(crate) struct PersistentLine {
    opener: Opener,
    metrics: Arc<Metrics>,
    open: Option<Line>,
    next: Next,
    /// The time before which no line is tried.
    not_before: Instant,
    no_way: Backoff,
    died: Backoff,
}

enum Next {
    None,
    Opening(JoinHandle<Result<Line, AppError>>),
    Open(Line),
}

/// The end of a request that was to be sent on a line.
pub(crate) enum Asked<T> {
    /// The app has answered it.
    Answered(T),
    /// The request was not sent, because there is no line.
    NoLine,
    /// The line ended before the answer. The request may have taken effect.
    Ended,
}

impl PersistentLine {
    /// Begins without a line. The first request opens one.
    pub(crate) fn new(opener: Opener, metrics: Arc<Metrics>) -> Self {
        Self {
            opener,
            metrics,
            open: None,
            next: Next::None,
            not_before: Instant::now(),
            no_way: waits(NO_WAY),
            died: waits(DIED),
        }
    }

    /// Sends a request on the line and waits for its answer.
    ///
    /// # Errors
    /// If no answer came within `patience`. The line has ended then.
    pub(crate) async fn ask(
        &mut self,
        request: Bytes,
        patience: Duration,
    ) -> Result<Asked<Answer>, AppError> {
        // If this future is dropped, the line is dropped with it. Otherwise the answer that still comes would be taken
        // for the answer to the next request.
        let Some(mut line) = self.take(request.len()) else {
            return Ok(Asked::NoLine);
        };
        match timeout(patience, line.ask(request)).await {
            Ok(Ok(answer)) => {
                self.no_way = waits(NO_WAY);
                self.died = waits(DIED);
                self.open = Some(line);
                Ok(Asked::Answered(answer))
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "a line ended early");
                if line.is_unused() {
                    let wait = self.died.next();
                    self.failed(&error, wait);
                }
                Ok(Asked::Ended)
            }
            Err(_) => {
                // A line that carries no answer counts as one that does not work.
                let error = AppError::Timeout(patience);
                let wait = self.no_way.next();
                self.pause(&error, wait);
                Err(error)
            }
        }
    }

    /// Takes the line for a request of this many bytes, and opens the next in good time.
    fn take(&mut self, request: usize) -> Option<Line> {
        self.look_at_next();
        if !self.opener.suits(request) {
            return None;
        }
        let mut line = self.open.take();
        let mut wear = line.as_mut().map_or(Wear::Spent, |line| line.wear(request));
        if wear == Wear::Spent {
            line = match std::mem::replace(&mut self.next, Next::None) {
                Next::Open(line) => Some(line),
                next => {
                    self.next = next;
                    None
                }
            };
            wear = line.as_mut().map_or(Wear::Spent, |line| line.wear(request));
        }
        if wear != Wear::Fresh {
            self.open_next();
        }
        line.filter(|_| wear != Wear::Spent)
    }

    /// Ends the lines whose time is over, or that the app has ended.
    pub(crate) fn look(&mut self) {
        let is_spent = |line: &mut Line| line.wear(0) == Wear::Spent;
        self.open.take_if(is_spent);
        self.look_at_next();
        if let Next::Open(line) = &mut self.next
            && is_spent(line)
        {
            self.next = Next::None;
        }
    }

    fn look_at_next(&mut self) {
        let Next::Opening(opening) = &mut self.next else {
            return;
        };
        self.next = match opening.now_or_never() {
            None => return,
            Some(Ok(Ok(line))) => {
                self.metrics.lines_total.add(1);
                Next::Open(line)
            }
            Some(Ok(Err(error))) => {
                self.failed(&error, AWAY);
                Next::None
            }
            Some(Err(_)) => Next::None,
        };
    }

    fn open_next(&mut self) {
        if Instant::now() >= self.not_before && matches!(self.next, Next::None) {
            self.next = Next::Opening(tokio::spawn(self.opener.clone().open()));
        }
    }

    /// Lets no line be tried for some time: for `away` if the app is at fault, and for a pause of [`NO_WAY`] if the way
    /// to it is.
    fn failed(&mut self, error: &AppError, away: Duration) {
        let wait = match error {
            AppError::Unreachable(_) => away,
            AppError::Status(status) if status.is_server_error() => away,
            _ => self.no_way.next(),
        };
        self.pause(error, wait);
    }

    /// Lets no line be tried before `wait` is over.
    fn pause(&mut self, error: &AppError, wait: Duration) {
        self.metrics.lines_failed_total.add(1);
        tracing::debug!(%error, ?wait, "a line to the app could not be opened, or gave no answer");
        self.not_before = Instant::now() + wait;
    }
}

fn waits((first, longest): (Duration, Duration)) -> Backoff {
    // The random part only shortens a wait.
    Backoff::new(first * 2, longest)
}
