//! The WebSockets: their frames, their queues, and the task of each.

pub(crate) mod close;
pub(crate) mod connection;
pub(crate) mod frame;
pub(crate) mod opening;
pub(crate) mod pipe;
pub(crate) mod raw;
pub(crate) mod shared;
#[allow(clippy::module_inception, reason = "the file is named after its type")]
pub(crate) mod socket;
pub(crate) mod waits;
