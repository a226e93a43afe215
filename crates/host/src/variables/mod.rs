//! Variables: the application's, and those that a component reads.

pub(crate) mod guest;
pub(crate) mod manifest;
pub(crate) mod shared;
