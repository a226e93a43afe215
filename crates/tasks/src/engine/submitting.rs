//! The submissions that are due.

use futures_util::future;
use platform::http_client::Limits;

use super::{
    Engine,
    lease::{MARGIN, lease},
};
use crate::{error::TaskError, executor::Executor, rows};

/// The path to which the poller posts for a submission in an instance of its own; the service's name
/// follows.
const SUBMISSIONS_PATH: &str = "/internal/submissions/";

/// The most submissions of one service that a round of the poller has under way at once, each in an
/// instance of its own.
const SUBMISSIONS_AT_ONCE: usize = 8;

/// The most tasks of one service that a round ends because their claims ended in silence.
const SILENT_AT_ONCE: u64 = 64;

/// The end of a sequence of submissions elsewhere.
#[derive(PartialEq)]
enum Lane {
    /// No more submissions are due, the time is up, or one failed.
    Ended,
    /// The host does not let the app ask itself.
    NotAsked,
}

impl Engine<'_> {
    /// Has the due tasks of one service submitted, and ends those that may not be tried again.
    pub(super) async fn submit_due(&self, executor: &dyn Executor, begun: i64) {
        let (service, database) = (executor.service(), self.ports.database);
        let (now, lease) = (self.ports.clock.unix_seconds(), lease(executor));
        match rows::end_silent(database, service, now, lease, SILENT_AT_ONCE).await {
            Ok(ended) => {
                for task in &ended {
                    tracing::warn!(
                        task_id = task.task_id,
                        project = task.project_id,
                        "task ended, because every try ended in silence"
                    );
                    self.ended(task).await;
                }
            }
            Err(error) => tracing::error!(service, %error, "silent tasks not ended"),
        }
        let due = rows::count_submissions(database, service, now, lease, SUBMISSIONS_AT_ONCE).await;
        let due = due.unwrap_or_else(|error| {
            tracing::error!(service, %error, "due submissions not found");
            0
        });
        let lanes = (0..due).map(|_| self.submit_elsewhere(executor, begun));
        let is_alone = future::join_all(lanes).await.contains(&Lane::NotAsked);
        // If the host does not let the app ask itself, one submission follows the other, because they
        // share the memory of this instance.
        while is_alone && self.is_time_left(begun) {
            match self.submit_next(service).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::error!(service, %error, "due submission not claimed");
                    return;
                }
            }
        }
    }

    /// Asks the app itself for one submission after the other, each in an instance of its own: the answer of a
    /// service may fill the memory of an instance, and if that dies, one answer is lost and not all.
    async fn submit_elsewhere(&self, executor: &dyn Executor, begun: i64) -> Lane {
        let service = executor.service();
        let limits = Limits {
            timeout: executor.patience() + 2 * MARGIN,
            max_bytes: 64 * 1024,
        };
        let path = format!("{SUBMISSIONS_PATH}{service}");
        while self.is_time_left(begun) {
            let answer = self.ports.ask_ourselves(&path, Vec::new(), limits).await;
            match answer.map(|answer| answer.status().as_u16()) {
                Ok(200) => {}
                Ok(204) => return Lane::Ended,
                // The claim of a submission that failed runs out.
                Ok(status) => {
                    tracing::warn!(service, status, "submission failed");
                    return Lane::Ended;
                }
                Err(error) if error.is_not_sent() => return Lane::NotAsked,
                Err(error) => {
                    tracing::warn!(service, %error, "submission failed");
                    return Lane::Ended;
                }
            }
        }
        Lane::Ended
    }

    /// Submits the task of a service that has waited longest. Returns `false` if none is due.
    ///
    /// # Errors
    /// [`TaskError::NotFound`] if there is no such service, or if the database fails.
    pub async fn submit_next(&self, service: &str) -> Result<bool, TaskError> {
        let executor = self.registry.service(service).ok_or(TaskError::NotFound)?;
        let (now, lease) = (self.ports.clock.unix_seconds(), lease(executor));
        let claimed = rows::claim_submission(self.ports.database, service, now, lease).await?;
        let Some(task) = claimed else {
            return Ok(false);
        };
        self.work(executor, task, false).await;
        Ok(true)
    }
}
