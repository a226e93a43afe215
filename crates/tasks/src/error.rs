//! What goes wrong, and how clients see it.

use auth::webhooks::KeyError;
use platform::{DatabaseError, Problem, UnreadableSetting};
use serde_json::json;
use thiserror::Error;

use crate::{AssetError, CreateError};

/// Why something could not be done with a task.
#[derive(Debug, Error)]
pub enum TaskError {
    /// There is no such task.
    #[error("there is no such task")]
    NotFound,
    /// It is finished, and a finished task never changes again.
    #[error("the task is finished")]
    Finished,
    /// Only a failed or cancelled task can be tried again.
    #[error("the task has neither failed nor been cancelled")]
    NotRetryable,
    /// What a service sent is no callback.
    #[error("not a callback")]
    NotACallback,
    /// The database failed. Doing it again is harmless.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The asset store failed.
    #[error(transparent)]
    Asset(#[from] AssetError),
    /// There is no key to sign with.
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
            TaskError::Finished => Self::new(
                409,
                "task-finished",
                "The task is finished",
                "A finished task never changes again.",
            ),
            TaskError::NotRetryable => Self::new(
                409,
                "task-not-retryable",
                "Nothing to try again",
                "Only a failed or cancelled task can be tried again.",
            ),
            TaskError::NotACallback => Self::bad_request("This is no callback that is known here."),
            TaskError::Database(error) => error.into(),
            TaskError::Asset(error) => error.into(),
            TaskError::Unreadable(error) => error.into(),
            TaskError::Key(KeyError::Unreadable(error)) => error.into(),
            TaskError::Key(KeyError::NotSet) => Self::not_configured("`webhook_key` is not set"),
            TaskError::Key(error) => {
                tracing::error!(%error, "key-value store failed");
                Self::unavailable("The key-value store does not answer as it should.")
            }
        }
    }
}

impl From<AssetError> for Problem {
    fn from(error: AssetError) -> Self {
        match error {
            AssetError::Database(error) => error.into(),
            error @ (AssetError::Bucket(_) | AssetError::NotFetched(_)) => {
                tracing::error!(%error, "asset store failed");
                Self::unavailable("The asset store does not answer as it should.")
            }
        }
    }
}

impl From<CreateError> for Problem {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Invalid(errors) => {
                let fields: Vec<&str> = errors.iter().map(|e| e.field.as_str()).collect();
                let detail = format!("Wrong: {}.", fields.join(", "));
                Self::new(422, "invalid-task", "The task has wrong fields", detail)
                    .with_errors(json!(errors))
            }
            CreateError::Conflict => Self::new(
                409,
                "idempotency-conflict",
                "The idempotency key is taken",
                "This Idempotency-Key came with another request before.",
            ),
            CreateError::Database(error) => error.into(),
        }
    }
}
