//! SQLite: the databases in the state folder, and the calls that a guest makes.

pub(crate) mod database;
pub(crate) mod guest;
mod libsql;
pub(crate) mod manifest;
pub(crate) mod shared;
