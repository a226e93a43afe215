//! Outbound HTTP.

use thiserror::Error;

/// Sends HTTP requests with whole bodies.
#[allow(async_fn_in_trait)]
pub trait HttpClient {
    /// Sends a request and reads the whole answer, whatever its status.
    ///
    /// A URI without an authority, such as `/internal/merge`, goes to the application itself.
    ///
    /// # Errors
    /// When there is no answer; see [`HttpError`].
    async fn send(
        &self,
        request: http::Request<Vec<u8>>,
    ) -> Result<http::Response<Vec<u8>>, HttpError>;
}

/// There was no answer.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The request was never sent: the host forbids it, or nobody listens there.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The request may have been received, but no whole answer came.
    #[error("no answer: {0}")]
    NoAnswer(String),
}
