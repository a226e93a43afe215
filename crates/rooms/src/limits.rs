//! The limits of a room. [`ROOM_BYTES`] and those of waiting updates say what is refused; the others are soft: they say
//! when work is due.

pub use quota::ROOM_BYTES;

/// The most updates of a room that may wait for others; a further one that waits is refused, because a reader gets all
/// of them whenever it reads the room, and each compaction imports them again.
pub const WAITING_UPDATES: usize = 1024;

/// The most bytes that these updates may have together.
pub const WAITING_BYTES: usize = 8 * 1024 * 1024;

/// A log with this many updates is due for compaction.
pub const COMPACT_UPDATES: u64 = 128;

/// A log with this many updates after its snapshot is reported to operators as long.
pub const LONG_LOG: u64 = 1024;

/// A log with this many bytes is due for compaction.
pub(crate) const COMPACT_BYTES: u64 = 1024 * 1024;

/// A log whose oldest update is this old, in seconds, is due for compaction.
pub const COMPACT_SECONDS: i64 = 300;

/// A compaction computes the state, too, if snapshot and log have up to this many bytes together. The state of a larger
/// document may take a second, so a merge of its own computes it later.
pub(crate) const MERGE_AT_ONCE_BYTES: u64 = 1024 * 1024;

/// A snapshot and log up to this many bytes together are merged for a client that joins, so that the
/// state is one blob; the log of a larger document is imported by the client itself.
pub(crate) const MERGE_ON_READ_BYTES: usize = 512 * 1024;

/// The most updates after the snapshot that a client gets when it joins: a longer log is merged first.
pub const STATE_UPDATES: usize = 384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_as_the_documentation_tells() {
        const MIB: usize = 1 << 20;
        assert_eq!((WAITING_UPDATES, WAITING_BYTES), (1024, 8 * MIB));
        assert_eq!((COMPACT_UPDATES, COMPACT_BYTES), (128, MIB as u64));
        assert_eq!((LONG_LOG, STATE_UPDATES), (1024, 384));
        assert_eq!(MERGE_ON_READ_BYTES, MIB / 2);
    }
}
