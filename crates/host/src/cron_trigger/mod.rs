//! The cron trigger: calls components by their schedules.

pub(crate) mod guest;
pub(crate) mod manifest;
pub(crate) mod shared;
