//! The failures of tasks, and the problems that clients see.

use auth::webhooks::KeyError;
use platform::{DatabaseError, UnreadableSetting};
use problem::{Kind, Problem};
use thiserror::Error;

use crate::assets::AssetError;

/// The reason for which something could not be done with a task.
#[derive(Debug, Error)]
pub enum TaskError {
    /// The task, or the service, does not exist.
    #[error("there is no such task")]
    NotFound,
    /// The task is finished, and a finished task never changes again.
    #[error("the task is finished")]
    Finished,
    /// The task cannot be retried, because it has neither failed nor been cancelled.
    #[error("the task has neither failed nor been cancelled")]
    NotRetryable,
    /// The body that a service sent is not a callback.
    #[error("not a callback")]
    NotACallback,
    /// The signature of a callback's address, or of the callback itself, is wrong or missing.
    #[error("the signature is wrong")]
    BadSignature,
    /// The signature of a callback cannot be checked now.
    #[error("the callback cannot be checked: {0}")]
    NotChecked(String),
    /// The database failed. Doing it again is harmless.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The asset store failed.
    #[error(transparent)]
    Asset(#[from] AssetError),
    /// The key to sign with is not set, or cannot be read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A setting cannot be read.
    #[error(transparent)]
    Unreadable(#[from] UnreadableSetting),
}

impl From<TaskError> for Problem {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::NotFound => Self::not_found(),
            TaskError::Finished => {
                Self::new(Kind::TASK_FINISHED, "A finished task never changes again.")
            }
            TaskError::NotRetryable => Self::new(
                Kind::TASK_NOT_RETRYABLE,
                "Only a failed or cancelled task can be retried.",
            ),
            TaskError::NotACallback => {
                Self::bad_request("The body is not a callback in a form that is known here.")
            }
            TaskError::BadSignature => Self::new(
                Kind::BAD_SIGNATURE,
                "A callback must come to the address that the service was given, with the signature that is in it. A \
                 service whose signing secret is set here must also have signed the callback within the last five minutes.",
            ),
            TaskError::NotChecked(reason) => {
                tracing::error!(reason, "a callback could not be checked");
                Self::unavailable("The signature of the callback cannot be checked just now.")
            }
            TaskError::Database(error) => error.into(),
            TaskError::Asset(error) => error.into(),
            TaskError::Unreadable(error) => error.into(),
            TaskError::Key(KeyError::Unreadable(error)) => error.into(),
            TaskError::Key(KeyError::NotSet) => Self::not_configured("`webhook_key` is not set"),
            TaskError::Key(error) => {
                tracing::error!(%error, "the key-value store failed");
                Self::unavailable("The key-value store does not answer as it should.")
            }
        }
    }
}
