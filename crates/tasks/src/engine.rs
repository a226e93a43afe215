//! What makes tasks go on: submissions, polls and callbacks, and what follows from each.
//!
//! The row is the truth. Whoever works on a task has claimed it by one statement, and writes what came
//! of it under that claim, so that any number of instances may run and any of them may die at any time:
//! then the claim runs out and another takes the task up. Only the end of a task needs no claim: the
//! first end wins, from wherever it comes.

use std::time::Duration;

use auth::webhooks::WebhookKey;
use futures_util::{StreamExt, future, join, stream, stream::FuturesUnordered};
use platform::{Config, Ports, http_client::Limits};
use rand::Rng;
use serde_json::{Value, json};

use crate::{
    AssetError, AssetStore, Callback, Failure, Media, Outside, POLL_PATIENCE, Product, Progress,
    Registry, Task, TaskError,
    executors::Executor,
    notification,
    result_address::{self, Address},
    rows::{self, End, FIRST_WAIT, LONGEST_WAIT},
};

/// The channel on which each change of a task is told, as [`event`].
pub const EVENTS_CHANNEL: &str = "task-events";

/// How many tasks of one service are asked about at once by one instance.
const AT_ONCE: usize = 32;

/// Tasks are claimed when there is room for so many, so that not each takes a statement.
const CLAIM_FROM: usize = AT_ONCE / 4;

/// How many submissions of one service a round of the poller has under way at once, each in an instance of its own.
const SUBMISSIONS_AT_ONCE: usize = 8;

/// How many tasks of one service a round ends whose claims ended in silence.
const SILENT_AT_ONCE: u64 = 64;

/// For how long after its acceptance a job is asked about, in seconds, if that goes wrong all the time. Then there is
/// nothing left to ask for: Kling deletes results after 30 days, and others sooner.
const RESULTS_KEPT: i64 = 30 * 24 * 3600;

/// The most pictures or videos of one result, and the most bytes that a service says about it.
const MAX_MEDIA: usize = 16;
const MAX_DATA_BYTES: usize = 64 * 1024;

/// The longest name that a service may give a job, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// The poller begins nothing new after so many seconds, for its next tick comes.
const TICK: i64 = 9;

/// How much longer a task is claimed than working on it may take.
const MARGIN: Duration = Duration::from_secs(5);

/// An instance that has submitted a task stays to look again if that is due so soon.
const STAY: Duration = Duration::from_secs(10);

/// What an instance works with.
pub struct Engine<'a> {
    /// The world.
    pub ports: Ports<'a>,
    /// Where inline results go.
    pub assets: AssetStore<'a>,
    /// The services.
    pub registry: Registry,
    /// What callback addresses are signed with.
    pub key: WebhookKey,
}

/// Where the poller asks for a submission in an instance of its own, before the service's name.
pub const SUBMISSIONS_PATH: &str = "/internal/submissions/";

/// How a row of submissions elsewhere ended.
#[derive(PartialEq)]
enum Lane {
    /// Nothing is due any more, the time is up, or something went wrong.
    Ended,
    /// The host does not let us ask ourselves.
    NotAsked,
}

/// What to say on [`EVENTS_CHANNEL`] of a task.
pub fn event(task: &Task) -> Vec<u8> {
    json!({ "task_id": task.task_id, "project_id": task.project_id, "status": task.status })
        .to_string()
        .into_bytes()
}

/// The project of an [`event`].
pub fn project_of_event(message: &[u8]) -> Option<String> {
    let event: Value = serde_json::from_slice(message).ok()?;
    Some(event.get("project_id")?.as_str()?.to_owned())
}

impl<'a> Engine<'a> {
    /// The engine of these ports and the services of this release.
    ///
    /// # Errors
    /// When the settings do not suffice, or the key-value store fails.
    pub async fn open(ports: Ports<'a>) -> Result<Self, TaskError> {
        let key = WebhookKey::obtain(ports.config, ports.key_value, ports.clock).await?;
        // Callbacks and results lead there.
        ports.config.read("public_url")?;
        Ok(Self {
            ports,
            assets: AssetStore::open(ports.database, ports.http, ports.config)?,
            registry: Registry::standard(ports.config),
            key,
        })
    }
}

impl Engine<'_> {
    /// Takes a task up that was just posted, or set back: submits it, and stays for its result if that
    /// comes soon. Does nothing where somebody else has it.
    pub async fn take_up(&self, task: &Task) {
        let Some(executor) = self.executor(task) else {
            return;
        };
        let (now, lease) = (self.ports.clock.unix_seconds(), lease(executor));
        match rows::claim_one(self.ports.database, &task.task_id, now, lease).await {
            Ok(Some(claimed)) => self.work(executor, claimed, true).await,
            Ok(None) => {}
            Err(error) => tracing::error!(task_id = task.task_id, %error, "task not claimed"),
        }
    }

    /// One round of the poller: all submissions and polls that are due, and agents to be told. Each
    /// service has a limit of its own, so that one that hangs holds up no other.
    pub async fn tick(&self) {
        let begun = self.ports.clock.unix_seconds();
        let services = self.registry.iter().map(|executor| async move {
            join!(
                self.submit_due(executor, begun),
                self.poll_due(executor, begun)
            )
        });
        join!(future::join_all(services), self.notify(None));
    }

    /// Has the tasks of one service submitted that are due, and ends those that may not be tried again.
    async fn submit_due(&self, executor: &dyn Executor, begun: i64) {
        let (service, database) = (executor.service(), self.ports.database);
        let (now, lease) = (self.ports.clock.unix_seconds(), lease(executor));
        match rows::end_silent(database, service, now, lease, SILENT_AT_ONCE).await {
            Ok(ended) => {
                for task in &ended {
                    tracing::warn!(
                        task_id = task.task_id,
                        project = task.project_id,
                        "task ended, for every try ended in silence"
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
        // The host does not let us ask ourselves: one at a time, then, for they share the memory of this instance.
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

    fn is_time_left(&self, begun: i64) -> bool {
        self.ports.clock.unix_seconds() - begun < TICK
    }

    /// Asks ourselves for one submission after the other, each in an instance of its own: what services answer may fill
    /// the memory of one, and if that dies, one answer is lost and not all.
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
                Err(error) if error.is_not_sent() => return Lane::NotAsked,
                // Its claim runs out.
                Ok(status) => {
                    tracing::warn!(service, status, "submission came to nothing");
                    return Lane::Ended;
                }
                Err(error) => {
                    tracing::warn!(service, %error, "submission came to nothing");
                    return Lane::Ended;
                }
            }
        }
        Lane::Ended
    }

    /// Submits the task of a service that has waited longest, if there is one.
    ///
    /// # Errors
    /// When there is no such service, or the database fails.
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

    /// Asks about the jobs of one service that are due. What is claimed is begun at once, for its claim runs.
    async fn poll_due(&self, executor: &dyn Executor, begun: i64) {
        let service = executor.service();
        let mut at_work = FuturesUnordered::new();
        let mut is_empty = false;
        loop {
            let now = self.ports.clock.unix_seconds();
            let room = AT_ONCE - at_work.len();
            if room >= CLAIM_FROM && !is_empty && self.is_time_left(begun) {
                let claimed =
                    rows::claim_polls(self.ports.database, service, now, lease(executor), room)
                        .await;
                let due = claimed.unwrap_or_else(|error| {
                    tracing::error!(service, %error, "due polls not claimed");
                    Vec::new()
                });
                is_empty = due.len() < room;
                at_work.extend(due.into_iter().map(|task| self.work(executor, task, false)));
            }
            if at_work.next().await.is_none() {
                return;
            }
        }
    }

    /// Does what is next for a claimed task.
    async fn work(&self, executor: &dyn Executor, mut task: Task, mut stay: bool) {
        loop {
            let is_submission = task.external_task_id.is_none();
            let news = if is_submission {
                // The submission is on its way before anything else is done.
                join!(self.submit(executor, &task), self.tell(&task)).0
            } else {
                self.poll(executor, &task).await
            };
            let next = match news {
                Ok(Progress::Running {
                    external_task_id, ..
                }) if external_task_id.len() > MAX_NAME_BYTES => {
                    let words = "the service calls the job by a name that is too long";
                    let noted = self.fail(&task, Failure::retry(words)).await;
                    log_failure(&task, noted);
                    None
                }
                Ok(Progress::Running {
                    external_task_id,
                    look_again,
                }) => {
                    let noted = if is_submission {
                        let now = self.ports.clock.unix_seconds();
                        rows::accept(self.ports.database, &task, &external_task_id, now).await
                    } else if task.retry_count > 0 {
                        rows::forgive(self.ports.database, &task, self.ports.clock.unix_seconds())
                            .await
                    } else {
                        Ok(())
                    };
                    log_failure(&task, noted);
                    let is_soon = |wait: &Duration| wait.is_zero() || (stay && *wait <= STAY);
                    look_again.filter(|wait| is_submission && is_soon(wait))
                }
                Ok(Progress::Done(product)) => {
                    let external = task.external_task_id.clone();
                    let mut ended = self.complete(&task, external.as_deref(), product).await;
                    if let Err(TaskError::Asset(error)) = ended {
                        ended = self.fail(&task, Failure::retry(error.to_string())).await;
                    }
                    log_failure(&task, ended);
                    None
                }
                Err(failure) => {
                    let noted = self.fail(&task, failure).await;
                    log_failure(&task, noted);
                    None
                }
            };
            let Some(wait) = next else {
                return;
            };
            stay = false;
            self.ports.clock.sleep(wait).await;
            let (now, lease) = (self.ports.clock.unix_seconds(), lease(executor));
            match rows::claim_one(self.ports.database, &task.task_id, now, lease).await {
                Ok(Some(claimed)) => task = claimed,
                Ok(None) => return,
                // The poller will find it.
                Err(error) => {
                    tracing::warn!(task_id = task.task_id, %error, "task not claimed");
                    return;
                }
            }
        }
    }

    async fn submit(&self, executor: &dyn Executor, task: &Task) -> Result<Progress, Failure> {
        let callback_url = self.callback_url(executor.service(), task);
        let outside = self.outside(&callback_url);
        let submission = executor.submit(task, &outside);
        let news = self.within(executor.patience(), submission).await;
        log_news(task, "submitted", &news);
        news
    }

    async fn poll(&self, executor: &dyn Executor, task: &Task) -> Result<Progress, Failure> {
        let callback_url = self.callback_url(executor.service(), task);
        let outside = self.outside(&callback_url);
        let news = self
            .within(POLL_PATIENCE, executor.poll(task, &outside))
            .await;
        log_news(task, "polled", &news);
        news
    }

    async fn within(
        &self,
        patience: Duration,
        work: impl Future<Output = Result<Progress, Failure>>,
    ) -> Result<Progress, Failure> {
        let too_long = self.ports.clock.sleep(patience);
        match future::select(std::pin::pin!(work), too_long).await {
            future::Either::Left((news, _)) => news,
            future::Either::Right(_) => Err(Failure::retry(format!(
                "no answer within {} s",
                patience.as_secs()
            ))),
        }
    }

    fn outside<'b>(&'b self, callback_url: &'b str) -> Outside<'b> {
        Outside {
            http: self.ports.http,
            config: self.ports.config,
            clock: self.ports.clock,
            assets: &self.assets,
            callback_url,
        }
    }

    fn executor(&self, task: &Task) -> Option<&dyn Executor> {
        let executor = self.registry.service(task.external_service.as_deref()?);
        if executor.is_none() {
            tracing::warn!(
                task_id = task.task_id,
                "the task's service is not known here"
            );
        }
        executor
    }

    fn callback_url(&self, service: &str, task: &Task) -> String {
        let job = task.job();
        let signature = self.key.sign(service, &job);
        let origin = public_url(self.ports.config);
        format!("{origin}/webhooks/{service}?job={job}&signature={signature}")
    }

    /// Takes a callback whose signature was found right, for the job that it was signed for. A late or
    /// repeated one changes nothing.
    ///
    /// # Errors
    /// [`TaskError::NotFound`] where there is no such task, [`TaskError::NotACallback`] where the body
    /// is none, or when the database or the asset store fails.
    pub async fn call_back(&self, service: &str, job: &str, body: &[u8]) -> Result<(), TaskError> {
        let executor = self.registry.service(service).ok_or(TaskError::NotFound)?;
        let body: Value = serde_json::from_slice(body).map_err(|_| TaskError::NotACallback)?;
        let callback = crate::webhook::plain(&body)
            .or_else(|| executor.process_webhook(&body))
            .ok_or(TaskError::NotACallback)?;
        let Callback { about, news } = callback;
        let task = rows::get(self.ports.database, Task::id_of_job(job))
            .await?
            .ok_or(TaskError::NotFound)?;
        if task.external_service.as_deref() != Some(service) {
            return Err(TaskError::NotFound);
        }
        // A job of an earlier run that this one goes on with is called by its service's name.
        let is_adopted = about.is_some() && about == task.external_task_id;
        if (task.job() != job && !is_adopted) || task.status.is_final() {
            return Ok(());
        }
        if let (Some(about), Some(known)) = (&about, &task.external_task_id)
            && about != known
            && about != job
        {
            return Err(TaskError::NotFound);
        }
        let external = about.filter(|about| about != job);
        if external
            .as_ref()
            .is_some_and(|name| name.len() > MAX_NAME_BYTES)
        {
            return Err(TaskError::NotACallback);
        }
        tracing::info!(task_id = task.task_id, service, "callback taken");
        match news {
            Ok(Progress::Running { .. }) => Ok(()),
            Ok(Progress::Done(product)) => self.complete(&task, external.as_deref(), product).await,
            Err(Failure::Permanent(reason)) => {
                let end = End::Failed { error: &reason };
                self.end(&task, external.as_deref(), end).await
            }
            // It says nothing about the job; a poll will.
            Err(Failure::Access(_) | Failure::Retry { .. }) => Err(TaskError::NotACallback),
        }
    }

    /// Cancels a task. What its service still makes of it is ignored.
    ///
    /// # Errors
    /// [`TaskError::Finished`] where it is finished already, or when the database fails.
    pub async fn cancel(&self, task: &Task) -> Result<Task, TaskError> {
        let now = self.ports.clock.unix_seconds();
        rows::finish(self.ports.database, task, None, End::Cancelled, now)
            .await?
            .ok_or(TaskError::Finished)
    }

    /// Sets a failed or cancelled task back to `pending`; then [`take_up`](Self::take_up) it.
    ///
    /// # Errors
    /// [`TaskError::NotRetryable`] where it is neither, or when the database fails.
    pub async fn set_back(&self, task: &Task) -> Result<Task, TaskError> {
        rows::set_back(
            self.ports.database,
            &task.task_id,
            self.ports.clock.unix_seconds(),
        )
        .await?
        .ok_or(TaskError::NotRetryable)
    }

    /// Stores a product and completes its task.
    async fn complete(
        &self,
        task: &Task,
        external_task_id: Option<&str>,
        product: Product,
    ) -> Result<(), TaskError> {
        let mut urls = Vec::with_capacity(product.media.len());
        for media in product.media.into_iter().take(MAX_MEDIA) {
            let media = match self.kept(media).await {
                Ok(media) => media,
                Err(Failure::Permanent(error) | Failure::Access(error)) => {
                    let end = End::Failed { error: &error };
                    return self.end(task, external_task_id, end).await;
                }
                Err(Failure::Retry { reason, .. }) => {
                    return Err(AssetError::NotFetched(reason).into());
                }
            };
            urls.push(match media {
                Media::Url(url) => url,
                Media::Inline { media_type, bytes } => {
                    let id = self
                        .assets
                        .store(
                            &task.project_id,
                            &media_type,
                            bytes,
                            self.ports.clock.unix_seconds(),
                        )
                        .await?;
                    format!("{}/assets/{id}", public_url(self.ports.config))
                }
            });
        }
        let Some(url) = urls.first() else {
            let error = "the service answered without a result";
            return self
                .end(task, external_task_id, End::Failed { error })
                .await;
        };
        let mut data = product.data;
        if data.to_string().len() > MAX_DATA_BYTES {
            data = json!({});
        }
        if let (Some(data), true) = (data.as_object_mut(), urls.len() > 1) {
            data.insert("urls".into(), json!(urls));
        }
        let data = data.to_string();
        let end = End::Completed { url, data: &data };
        self.end(task, external_task_id, end).await
    }

    /// A result as a task has it: at a short address, or to be stored here.
    async fn kept(&self, media: Media) -> Result<Media, Failure> {
        let Media::Url(address) = media else {
            return Ok(media);
        };
        match result_address::read(address).map_err(Failure::Permanent)? {
            Address::Result(media) => Ok(media),
            Address::TooLong(url) => result_address::fetch(&url, self.ports.http).await,
        }
    }

    /// Ends a task, and tells everybody. Where it has ended already, nothing happens.
    async fn end(
        &self,
        task: &Task,
        external_task_id: Option<&str>,
        end: End<'_>,
    ) -> Result<(), TaskError> {
        let now = self.ports.clock.unix_seconds();
        if let Some(ended) =
            rows::finish(self.ports.database, task, external_task_id, end, now).await?
        {
            tracing::info!(
                task_id = ended.task_id,
                project = ended.project_id,
                status = ended.status.as_str(),
                "task ended"
            );
            self.ended(&ended).await;
        }
        Ok(())
    }

    /// What follows the end of a task.
    pub async fn ended(&self, task: &Task) {
        self.tell(task).await;
        if task.callback_url.is_some() {
            self.notify(Some(&task.task_id)).await;
        }
    }

    async fn fail(&self, task: &Task, failure: Failure) -> Result<(), TaskError> {
        let now = self.ports.clock.unix_seconds();
        let is_accepted = task.external_task_id.is_some();
        let goes_on = match &failure {
            Failure::Permanent(_) => false,
            // The job goes on, and is paid for, whatever keeps us from hearing of it.
            _ if is_accepted => now - task.accepted_at.unwrap_or(task.created_at) < RESULTS_KEPT,
            Failure::Access(_) => false,
            Failure::Retry { .. } => task.retry_count < task.max_retries,
        };
        let (reason, after) = match failure {
            Failure::Permanent(reason) | Failure::Access(reason) => (reason, None),
            Failure::Retry { reason, after } => (reason, after),
        };
        if !goes_on {
            return self.end(task, None, End::Failed { error: &reason }).await;
        }
        let wait = wait_after(task.retry_count, after);
        rows::put_off(self.ports.database, task, &reason, now, wait).await?;
        Ok(())
    }

    /// Tells of a task's change. A message that is lost is found by the sweep of projections.
    pub async fn tell(&self, task: &Task) {
        if let Err(error) = self.ports.pubsub.publish(EVENTS_CHANNEL, event(task)).await {
            tracing::warn!(task_id = task.task_id, %error, "change not told");
        }
    }

    /// Tells the agents of all finished tasks that were not told yet, or of this one.
    async fn notify(&self, task_id: Option<&str>) {
        let now = self.ports.clock.unix_seconds();
        let due = match rows::claim_notifications(self.ports.database, task_id, now, 64).await {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(%error, "due notifications not claimed");
                return;
            }
        };
        stream::iter(due)
            .for_each_concurrent(AT_ONCE, |task| async move {
                let Ports { http, config, .. } = self.ports;
                match notification::send(http, &self.key, &task, now, config).await {
                    Ok(()) => {
                        if let Err(error) = rows::notified(self.ports.database, &task).await {
                            tracing::warn!(task_id = task.task_id, %error, "agent told, not noted");
                        }
                    }
                    Err(reason) => {
                        tracing::warn!(task_id = task.task_id, reason, "agent not told");
                    }
                }
            })
            .await;
    }
}

/// The origin under which services and browsers reach us.
pub(crate) fn public_url(config: &dyn Config) -> String {
    let url = config.get("public_url").unwrap_or_default();
    url.trim_end_matches('/').to_owned()
}

/// How long a task is claimed for its submission, in seconds.
fn lease(executor: &dyn Executor) -> i64 {
    (executor.patience() + MARGIN).as_secs() as i64
}

/// Seconds to wait after the n-th error: twice as long each time, and somewhere between half of that
/// and all of it, so that tasks which failed together do not come back together.
fn wait_after(retry_count: i64, asked: Option<Duration>) -> i64 {
    let longest = (FIRST_WAIT << retry_count.clamp(0, 16)).min(LONGEST_WAIT);
    let wait = rand::rng().random_range(longest / 2..=longest);
    let asked = asked.map_or(0, |asked| asked.as_secs() as i64);
    wait.max(asked.min(LONGEST_WAIT))
}

/// What happened, but not the service's words, which may quote a prompt: those are in the row.
fn log_news(task: &Task, what: &str, news: &Result<Progress, Failure>) {
    let (task_id, project) = (&task.task_id, &task.project_id);
    match news {
        Ok(Progress::Running { .. }) => tracing::debug!(task_id, project, what, "task running"),
        Ok(Progress::Done(_)) => tracing::debug!(task_id, project, what, "task done"),
        Err(Failure::Permanent(_)) => tracing::warn!(task_id, project, what, "task failed"),
        Err(Failure::Access(_)) => {
            tracing::error!(task_id, project, what, "the service does not let us in")
        }
        Err(Failure::Retry { .. }) => {
            tracing::warn!(task_id, project, what, "task to be tried again")
        }
    }
}

fn log_failure<T>(task: &Task, noted: Result<T, impl Into<TaskError>>) {
    if let Err(error) = noted.map_err(Into::into) {
        // Its claim runs out, and somebody takes it up again.
        tracing::error!(task_id = task.task_id, %error, "task's progress not noted");
    }
}
