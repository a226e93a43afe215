//! The way to the app and to Redis: storing, reading and publishing.

pub(crate) mod backoff;
pub(crate) mod client;
pub(crate) mod committer;
pub(crate) mod decision;
pub(crate) mod delivery;
pub(crate) mod error;
pub(crate) mod lane;
pub(crate) mod lateness;
pub(crate) mod line;
pub(crate) mod outgoing;
pub(crate) mod persistent_line;
pub(crate) mod pubsub;
mod questions;
pub(crate) mod queue;
mod states;
pub(crate) mod submission;
pub(crate) mod subscriber;
pub(crate) mod suspects;
pub(crate) mod unanswered;
pub(crate) mod upstream;
