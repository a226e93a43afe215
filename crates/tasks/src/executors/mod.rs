//! The services that do the work.
//!
//! A service is one file here, with an [`Executor`], and one line in [`Registry::standard`].
//! `docs/adding-a-service.md` shows it with a complete example.

mod demo;
mod gemini;
mod kling;

use std::{rc::Rc, time::Duration};

use async_trait::async_trait;
use platform::{Clock, Config, HttpClient};
use serde_json::Value;

use crate::{AssetStore, Fields, Task};

/// A service that does tasks.
///
/// Its methods know nothing of rows, leases, retries or documents: they talk to the service and say
/// what it said.
#[async_trait(?Send)]
pub trait Executor {
    /// Its name: in `external_service`, and in the address of its callbacks.
    fn service(&self) -> &'static str;

    /// The types of tasks that it does.
    fn task_types(&self) -> &'static [&'static str];

    /// Checks the parameters of a new task and notes what is wrong with them in `params`. What passes
    /// here must not be refused later for its form.
    fn check(&self, task_type: &str, params: &mut Fields<'_>);

    /// The longest that one [`submit`](Self::submit) may take, in whole seconds. Longer ones are cut
    /// off; for so long and a little more a task is claimed.
    fn patience(&self) -> Duration {
        Duration::from_secs(25)
    }

    /// Hands the task to the service. Where [`Task::was_attempted`], an earlier attempt may have
    /// reached it, and [`Task::earlier_jobs`] names the jobs of earlier runs: then find one of those rather than
    /// begin another, if the service can tell.
    async fn submit(&self, task: &Task, outside: &Outside<'_>) -> Result<Progress, Failure>;

    /// Asks the service how a task is that it has accepted. Takes at most [`POLL_PATIENCE`].
    async fn poll(&self, task: &Task, outside: &Outside<'_>) -> Result<Progress, Failure>;

    /// Reads a callback in the service's own form. `None` where it is none.
    fn process_webhook(&self, body: &Value) -> Option<Callback>;
}

/// The longest that one poll may take.
pub const POLL_PATIENCE: Duration = Duration::from_secs(8);

/// What an executor may use of the world.
#[derive(Clone, Copy)]
pub struct Outside<'a> {
    /// Outbound HTTP.
    pub http: &'a dyn HttpClient,
    /// Settings, such as the service's keys.
    pub config: &'a dyn Config,
    /// The time.
    pub clock: &'a dyn Clock,
    /// Results of earlier tasks, which may be the input of others.
    pub assets: &'a AssetStore<'a>,
    /// Where the service may call back about this task.
    pub callback_url: &'a str,
}

/// What a service says of a task that has not failed.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// It is at work.
    Running {
        /// What it calls the task.
        external_task_id: String,
        /// When to ask again, where that is sooner than usual.
        look_again: Option<Duration>,
    },
    /// It is done.
    Done(Product),
}

/// A result.
#[derive(Debug, Clone, PartialEq)]
pub struct Product {
    /// The result, at least one; the first is the task's `result_url`.
    pub media: Vec<Media>,
    /// More about it, for `result_data`; an object. Nothing large.
    pub data: Value,
}

/// One picture or video.
#[derive(Debug, Clone, PartialEq)]
pub enum Media {
    /// It lies at this address.
    Url(String),
    /// It is here, and goes to the asset store.
    Inline {
        /// Such as `image/png`.
        media_type: String,
        /// Its bytes.
        bytes: Vec<u8>,
    },
}

/// Why there is no result.
///
/// Of a job that its service has accepted, only a permanent failure is believed: after any other, the service is asked
/// again for as long as it keeps results.
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// Doing it again will not help: bad parameters, refused content, a job that failed.
    Permanent(String),
    /// It concerns us and not the job: authentication, the account, a setting that is missing. It ends a task that
    /// no service has accepted yet.
    Access(String),
    /// It may go better later.
    Retry {
        /// What happened.
        reason: String,
        /// When the service wants to be asked again.
        after: Option<Duration>,
    },
}

impl Failure {
    /// A failure for good.
    pub fn permanent(reason: impl Into<String>) -> Self {
        Self::Permanent(reason.into())
    }

    /// A failure that concerns us and not the job.
    pub fn access(reason: impl Into<String>) -> Self {
        Self::Access(reason.into())
    }

    /// A failure for now.
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry {
            reason: reason.into(),
            after: None,
        }
    }
}

/// Reads a setting of a service. A failure for now if it cannot be read, because that says nothing about whether it is
/// set.
fn setting(config: &dyn Config, name: &str) -> Result<Option<String>, Failure> {
    config.read(name).map_err(|error| {
        tracing::error!(
            setting = error.name,
            reason = error.reason,
            "setting not read"
        );
        Failure::retry("a setting of the server cannot be read")
    })
}

/// What a service tells by calling back.
#[derive(Debug, Clone, PartialEq)]
pub struct Callback {
    /// What it calls the task, or the job's name that we gave it.
    pub about: Option<String>,
    /// How the task is.
    pub news: Result<Progress, Failure>,
}

/// All services.
#[derive(Clone)]
pub struct Registry(Vec<Rc<dyn Executor>>);

impl Registry {
    /// The services of this release; `demo` only in development.
    pub fn standard(config: &dyn Config) -> Self {
        let mut executors: Vec<Rc<dyn Executor>> =
            vec![Rc::new(kling::Kling), Rc::new(gemini::Gemini)];
        if config.is_development() {
            executors.push(Rc::new(demo::Demo));
        }
        Self(executors)
    }

    /// These services.
    pub fn of(executors: Vec<Rc<dyn Executor>>) -> Self {
        Self(executors)
    }

    /// The service of this name.
    pub fn service(&self, name: &str) -> Option<&dyn Executor> {
        let mut executors = self.0.iter().map(Rc::as_ref);
        executors.find(|executor| executor.service() == name)
    }

    /// The service that does tasks of this type.
    pub fn for_type(&self, task_type: &str) -> Option<&dyn Executor> {
        let mut executors = self.0.iter().map(Rc::as_ref);
        executors.find(|executor| executor.task_types().contains(&task_type))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Executor> {
        self.0.iter().map(Rc::as_ref)
    }

    /// The types of all tasks.
    pub fn task_types(&self) -> Vec<&'static str> {
        self.iter().flat_map(|e| e.task_types()).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use platform::native::MapConfig;

    use super::*;

    #[test]
    fn a_setting_that_cannot_be_read_is_not_one_that_is_missing() {
        let config = MapConfig::from_pairs(&[("here", "x")]).with_unreadable("broken");
        assert_eq!(setting(&config, "here"), Ok(Some("x".into())));
        assert_eq!(setting(&config, "missing"), Ok(None));
        let broken = setting(&config, "broken");
        assert!(matches!(broken, Err(Failure::Retry { .. })), "{broken:?}");
    }
}
