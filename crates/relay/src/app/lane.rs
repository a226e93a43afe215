//! The lanes of appends: over each, one append goes after the other.

use crate::app::client::App;
use crate::app::error::AppError;
use crate::app::lateness::Lateness;
use crate::app::persistent_line::{Asked, PersistentLine};
use crate::app::submission::{Submission, encode};
use crate::app::upstream::Dedicated;
use crate::metrics::Metrics;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The things that all lanes of a relay share.
#[derive(Clone)]
pub(crate) struct Lanes {
    pub(crate) app: Arc<App>,
    pub(crate) metrics: Arc<Metrics>,
    /// The id of the relay.
    pub(crate) origin: Arc<str>,
}

impl Lanes {
    /// A lane that opens its connection with the first append.
    pub(crate) fn open(&self) -> Lane {
        Lane {
            shared: self.clone(),
            connection: None,
            defers: false,
        }
    }

    /// The main lane.
    pub(crate) fn open_main(&self) -> MainLane {
        MainLane {
            lane: Lane {
                defers: true,
                ..self.open()
            },
            line: self.app.line(),
            spare: self.open(),
            lateness: Lateness::default(),
        }
    }
}

/// The main lane: a line to the app, single requests while there is none, and another connection for a batch whose
/// answer is late.
pub(crate) struct MainLane {
    /// The single requests.
    pub(crate) lane: Lane,
    line: PersistentLine,
    spare: Lane,
    lateness: Lateness,
}

impl MainLane {
    /// Sends an append of this many updates, by the line or by itself, and waits for the answer for at most `patience`.
    /// If it is late, the append is sent once more as a single request, and the first answer counts.
    pub(crate) async fn append(
        &mut self,
        body: Bytes,
        updates: usize,
        patience: Duration,
    ) -> Result<Vec<wire::Outcome>, AppError> {
        let Self {
            lane,
            line,
            spare,
            lateness,
        } = self;
        let begun = Instant::now();
        let late_after = lateness.late_after();
        let first = async {
            let app = lane.shared.app.clone();
            let on_line = app.append_on(line, &body, updates, patience);
            match on_line.await? {
                Asked::Answered(outcomes) => {
                    lane.shared.metrics.appends_total.add(1);
                    return Ok(outcomes);
                }
                Asked::NoLine | Asked::Ended => {}
            }
            lane.append(body.clone(), updates, patience).await
        };
        tokio::pin!(first);
        let answer = match timeout(late_after, &mut first).await {
            Ok(answer) => answer,
            Err(_) if lateness.take_repeat() => {
                spare.shared.metrics.append_repeats_total.add(1);
                let again = spare.append(body.clone(), updates, patience);
                first_answer(first, again).await
            }
            Err(_) => first.await,
        };
        if answer.is_ok() {
            lateness.took(begun.elapsed());
        }
        answer
    }

    /// Ends the line if its time is over. While no client edits, nothing else ends it.
    pub(crate) fn look(&mut self) {
        self.line.look();
    }
}

/// Waits for the first answer that is not an error. If both are errors, returns the error of `first`, because the other
/// proves nothing more.
async fn first_answer<T>(
    first: impl Future<Output = Result<T, AppError>>,
    again: impl Future<Output = Result<T, AppError>>,
) -> Result<T, AppError> {
    tokio::pin!(first, again);
    tokio::select! {
        answer = &mut first => match answer {
            Ok(answer) => Ok(answer),
            Err(error) => again.await.map_err(|_| error),
        },
        answer = &mut again => match answer {
            Ok(answer) => Ok(answer),
            Err(_) => first.await,
        },
    }
}

/// A lane of single requests.
pub(crate) struct Lane {
    shared: Lanes,
    connection: Option<Dedicated>,
    /// Says whether the app may leave updates undecided, so that no other update waits for them.
    defers: bool,
}

impl Lane {
    /// Encodes an append. A repeated append must have the same bytes.
    pub(crate) fn encode(&self, batch: &[Submission]) -> Bytes {
        encode(&self.shared.origin, batch, self.defers)
    }

    /// Returns whether the next append goes over a connection that was used before. The app may have closed it meanwhile.
    pub(crate) fn is_reused(&self) -> bool {
        self.connection.is_some()
    }

    /// Sends an append of this many updates, and waits for the answer for at most `patience`.
    pub(crate) async fn append(
        &mut self,
        body: Bytes,
        updates: usize,
        patience: Duration,
    ) -> Result<Vec<wire::Outcome>, AppError> {
        self.shared.metrics.appends_total.add(1);
        let app = &self.shared.app;
        app.append(&mut self.connection, body, updates, patience)
            .await
    }

    /// Counts an append that failed and is repeated.
    pub(crate) fn count_retry(&self) {
        self.shared.metrics.append_retries_total.add(1);
    }

    /// Returns whether the app answers an append of nothing. It is the control of a trial: if it fails too, the updates
    /// are not at fault.
    pub(crate) async fn passes_empty(&mut self, patience: Duration) -> bool {
        let nothing = self.encode(&[]);
        self.append(nothing, 0, patience).await.is_ok()
    }
}
