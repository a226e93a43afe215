//! The messages on the Redis channel of a room.

use minicbor::{CborLen, Decode, Encode};

use crate::ByteVec;

/// The most bytes of updates in a [`Notice`]. If there are more, the updates are left out, and a relay
/// fetches them by their revs.
pub const MAX_NOTICE_BYTES: usize = 256 * 1024;

/// The Redis channel with the [`Notice`]s of a room.
pub fn room_channel(project: &str) -> String {
    format!("room:{project}")
}

/// A message on [`room_channel`].
#[derive(Debug, Clone, PartialEq, Encode, Decode, CborLen)]
pub enum Notice {
    /// Reports that updates were stored. It is sent after the commit: by the relay that appended
    /// them, or by the app if they did not come through a relay.
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
    /// Reports the number of sockets that a relay has in the room. Relays send it.
    #[n(1)]
    Peers {
        /// The id of the relay.
        #[n(0)]
        relay: String,
        /// The number of its sockets in this room.
        #[n(1)]
        count: u32,
    },
    /// Reports that permissions in the project have changed. The app sends it.
    #[n(2)]
    Access {
        /// The project's count of such changes.
        #[n(0)]
        access_rev: u64,
    },
}
