//! The ports together.

use crate::{Clock, Config, Database, HttpClient, KeyValue, PubSub};

/// The ports, for a library that needs several of them.
#[derive(Clone, Copy)]
pub struct Ports<'a> {
    /// The SQL database.
    pub database: &'a dyn Database,
    /// The key-value store.
    pub key_value: &'a dyn KeyValue,
    /// The publisher of messages to subscribers.
    pub pubsub: &'a dyn PubSub,
    /// The client for outbound HTTP.
    pub http: &'a dyn HttpClient,
    /// The settings.
    pub config: &'a dyn Config,
    /// The time.
    pub clock: &'a dyn Clock,
}
