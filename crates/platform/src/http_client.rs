//! The port for outbound HTTP.

use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;

/// Sends HTTP requests with whole bodies.
///
/// An answer is read [whole](HttpClient::send), or [piece by piece](HttpClient::open) if it may be larger than memory.
#[async_trait(?Send)]
pub trait HttpClient {
    /// Sends a request and reads the whole answer, whatever its status. Redirects are not followed.
    ///
    /// A URI without an authority, such as `/internal/merge`, goes to the application itself.
    ///
    /// # Errors
    /// If there is no answer within the limits; see [`HttpError`].
    async fn send(
        &self,
        request: http::Request<Vec<u8>>,
        limits: Limits,
    ) -> Result<http::Response<Vec<u8>>, HttpError>;

    /// Sends a request and returns the answer, whatever its status, with a body that is still to be read. Here
    /// [`Limits::timeout`] is the time until the head of the answer, and between two pieces of the body.
    ///
    /// # Errors
    /// If there is no answer within the limits; see [`HttpError`].
    async fn open<'s>(
        &'s self,
        request: http::Request<Vec<u8>>,
        limits: Limits,
    ) -> Result<http::Response<Box<dyn Pieces + 's>>, HttpError> {
        let answer = self.send(request, limits).await?;
        Ok(answer.map(|body| Box::new(Whole(Some(body))) as Box<dyn Pieces>))
    }
}

/// A body that is read piece by piece.
#[async_trait(?Send)]
pub trait Pieces {
    /// Reads the next piece; `None` at the end.
    ///
    /// # Errors
    /// If the body breaks off, or exceeds its limits.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, HttpError>;
}

/// A body of one piece.
struct Whole(Option<Vec<u8>>);

#[async_trait(?Send)]
impl Pieces for Whole {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, HttpError> {
        Ok(self.0.take())
    }
}

/// The limits of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The time from the first byte of the request to the last of the answer.
    pub timeout: Duration,
    /// The most bytes of the answer's body.
    pub max_bytes: usize,
}

/// A request without a whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HttpError {
    /// The request was never sent: the host forbids it, or no server listens at the address.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The request may have been received, but no whole answer came.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// The answer has a larger body than was allowed.
    #[error("the answer is too large")]
    TooLarge,
}

/// Subtracts the bytes of a piece from those that may still come.
///
/// # Errors
/// If the piece has more bytes than may still come.
pub fn take(left: &mut usize, piece: &[u8]) -> Result<(), HttpError> {
    *left = left.checked_sub(piece.len()).ok_or(HttpError::TooLarge)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_ends_at_its_limit() {
        let mut left = 4;
        for piece in [&b"abc"[..], b"", b"d", b""] {
            assert_eq!(take(&mut left, piece), Ok(()));
        }
        assert_eq!(take(&mut left, b"e"), Err(HttpError::TooLarge));
    }
}
