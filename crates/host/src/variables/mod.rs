//! The variables of the application, and those that a component reads.

pub(crate) mod guest;
pub(crate) mod manifest;
pub(crate) mod shared;
