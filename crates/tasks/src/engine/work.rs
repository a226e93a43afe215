//! The next step of one claimed task: its submission, or a poll.

use std::time::Duration;

use futures_util::{StreamExt, future, join, stream};
use serde_json::Value;

use super::{
    Engine,
    lease::{lease, patience},
};
use crate::{
    earlier,
    error::TaskError,
    executor::{Context, Executor, Failure, MAX_NAME_BYTES, POLL_PATIENCE, Progress},
    rows::{self, End},
    task::Task,
};

/// An instance that has submitted a task stays to poll if the poll is due this soon.
const STAY: Duration = Duration::from_secs(10);

/// The number of answers to one question that are noted at once.
const NOTES_AT_ONCE: usize = 8;

/// The error of a task that waits for a later round because a question about it and others was refused.
const REFUSED_TOGETHER: &str =
    "the service refused a question about several jobs; the server asks about this one later";

/// The most questions about halves that follow a refused question about this many jobs: enough to find one job that is
/// the reason, wherever it is.
fn most_halves(jobs: usize) -> usize {
    2 * jobs.next_power_of_two().ilog2() as usize
}

impl Engine<'_> {
    /// Does the next step of a claimed task. After a submission it polls too, if the service asks for that at once,
    /// or if `stay` is set and the result comes soon.
    pub(super) async fn work(&self, executor: &dyn Executor, mut task: Task, mut stay: bool) {
        // Without `stay`, this instance also works on other tasks, and its round copies the results of all of them.
        let in_own = stay;
        loop {
            let is_submission = task.external_task_id.is_none();
            let news = if is_submission {
                // The submission is on its way before anything else is done.
                join!(
                    self.submit(executor, &task),
                    self.publish(&task),
                    self.notify_of_event(&task, "started")
                )
                .0
            } else {
                self.poll(executor, &task).await
            };
            let is_done = matches!(news, Ok(Progress::Done(_)));
            let look_again = self.note(executor, &task, news).await;
            if is_done && in_own {
                self.keep_results(&task.job()).await;
            }
            let is_soon = |wait: &Duration| wait.is_zero() || (stay && *wait <= STAY);
            let Some(wait) = look_again.filter(|wait| is_submission && is_soon(wait)) else {
                return;
            };
            stay = false;
            self.ports.clock.sleep(wait).await;
            let (now, lease) = (
                self.ports.clock.unix_seconds(),
                lease(executor, self.ports.config),
            );
            match rows::claim_poll(self.ports.database, &task.task_id, now, lease).await {
                Ok(Some(claimed)) => task = claimed,
                Ok(None) => return,
                // The poller finds the task.
                Err(error) => {
                    tracing::warn!(task_id = task.task_id, %error, "a task could not be claimed");
                    return;
                }
            }
        }
    }

    /// Polls claimed tasks in one question, and then each task alone about which the answer says nothing.
    pub(super) async fn work_together(
        &self,
        executor: &dyn Executor,
        tasks: Vec<Task>,
        begun: i64,
    ) {
        let answered = self.ask_together(executor, tasks, begun).await;
        stream::iter(answered)
            .for_each_concurrent(NOTES_AT_ONCE, |(task, news)| async move {
                match news {
                    Some(news) => {
                        log_news(&task, "polled", &news);
                        self.note(executor, &task, news).await;
                    }
                    None => self.work(executor, task, false).await,
                }
            })
            .await;
    }

    /// Asks the service about several tasks in one question. A question that is refused for good is asked again about
    /// each half, because one job may be the reason: finding it takes at most [`most_halves`] more questions. The tasks
    /// that are left after these, or when the round is over, wait for a later round. Returns `None` with each task that
    /// is to be asked about alone.
    async fn ask_together(
        &self,
        executor: &dyn Executor,
        tasks: Vec<Task>,
        begun: i64,
    ) -> Vec<(Task, Option<Result<Progress, Failure>>)> {
        let mut halves_left = most_halves(tasks.len());
        let mut answered = Vec::with_capacity(tasks.len());
        let mut groups = vec![tasks];
        let mut is_half = false;
        while let Some(mut group) = groups.pop() {
            let news = if is_half && (halves_left == 0 || !self.is_time_left(begun)) {
                vec![Some(Err(Failure::retry(REFUSED_TOGETHER))); group.len()]
            } else if is_half && group.len() == 1 {
                halves_left -= 1;
                vec![None]
            } else {
                halves_left -= usize::from(is_half);
                let context = self.context("");
                let question = executor.poll_together(&group, &context);
                match self.within(POLL_PATIENCE, question).await {
                    Ok(news) => news,
                    Err(Failure::Permanent(_)) if group.len() > 1 => {
                        is_half = true;
                        groups.push(group.split_off(group.len() / 2));
                        groups.push(group);
                        continue;
                    }
                    Err(Failure::Permanent(_)) => vec![None],
                    Err(failure) => vec![Some(Err(failure)); group.len()],
                }
            };
            // An executor that answers about too few of them has said nothing of the rest.
            let news = news.into_iter().chain(std::iter::repeat(None));
            answered.extend(group.into_iter().zip(news));
        }
        answered
    }

    /// Notes the news of a claimed task. Returns the time after which the service asks to be polled, if it names one.
    async fn note(
        &self,
        executor: &dyn Executor,
        task: &Task,
        news: Result<Progress, Failure>,
    ) -> Option<Duration> {
        let mut next = None;
        let noted = match news {
            Ok(Progress::Running {
                external_task_id, ..
            }) if external_task_id.len() > MAX_NAME_BYTES => {
                let reason = "the service's name for the job is too long";
                self.fail(executor, task, Failure::retry(reason)).await
            }
            Ok(Progress::Running {
                external_task_id,
                look_again,
            }) => {
                next = look_again;
                self.note_running(executor, task, &external_task_id).await
            }
            Ok(Progress::Done(product)) => {
                self.note_taken(executor, task).await;
                let external = task.external_task_id.as_deref();
                match self.complete(task, external, product).await {
                    Err(TaskError::Asset(error)) => {
                        self.fail(executor, task, Failure::retry(error.to_string()))
                            .await
                    }
                    ended => ended,
                }
            }
            Err(failure) => self.fail(executor, task, failure).await,
        };
        if let Err(error) = noted {
            // The claim runs out, and another instance takes the task up again.
            tracing::error!(task_id = task.task_id, %error, "the progress of a task was not recorded");
        }
        next
    }

    async fn note_running(
        &self,
        executor: &dyn Executor,
        task: &Task,
        external_task_id: &str,
    ) -> Result<(), TaskError> {
        let (database, now) = (self.ports.database, self.ports.clock.unix_seconds());
        let longest = executor.longest_job(self.ports.config).as_secs() as i64;
        if task.external_task_id.is_none() {
            rows::accept(database, task, external_task_id, now).await?;
            if self.note_taken(executor, task).await {
                self.submit_next(executor).await;
            }
        } else if now - task.accepted_at.unwrap_or(task.created_at) >= longest {
            let (title, hours) = (executor.title(), longest / 3600);
            let error = format!(
                "{title} has worked on the job for {hours} h without an end; a retry looks for its result first"
            );
            self.end(task, None, End::Failed { error: &error }).await?;
        } else if task.retry_count > 0 {
            rows::forgive(database, task, now).await?;
        }
        Ok(())
    }

    /// Notes that a submission was taken. Returns whether it was a try for one more place than was known: the next one then
    /// follows at once, so that places which become free by themselves are soon found.
    async fn note_taken(&self, executor: &dyn Executor, task: &Task) -> bool {
        if task.external_task_id.is_some() {
            return false;
        }
        let (service, now) = (executor.service(), self.ports.clock.unix_seconds());
        if let Err(error) = rows::has_taken(self.ports.database, service, task.is_probe, now).await
        {
            tracing::warn!(service, %error, "the service's acceptance of a task was not recorded");
        }
        task.is_probe
    }

    async fn submit(&self, executor: &dyn Executor, task: &Task) -> Result<Progress, Failure> {
        let callback_url = self.callback_url(executor.service(), task);
        let params = self.params(task).await?;
        let earlier = earlier::read(&self.assets, executor, task, &params).await?;
        let context = Context {
            earlier: earlier.as_ref(),
            ..self.context(&callback_url)
        };
        let submission = executor.submit(task, &params, &context);
        let news = self
            .within(patience(executor, self.ports.config), submission)
            .await;
        log_news(task, "submitted", &news);
        news
    }

    async fn poll(&self, executor: &dyn Executor, task: &Task) -> Result<Progress, Failure> {
        let callback_url = self.callback_url(executor.service(), task);
        let context = self.context(&callback_url);
        let params = self.params(task).await?;
        let poll = executor.poll(task, &params, &context);
        let news = self.within(POLL_PATIENCE, poll).await;
        log_news(task, "polled", &news);
        news
    }

    /// The parameters of a claimed task. They were an object when the task was posted.
    async fn params(&self, task: &Task) -> Result<Value, Failure> {
        match rows::params(self.ports.database, &task.task_id).await {
            Ok(params) => Ok(params
                .and_then(|text| serde_json::from_str(&text).ok())
                .unwrap_or_default()),
            Err(error) => {
                tracing::error!(task_id = task.task_id, %error, "the parameters of a task could not be read");
                Err(Failure::retry(
                    "the parameters cannot be read at the moment",
                ))
            }
        }
    }

    async fn within<T>(
        &self,
        patience: Duration,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let too_long = self.ports.clock.sleep(patience);
        match future::select(std::pin::pin!(work), too_long).await {
            future::Either::Left((news, _)) => news,
            future::Either::Right(_) => Err(Failure::retry(format!(
                "no answer within {} s",
                patience.as_secs()
            ))),
        }
    }

    pub(super) fn context<'b>(&'b self, callback_url: &'b str) -> Context<'b> {
        Context {
            http: self.ports.http,
            config: self.ports.config,
            clock: self.ports.clock,
            key_value: self.ports.key_value,
            assets: &self.assets,
            callback_url,
            earlier: None,
        }
    }
}

/// Logs the kind of news. The service's words are in the row. They are logged only if the service has no place or is
/// asked too often, because others may quote a prompt.
fn log_news(task: &Task, step: &str, news: &Result<Progress, Failure>) {
    let (task_id, project) = (&task.task_id, &task.project_id);
    match news {
        Ok(Progress::Running { .. }) => {
            tracing::debug!(task_id, project, step, "a task is running")
        }
        Ok(Progress::Done(_)) => tracing::debug!(task_id, project, step, "a task is done"),
        Err(Failure::Permanent(_)) => tracing::warn!(task_id, project, step, "a task failed"),
        Err(Failure::Access(_)) => {
            tracing::error!(task_id, project, step, "the service denies access")
        }
        Err(Failure::NoPlace { reason, .. }) => {
            tracing::info!(
                task_id,
                project,
                step,
                reason,
                "the service has no place for a task"
            )
        }
        Err(Failure::TooOften { reason, .. }) => {
            tracing::info!(
                task_id,
                project,
                step,
                reason,
                "the service is asked too often"
            )
        }
        Err(Failure::Retry { .. }) => {
            tracing::warn!(task_id, project, step, "a task will be tried again")
        }
    }
}
