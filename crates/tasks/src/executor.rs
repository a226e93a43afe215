//! The port to a service, and the answers of a service.

use std::time::Duration;

use async_trait::async_trait;
use platform::{Clock, Config, HttpClient, KeyValue, Setting};
use serde_json::Value;

use problem::Fields;

use crate::{assets::AssetStore, task::Task};

/// A service that does tasks.
///
/// Its methods know nothing of rows, leases, retries or documents: they talk to the service and return
/// its answer.
#[async_trait(?Send)]
pub trait Executor {
    /// The service's name: in `external_service`, and in the address of its callbacks.
    fn service(&self) -> &'static str;

    /// The types of tasks that the service does, as users see them.
    fn task_types(&self) -> &'static [&'static str];

    /// Returns whether the service does tasks of this type. A service with more types than it can list knows them by
    /// their beginning.
    fn does(&self, task_type: &str) -> bool {
        self.task_types().contains(&task_type)
    }

    /// The service's name in words for users, such as `Kling`.
    fn title(&self) -> &'static str {
        self.service()
    }

    /// The most tasks that may be under way at the service at once, over all instances and projects. One project has at
    /// most half of them.
    fn places(&self, _config: &dyn Config) -> u32 {
        100
    }

    /// The longest that a job may take after the service has accepted it. After that the job has failed, even if the
    /// service still says that it works on it.
    fn longest_job(&self, _config: &dyn Config) -> Duration {
        Duration::from_secs(24 * 3600)
    }

    /// Returns the time that the service keeps a result after it was made; `None` if that is not known, or if
    /// the service keeps it for good.
    fn keeps_results(&self) -> Option<Duration> {
        None
    }

    /// The names of the parameters that hold a picture, or a list of pictures. The engine checks each, and takes an
    /// http(s) address, a `data:` URL or base64; a picture that comes with the parameters goes to the asset store, and
    /// the parameter holds its address.
    fn pictures(&self) -> &'static [&'static str] {
        &[]
    }

    /// The media types of pictures that the service takes; `None` if it takes all that this server does. A picture that
    /// came with the parameters or is kept here is refused if it has another type; one at an address elsewhere is not
    /// checked.
    fn picture_types(&self) -> Option<&'static [&'static str]> {
        None
    }

    /// The name of the parameter that may name a completed task of the same type and project, from whose result the new one
    /// goes on. The engine checks that its picture is kept here, and gives it to the submission as [`Context::earlier`].
    fn continues(&self) -> Option<&'static str> {
        None
    }

    /// Checks the parameters of a new task and notes in `params` what is wrong with them. Parameters that
    /// pass here must not be refused later for their form.
    fn check(&self, task_type: &str, params: &mut Fields<'_>);

    /// The longest that one [`submit`](Self::submit) may take, in whole seconds. A longer one is cut off.
    /// A task is claimed for this time and a little more.
    fn patience(&self) -> Duration {
        Duration::from_secs(25)
    }

    /// Hands the task to the service, with the parameters that passed the check. If [`Task::was_attempted`], an earlier
    /// attempt may have reached the service, and [`Task::earlier_jobs`] names the jobs of earlier runs: the executor
    /// then looks for one of those jobs before it begins another, if the service lets it.
    async fn submit(
        &self,
        task: &Task,
        params: &Value,
        context: &Context<'_>,
    ) -> Result<Progress, Failure>;

    /// Asks the service about a task that it has accepted. Takes at most [`POLL_PATIENCE`].
    async fn poll(
        &self,
        task: &Task,
        params: &Value,
        context: &Context<'_>,
    ) -> Result<Progress, Failure>;

    /// Cancels a job that the service has accepted, because its result is not wanted any more. The task is cancelled
    /// already, whatever the service answers. Takes at most [`POLL_PATIENCE`].
    async fn cancel(&self, _task: &Task, _outside: &Context<'_>) {}

    /// The most jobs that one question may be about; 1 if each is asked about alone.
    fn most_together(&self) -> usize {
        1
    }

    /// Returns whether a task with these parameters may share a question with others.
    fn is_polled_together(&self, _params: &Value) -> bool {
        false
    }

    /// Asks the service about several tasks that it has accepted, [`most_together`](Self::most_together) at most, in
    /// one question. Returns what the service says of each, in the order of the tasks, and `None` for a task of which
    /// it says nothing. The engine asks about such a task alone. If this question fails for good, the engine asks about
    /// each half of the tasks. Takes at most [`POLL_PATIENCE`].
    async fn poll_together(
        &self,
        tasks: &[Task],
        _outside: &Context<'_>,
    ) -> Result<Vec<Option<Result<Progress, Failure>>>, Failure> {
        Ok(vec![None; tasks.len()])
    }

    /// Returns whether the service signs its callbacks with something that this server has.
    fn signs_callbacks(&self, _config: &dyn Config) -> bool {
        false
    }

    /// Checks by the service's own signature whether a callback is the service's. The signature of the address is
    /// checked already.
    async fn authenticity(&self, _callback: &Arrived<'_>, _outside: &Context<'_>) -> Authenticity {
        Authenticity::NotSigned
    }

    /// Reads a callback in the service's own form. `None` if the body is not a callback.
    fn process_webhook(&self, body: &Value) -> Option<Callback>;
}

/// The longest that one poll may take.
pub const POLL_PATIENCE: Duration = Duration::from_secs(8);

/// The longest name that a service may give a job, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 255;

/// Returns whether a text may be the name of a job in an address at its service: neither a path, nor a list, nor a query.
pub(crate) fn is_job_name(name: &str) -> bool {
    let is_known = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(is_known)
}

/// The task from whose result another one goes on.
#[derive(Debug, Clone, PartialEq)]
pub struct Earlier {
    /// The parameters of the task.
    pub params: Value,
    /// The address of the result, which is kept here.
    pub result_url: String,
    /// The signature that the service gave with the result, and expects back now.
    pub signature: Option<String>,
}

/// The ports that an executor may use for a task, with the address for callbacks and the task from which it goes on.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The client for outbound HTTP.
    pub http: &'a dyn HttpClient,
    /// The settings, such as the service's keys.
    pub config: &'a dyn Config,
    /// The time.
    pub clock: &'a dyn Clock,
    /// The store for answers of a service that need not be asked for each time, such as its public keys.
    pub key_value: &'a dyn KeyValue,
    /// The store of assets: the result of an earlier task may be the input of another.
    pub assets: &'a AssetStore<'a>,
    /// The address at which the service may call back about this task.
    pub callback_url: &'a str,
    /// The task from whose result a submission goes on.
    pub earlier: Option<&'a Earlier>,
}

/// The news of a task that has not failed.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// The service works on the task.
    Running {
        /// The service's name for the job.
        external_task_id: String,
        /// The time after which to ask again, if that is sooner than usual.
        look_again: Option<Duration>,
    },
    /// The task is done.
    Done(Product),
}

/// A result.
#[derive(Debug, Clone, PartialEq)]
pub struct Product {
    /// The pictures or videos, at least one; the first is the task's `result_url`.
    pub media: Vec<Media>,
    /// The service's description of the result, for `result_data`: a JSON object of at most 64 KiB.
    pub data: Value,
    /// The signature that the service expects back if a later task goes on from this result; no client sees it. A
    /// signature of more than 4 MiB is dropped.
    pub signature: Option<String>,
}

/// A picture or video.
#[derive(Debug, Clone, PartialEq)]
pub enum Media {
    /// The picture or video is at this address.
    Url(String),
    /// The picture or video came with the answer, and goes to the asset store.
    Inline {
        /// The media type, such as `image/png`.
        media_type: String,
        /// The bytes.
        bytes: Vec<u8>,
    },
}

/// The reason for which there is no result.
///
/// Once a service has accepted a job, the engine believes only a permanent failure: after any other, it
/// polls for as long as the service keeps results.
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// The failure stays the same if the task is tried again: bad parameters, refused content, a job that failed.
    Permanent(String),
    /// The failure concerns this server and not the job: authentication, the account, a missing setting. It
    /// ends a task that no service has accepted yet.
    Access(String),
    /// The service has no place for the job now, and did not begin it. The task waits and is submitted again, which
    /// costs no retry.
    NoPlace {
        /// The reason, in words for the operator.
        reason: String,
        /// The time after which the service asks to be called again.
        after: Option<Duration>,
    },
    /// The service is asked too often, or a quota is used up, and it did not begin the job. That says nothing about
    /// places. The task waits and is submitted again, which costs no retry.
    TooOften {
        /// The reason, in words for the operator.
        reason: String,
        /// The time after which the service asks to be called again.
        after: Option<Duration>,
    },
    /// The task may succeed if it is tried again.
    Retry {
        /// The reason, in words for the user.
        reason: String,
        /// The time after which the service asks to be called again.
        after: Option<Duration>,
    },
}

impl Failure {
    /// Makes a failure that trying again will not change.
    pub fn permanent(reason: impl Into<String>) -> Self {
        Self::Permanent(reason.into())
    }

    /// Makes a failure that concerns this server and not the job.
    pub fn access(reason: impl Into<String>) -> Self {
        Self::Access(reason.into())
    }

    /// Makes a failure of a service that has no place for the job now.
    pub fn no_place(reason: impl Into<String>, after: Option<Duration>) -> Self {
        Self::NoPlace {
            reason: reason.into(),
            after,
        }
    }

    /// Makes a failure of a service that is asked too often.
    pub fn too_often(reason: impl Into<String>, after: Option<Duration>) -> Self {
        Self::TooOften {
            reason: reason.into(),
            after,
        }
    }

    /// Makes a failure after which trying again may help.
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry {
            reason: reason.into(),
            after: None,
        }
    }
}

/// The news that a service sends in a callback.
#[derive(Debug, Clone, PartialEq)]
pub struct Callback {
    /// The service's name for the job, or the name that the engine gave it.
    pub about: Option<String>,
    /// The news of the task.
    pub news: Result<Progress, Failure>,
}

/// A callback as it arrived.
#[derive(Clone, Copy)]
pub struct Arrived<'a> {
    /// Finds a header by its name in lower case.
    pub header: &'a dyn Fn(&str) -> Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
}

/// The verdict on whether a callback is its service's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authenticity {
    /// The service does not sign its callbacks, so only the address that it was given is signed.
    NotSigned,
    /// The service has signed it.
    Right,
    /// The callback lacks a signature that it should have, or has a wrong or an old one.
    Wrong,
    /// The signature cannot be checked now, for this reason.
    Unclear(String),
}

/// Reads a setting of a service. If the setting cannot be read, that is no permanent failure, because it may
/// be set.
pub(crate) fn setting(config: &dyn Config, setting: Setting) -> Result<Option<String>, Failure> {
    config.read(setting).map_err(|error| {
        tracing::error!(
            setting = error.name,
            reason = error.reason,
            "a setting could not be read"
        );
        Failure::retry("a setting of the server cannot be read")
    })
}

/// The wait that a `Retry-After` header asks for in seconds.
pub(crate) fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?;
    Some(Duration::from_secs(seconds.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use platform::native::MapConfig;

    use super::*;

    #[test]
    fn a_wait_is_a_number_of_seconds() {
        for (header, seconds) in [
            ("7", Some(7)),
            (" 120 ", Some(120)),
            ("soon", None),
            ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ] {
            let header = ("retry-after".parse().unwrap(), header.parse().unwrap());
            let headers = http::HeaderMap::from_iter([header]);
            assert_eq!(retry_after(&headers), seconds.map(Duration::from_secs));
        }
        assert_eq!(retry_after(&http::HeaderMap::new()), None);
    }

    #[allow(dead_code)] // The list is for documented settings.
    mod made_up {
        platform::settings! {
            /// A setting with a value
            pub(super) HERE = "here", Unset;
            /// A setting without a value
            pub(super) MISSING = "missing", Unset;
            /// A setting that cannot be read
            pub(super) BROKEN = "broken", Unset;
        }
    }

    #[test]
    fn a_setting_that_cannot_be_read_is_not_one_that_is_missing() {
        let config = MapConfig::from_pairs(&[("here", "x")]).with_unreadable("broken");
        assert_eq!(setting(&config, made_up::HERE), Ok(Some("x".into())));
        assert_eq!(setting(&config, made_up::MISSING), Ok(None));
        let broken = setting(&config, made_up::BROKEN);
        assert!(matches!(broken, Err(Failure::Retry { .. })), "{broken:?}");
    }
}
