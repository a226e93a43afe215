//! The failures of the app.

use crate::app::upstream::UpstreamError;
use http::StatusCode;
use std::time::Duration;

/// The reason why an internal request failed.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum AppError {
    /// The app gave no complete answer.
    #[error("{0}")]
    Unreachable(String),
    /// The app gave no complete answer in time.
    #[error("the app did not answer within {0:?}")]
    Timeout(Duration),
    /// The answer had another status than 200 or 202.
    #[error("the app answered {0}")]
    Status(StatusCode),
    /// The app says that the request itself is at fault, so repeating it does not help.
    #[error("the app refuses the request: {0}")]
    Refused(StatusCode),
    /// The states on their way to other clients take all memory that they may.
    #[error("too many states are on their way to clients")]
    Crowded,
    /// The body of the answer is not what the route promises.
    #[error("the app's answer cannot be read: {0}")]
    Garbage(String),
}

impl From<UpstreamError> for AppError {
    fn from(error: UpstreamError) -> Self {
        Self::Unreachable(error.to_string())
    }
}
