//! Messages on the Redis channel of a room.

use minicbor::{CborLen, Decode, Encode};

use crate::ByteVec;

/// Updates beyond this many bytes are left out of a [`Notice`]; their revs tell a relay to fetch
/// them.
pub const MAX_NOTICE_BYTES: usize = 256 * 1024;

/// The Redis channel with the [`Notice`]s of a room.
pub fn room_channel(project: &str) -> String {
    format!("room:{project}")
}

/// A message on [`room_channel`].
#[derive(Debug, Clone, PartialEq, Encode, Decode, CborLen)]
pub enum Notice {
    /// Updates were stored. Sent after the commit: by the relay that appended them, or by the app
    /// if they did not come through a relay.
    #[n(0)]
    Updates {
        /// The id of the relay, so that it can skip its own notices; or a word for the part of the app that stored them:
        /// `http`, `tasks` or `restored`.
        #[n(0)]
        origin: String,
        /// The rev of the first update; the others follow without a gap.
        #[n(1)]
        first_rev: u64,
        /// The rev of the last update.
        #[n(2)]
        last_rev: u64,
        /// The Loro blobs; empty if they are too large for a message, or left out.
        #[n(3)]
        payloads: Vec<ByteVec>,
    },
    /// The number of sockets that a relay has in the room. Sent by relays.
    #[n(1)]
    Peers {
        /// The id of the relay.
        #[n(0)]
        relay: String,
        /// Its sockets in this room.
        #[n(1)]
        count: u32,
    },
    /// Permissions in the project have changed. Sent by the app.
    #[n(2)]
    Access {
        /// The project's count of such changes.
        #[n(0)]
        access_rev: u64,
    },
}
