//! The database, which the build chooses: SQLite of the host, or, with the feature `hrana`, libSQL over HTTP.

#[cfg(feature = "hrana")]
mod libsql;
#[cfg(not(feature = "hrana"))]
mod sqlite;

#[cfg(feature = "hrana")]
pub(super) use libsql::{SpinDatabase, open};
#[cfg(not(feature = "hrana"))]
pub(super) use sqlite::{SpinDatabase, open};
