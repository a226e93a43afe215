//! Messages to whoever listens just now.

use async_trait::async_trait;
use thiserror::Error;

/// Publishes messages. They only make things quicker: one that is lost loses nothing else.
#[async_trait(?Send)]
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
