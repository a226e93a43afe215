//! Rooms: how the document of a project is kept.
//!
//! A room is an append-only log of Loro updates and one snapshot, both in SQL. Invariants:
//!
//! - What [`append`] answered as stored is on disk, and stays part of the room's state: a log row
//!   is deleted only when a stored snapshot holds all of it ([`compact`]).
//! - Revs are dense in a room and never used again.
//! - Every change is one SQL statement, and after each of them the room is whole: a process may be
//!   killed between any two, and any number of them may run at once.
//! - An update that cannot be applied stops nobody: it is moved to the quarantine table.
//!
//! Loro code runs in two places only. [`update`] decodes what comes in; [`merge`] applies the log
//! to the snapshot. Applying may trap and take down the whole Wasm instance, so everybody else asks
//! for it through the [`supervise::Merger`] port, which runs it in an instance of its own.

#![forbid(unsafe_code)]

mod append;
mod compact;
mod delete;
mod merge;
mod quarantine;
mod rows;
mod state;
pub mod supervise;
mod update;

pub use append::{Appended, Guard, NewUpdate, append, append_if};
pub use compact::{compact, is_due, sweep};
pub use delete::delete;
pub use merge::{Merged, merge, merge_until};
pub use quarantine::{REASON_TRAPPED, quarantine};
pub use state::{State, head, heads, snapshot, state, updates_after};

use platform::DatabaseError;
use thiserror::Error;

/// The limits of a room. All are soft: they say when work is due, not what is refused.
pub mod limits {
    /// A log with this many updates is due for compaction.
    pub const COMPACT_UPDATES: u64 = 128;
    /// A log with this many bytes is due for compaction.
    pub const COMPACT_BYTES: u64 = 1024 * 1024;
    /// A log whose oldest update is this old, in seconds, is due for compaction.
    pub const COMPACT_SECONDS: i64 = 300;
    /// A snapshot and log up to this many bytes together are merged for somebody who joins, so
    /// that the state is one blob; of a larger document the joiner imports the log itself.
    pub const MERGE_ON_READ_BYTES: usize = 512 * 1024;
    /// Nobody who joins gets more updates than this after the snapshot: a longer log is merged.
    pub const STATE_UPDATES: usize = 384;
}

/// What went wrong in a room.
#[derive(Debug, Error)]
pub enum RoomError {
    /// The database failed. Whether a change happened is not known; doing it again is harmless.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The version vector of a request is not one of Loro's.
    #[error("not a Loro version vector")]
    BadVersion,
    /// Loro could not make or read a snapshot that was stored before.
    #[error("Loro: {0}")]
    Loro(String),
    /// The merge failed and no single update is to blame.
    #[error("the room's updates cannot be merged just now: {0}")]
    Merge(String),
}
