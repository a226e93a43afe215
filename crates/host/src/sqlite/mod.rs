//! The SQLite databases in the state folder or on libSQL servers, and the calls that a guest makes.

pub(crate) mod database;
pub(crate) mod guest;
mod libsql;
pub(crate) mod manifest;
pub(crate) mod shared;
