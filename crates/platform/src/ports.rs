//! All ports together.

use crate::{Clock, Config, Database, HttpClient, KeyValue, PubSub};

/// All ports, for a library that needs several of them.
#[derive(Clone, Copy)]
pub struct Ports<'a> {
    /// The SQL database.
    pub database: &'a dyn Database,
    /// The key-value store.
    pub key_value: &'a dyn KeyValue,
    /// Messages to subscribers.
    pub pubsub: &'a dyn PubSub,
    /// Outbound HTTP.
    pub http: &'a dyn HttpClient,
    /// Settings.
    pub config: &'a dyn Config,
    /// The time.
    pub clock: &'a dyn Clock,
}
