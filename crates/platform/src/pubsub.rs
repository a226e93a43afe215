//! Messages to whoever listens just now.

use thiserror::Error;

/// Publishes messages. They only make things quicker: one that is lost loses nothing else.
#[allow(async_fn_in_trait)]
pub trait PubSub {
    /// Sends `payload` to the present subscribers of `channel`.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    async fn publish(&self, channel: &str, payload: Vec<u8>) -> Result<(), PubSubError>;
}

/// A message could not be sent.
#[derive(Debug, Error)]
#[error("publish: {0}")]
pub struct PubSubError(pub String);
