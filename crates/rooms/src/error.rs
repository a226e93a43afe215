//! The failures of rooms.

use platform::DatabaseError;
use thiserror::Error;

use crate::depth::MOST_LEVELS;

/// A failure in a room.
#[derive(Debug, Error)]
pub enum RoomError {
    /// The database failed. Whether a change happened is not known; doing it again is harmless.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The version vector of a request is not one of Loro's.
    #[error("not a Loro version vector")]
    BadVersion,
    /// A failure of Loro: it could not export from a document, or read what was stored before.
    #[error("Loro: {0}")]
    Loro(String),
    /// The state is not there yet, and computing it takes longer than a caller can wait. The updates are all
    /// there.
    #[error("the state of the document is still being computed")]
    StateUnavailable,
    /// The state does not fit the memory of an instance, because of its bytes and of the operations in its history. The
    /// updates are all there.
    #[error("the state of {operations} operations does not fit the memory of an instance")]
    TooLarge {
        /// The number of operations; letters that follow each other are one. What compression saves is included, as
        /// operations.
        operations: u64,
    },
    /// The state is deeper than [`MOST_LEVELS`], so that it has no JSON. The updates are all there.
    #[error("the document is nested deeper than {MOST_LEVELS} levels")]
    TooDeep,
    /// The host has no free instance for another merge just now. Nothing was done.
    #[error("no instance is free for a merge just now")]
    Busy,
    /// The merge failed and no single update is to blame.
    #[error("the room's updates cannot be merged at the moment: {0}")]
    Merge(String),
}

impl RoomError {
    /// Makes a failure of Loro, in its words.
    pub(crate) fn of_loro(error: impl std::fmt::Display) -> Self {
        Self::Loro(error.to_string())
    }
}

/// The first line of an error's text, because Loro's errors may end in a stack trace.
pub(crate) fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_in_its_first_line() {
        for (text, told) in [("", ""), ("one", "one"), ("one\n  at two\n", "one")] {
            assert_eq!(first_line(text), told);
        }
    }
}
