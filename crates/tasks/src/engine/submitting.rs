//! The submissions that are due, each in an instance of its own.
//!
//! The app asks itself for a submission: the instance that is asked claims a task, answers, and then submits it. So
//! the instance that asks is free at once, a slow service holds nothing but small instances, and if an answer of the
//! service fills the memory of one of them, one answer is lost and not all.

use std::time::Duration;

use futures_util::future;
use platform::http_client::Limits;

use super::{Engine, lease::lease};
use crate::{
    error::TaskError,
    executor::Executor,
    rows,
    task::{Status, Task},
};

/// The path of a submission in an instance of its own; the service's name follows.
const SUBMISSIONS_PATH: &str = "/internal/submissions/";

/// The limits of the answer to such a request, which comes as soon as a task is claimed.
const ANSWER: Limits = Limits {
    timeout: Duration::from_secs(10),
    max_bytes: 64 * 1024,
};

/// The most tasks of one service that a round ends because their claims ended without an outcome.
const SILENT_AT_ONCE: u64 = 64;

/// The seconds after which a task that has not been submitted yet counts as waiting for a place, because the poller has
/// passed it over.
const PASSED_OVER: i64 = 5;

/// The answer to a request for a submission.
#[derive(PartialEq)]
enum Asked {
    /// A task was claimed and is being submitted.
    Claimed,
    /// The service has no submission that is due, or can take none now.
    NoMore,
    /// The host does not let the app ask itself.
    Impossible,
}

impl Engine<'_> {
    /// Submits one task of this task's service, in an instance of its own: the task that is next, which may be another.
    pub async fn take_up(&self, task: &Task) {
        let Some(executor) = self.executor(task) else {
            return;
        };
        match self.submit_elsewhere(executor).await {
            Asked::Claimed => return,
            Asked::NoMore => return self.explain_wait(executor, task).await,
            Asked::Impossible => {}
        }
        match self.claim_submission(executor).await {
            Ok(Some(claimed)) => self.work(executor, claimed, true).await,
            Ok(None) => self.explain_wait(executor, task).await,
            Err(error) => {
                tracing::error!(task_id = task.task_id, %error, "a task could not be claimed")
            }
        }
    }

    /// Submits the due tasks of one service, and ends those that may not be tried again.
    pub(super) async fn submit_due(&self, executor: &dyn Executor, begun: i64) {
        self.end_silent(executor).await;
        let mut is_alone = false;
        // A round makes no more submissions than the service has places, because a service that fails each task at once
        // always has a free place, and the round would not end.
        for _ in 0..executor.places(self.ports.config) {
            if !self.is_time_left(begun) {
                break;
            }
            if !is_alone {
                match self.submit_elsewhere(executor).await {
                    Asked::Claimed => continue,
                    Asked::NoMore => break,
                    Asked::Impossible => is_alone = true,
                }
            }
            // One submission follows the other, because they share the memory of this instance.
            match self.claim_submission(executor).await {
                Ok(Some(task)) => self.work(executor, task, false).await,
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(service = executor.service(), %error, "a due submission could not be claimed");
                    break;
                }
            }
        }
        self.explain_waits(executor).await;
    }

    /// Submits the next task of a service, because the end of this one has freed its place.
    pub(super) async fn fill_place(&self, ended: &Task) {
        let had_place = ended.external_task_id.is_some() || ended.attempts > 0;
        // A service that refuses each task at once is asked as often as the poller's rounds allow, and not faster.
        let is_refused = ended.external_task_id.is_none() && ended.status == Status::Failed;
        if let Some(executor) = self.executor(ended).filter(|_| had_place && !is_refused) {
            self.submit_next(executor).await;
        }
    }

    /// Submits the next task of a service. If that is not possible now, the poller's next round does it.
    pub(super) async fn submit_next(&self, executor: &dyn Executor) {
        let (service, database) = (executor.service(), self.ports.database);
        let now = self.ports.clock.unix_seconds();
        match rows::is_submission_due(database, service, now).await {
            Ok(true) => {
                self.submit_elsewhere(executor).await;
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(service, %error, "a free place could not be filled"),
        }
    }

    async fn end_silent(&self, executor: &dyn Executor) {
        let (service, database) = (executor.service(), self.ports.database);
        let (now, lease) = (
            self.ports.clock.unix_seconds(),
            lease(executor, self.ports.config),
        );
        match rows::end_silent(database, service, now, lease, SILENT_AT_ONCE).await {
            Ok(ended) => {
                for task in &ended {
                    tracing::warn!(
                        task_id = task.task_id,
                        project = task.project_id,
                        "a task ended, because every try ended without an answer"
                    );
                }
                future::join_all(ended.iter().map(|task| self.ended(task))).await;
            }
            Err(error) => {
                tracing::error!(service, %error, "tasks whose tries ended without an answer could not be ended")
            }
        }
    }

    /// Records in a task that found no place just now what it waits for, because its user sees that.
    async fn explain_wait(&self, executor: &dyn Executor, task: &Task) {
        let (database, now) = (self.ports.database, self.ports.clock.unix_seconds());
        let message = waits_for_place(executor);
        if let Err(error) = rows::explain_wait(database, &task.task_id, now, &message).await {
            tracing::warn!(task_id = task.task_id, %error, "the reason why a task waits was not recorded");
        }
    }

    /// Records in the tasks that are due but were not claimed what they wait for, because their users see that.
    async fn explain_waits(&self, executor: &dyn Executor) {
        let (service, database) = (executor.service(), self.ports.database);
        let (now, message) = (self.ports.clock.unix_seconds(), waits_for_place(executor));
        if let Err(error) = rows::explain_waits(database, service, now, PASSED_OVER, &message).await
        {
            tracing::warn!(service, %error, "the reason why tasks wait was not recorded");
        }
    }

    /// Asks the app itself for a submission.
    async fn submit_elsewhere(&self, executor: &dyn Executor) -> Asked {
        let service = executor.service();
        let path = format!("{SUBMISSIONS_PATH}{service}");
        let answer = self.ports.ask_self(&path, Vec::new(), ANSWER).await;
        match answer.map(|answer| answer.status().as_u16()) {
            Ok(202) => Asked::Claimed,
            Ok(204) => Asked::NoMore,
            Ok(status) => {
                tracing::warn!(service, status, "a submission was not begun");
                Asked::NoMore
            }
            Err(error) if error.is_not_sent() => Asked::Impossible,
            Err(error) => {
                tracing::warn!(service, %error, "a submission was not begun");
                Asked::NoMore
            }
        }
    }

    async fn claim_submission(&self, executor: &dyn Executor) -> Result<Option<Task>, TaskError> {
        let (database, now) = (self.ports.database, self.ports.clock.unix_seconds());
        Ok(rows::claim_submission(database, self.rule(executor), now).await?)
    }

    /// Claims the task of a service that is next to be submitted. The caller then [submits](Self::submit_claimed) it.
    /// `None` if no task is due, or every place at the service is taken.
    ///
    /// # Errors
    /// [`TaskError::NotFound`] if there is no such service, or if the database fails.
    pub async fn claim_next(&self, service: &str) -> Result<Option<Task>, TaskError> {
        let executor = self.registry.service(service).ok_or(TaskError::NotFound)?;
        self.claim_submission(executor).await
    }

    /// Submits a claimed task, and stays for its result if that comes soon.
    pub async fn submit_claimed(&self, claimed: Task) {
        if let Some(executor) = self.executor(&claimed) {
            self.work(executor, claimed, true).await;
        }
    }
}

/// The message of a task whose service has no place for it.
pub(super) fn waits_for_place(executor: &dyn Executor) -> String {
    format!("waiting for a place at {}", executor.title())
}
