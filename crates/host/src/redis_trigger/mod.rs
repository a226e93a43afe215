//! The Redis trigger: calls components for messages on their channels.

pub(crate) mod guest;
pub(crate) mod manifest;
pub(crate) mod shared;
