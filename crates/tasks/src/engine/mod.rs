//! The engine carries tasks on: submissions, polls and callbacks, and what follows from each.
//!
//! The row is the truth. An instance that works on a task has claimed it by one statement, and writes the
//! outcome under that claim, so that any number of instances may run and any of them may die at any time:
//! then the claim runs out and another instance takes the task up. Only the end of a task needs no claim:
//! the first end wins, wherever it comes from.
//!
//! | File | Content |
//! |---|---|
//! | `submitting` | the submissions that are due |
//! | `polling` | the polls that are due |
//! | `work` | the next step of one claimed task |
//! | `retrying` | an error, or no place: the task is tried again, or ends |
//! | `completing` | the result of a task, and its end |
//! | `keeping` | copies of results that services delete |
//! | `source` | a result on its way from its service |
//! | `callback` | callbacks of services |
//! | `publishing` | events and notifications |
//! | `lease` | the length of a claim, and the rule for claims |

mod callback;
mod completing;
mod keeping;
mod lease;
mod polling;
mod publishing;
mod retrying;
mod source;
mod submitting;
mod work;

use auth::webhooks::WebhookKey;
use futures_util::{future, join};
use platform::{Ports, config::PUBLIC_URL};

use crate::{
    assets::AssetStore,
    error::TaskError,
    executor::Executor,
    executors::Registry,
    rows::{self, End},
    task::Task,
};

/// The poller begins nothing new after this many seconds, because its next tick comes then.
const TICK: i64 = 9;

/// The most tasks that are cancelled at once because they are late.
const LATE_AT_ONCE: u64 = 32;

/// The engine of one instance.
pub struct Engine<'a> {
    /// The ports.
    pub ports: Ports<'a>,
    /// The store of results, and of the pictures that tasks take.
    pub assets: AssetStore<'a>,
    /// The services.
    pub registry: Registry,
    /// The key that signs callback addresses.
    pub key: WebhookKey,
}

impl<'a> Engine<'a> {
    /// Opens the engine with these ports and the services of this release.
    ///
    /// # Errors
    /// If a setting is missing or cannot be read, or the key-value store fails.
    pub async fn open(ports: Ports<'a>) -> Result<Self, TaskError> {
        let key = WebhookKey::obtain(ports.config, ports.key_value, ports.clock).await?;
        // The addresses of callbacks and results begin with it.
        ports.config.read(PUBLIC_URL)?;
        Ok(Self {
            ports,
            assets: AssetStore::open(ports.database, ports.http, ports.config)?,
            registry: Registry::standard(ports.config),
            key,
        })
    }
}

impl Engine<'_> {
    /// Does one round of the poller: all submissions, polls, copies and notifications that are due. Cancels the tasks
    /// whose time is up, and deletes what is left over. Each service has a limit of its own, so that one that hangs does
    /// not hold up the others.
    pub async fn tick(&self) {
        let begun = self.ports.clock.unix_seconds();
        let services = self.registry.iter().map(|executor| async move {
            join!(
                self.submit_due(executor, begun),
                self.poll_due(executor, begun)
            )
        });
        let leftovers = async {
            if let Err(error) = self.assets.drop_leftovers(begun).await {
                tracing::warn!(%error, "assets to which no task refers could not be deleted");
            }
            if let Err(error) = self.assets.drop_uploads(begun).await {
                tracing::warn!(%error, "uploads that nothing goes on with could not be given up");
            }
        };
        join!(
            future::join_all(services),
            // One copy at a time, because each holds a part of a result.
            self.keep_due(begun),
            self.cancel_late(begun),
            self.notify(None),
            leftovers
        );
        // Copies the results that the polls have found.
        self.keep_due(begun).await;
    }

    /// Cancels the tasks whose time is up.
    async fn cancel_late(&self, begun: i64) {
        while self.is_time_left(begun) {
            let now = self.ports.clock.unix_seconds();
            match rows::cancel_late(self.ports.database, now, LATE_AT_ONCE).await {
                Ok(cancelled) if cancelled.is_empty() => return,
                Ok(cancelled) => {
                    let ended = cancelled.iter().map(|task| self.ended(task));
                    future::join_all(ended).await;
                }
                Err(error) => {
                    tracing::error!(%error, "tasks whose time is up could not be cancelled");
                    return;
                }
            }
        }
    }

    /// Cancels a task. A later result of its service is ignored.
    ///
    /// # Errors
    /// [`TaskError::Finished`] if the task is finished already, or if the database fails.
    pub async fn cancel(&self, task: &Task) -> Result<Task, TaskError> {
        let now = self.ports.clock.unix_seconds();
        rows::finish(self.ports.database, task, None, End::Cancelled, now)
            .await?
            .ok_or(TaskError::Finished)
    }

    /// Sets a failed or cancelled task back to `pending`. The caller then [takes it up](Self::take_up).
    ///
    /// # Errors
    /// [`TaskError::NotRetryable`] if the task is neither, or if the database fails.
    pub async fn set_back(&self, task: &Task) -> Result<Task, TaskError> {
        let now = self.ports.clock.unix_seconds();
        rows::set_back(self.ports.database, &task.task_id, now)
            .await?
            .ok_or(TaskError::NotRetryable)
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

    /// Returns whether a round that began at this time may begin something new.
    fn is_time_left(&self, begun: i64) -> bool {
        self.ports.clock.unix_seconds() - begun < TICK
    }
}
