//! The key-value stores: one SQLite file for all of them, and the calls that a guest makes.

pub(crate) mod guest;
pub(crate) mod manifest;
pub(crate) mod shared;
