//! The port for messages to the present subscribers of a channel.

use async_trait::async_trait;
use thiserror::Error;

crate::settings! {
    /// The Redis server through which the app notifies relays, and `events` of tasks. `cargo xtask up` sets it
    pub REDIS_URL = "redis_url", Value("redis://127.0.0.1:6379"), Redis;
    /// The scheme, host and port of `redis_url`. The manifest alone reads it: Spin lets the app call this address, and
    /// takes no user or password in it. `cargo xtask up` sets it; on Spin, set it if Redis is on another machine, and
    /// with `rediss` write the port in both
    pub REDIS_ORIGIN = "redis_origin", Value("redis://127.0.0.1:6379"), RedisOrigin;
}

/// Publishes messages. They only save time: if one is lost, its subscribers find the change later.
#[async_trait(?Send)]
pub trait PubSub {
    /// Sends `payload` to the present subscribers of `channel`.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    async fn publish(&self, channel: &str, payload: Vec<u8>) -> Result<(), PubSubError>;
}

/// The error of a message that could not be sent.
#[derive(Debug, Error)]
#[error("publish: {0}")]
pub struct PubSubError(pub String);
