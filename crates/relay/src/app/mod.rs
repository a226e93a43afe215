//! The way to the app and to Redis: what is stored, read and told.

pub(crate) mod backoff;
pub(crate) mod client;
pub(crate) mod committer;
pub(crate) mod delivery;
pub(crate) mod outgoing;
pub(crate) mod pubsub;
pub(crate) mod suspects;
pub(crate) mod upstream;
