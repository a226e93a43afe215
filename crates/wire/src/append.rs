//! The messages that store updates.

use std::time::Duration;

use minicbor::{CborLen, Decode, Encode};

use crate::ByteVec;

/// The largest update, and the largest body of a public request: 16 MiB.
pub const MAX_UPDATE_BYTES: usize = 16 * 1024 * 1024;

/// The most updates in one [`AppendRequest`].
pub const MAX_APPEND_UPDATES: usize = 1024;

/// The largest body of an [`AppendRequest`], in bytes: one update of the largest size, with 1 MiB
/// for its envelope or for many small updates.
pub const MAX_APPEND_BYTES: usize = MAX_UPDATE_BYTES + 1024 * 1024;

/// The time for which the app knows an update by its serial number: 10 minutes.
pub const REPEATED_WITHIN: Duration = Duration::from_secs(600);

/// The code of an update that was refused because other operations under the same ids are in the room.
pub const DUPLICATE_PEER: &str = "duplicate_peer";

/// The code of an update that was refused because some of its operations are in quarantine.
pub const QUARANTINED: &str = "quarantined";

/// The code of an update that was refused because it waits for others, and the room already keeps as many such updates
/// as it may.
pub const WAITING_FULL: &str = "waiting_full";

/// The updates to store, for any number of rooms, in one statement.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode, CborLen)]
pub struct AppendRequest {
    /// The id of the relay that asks. It is kept with each row. The relay itself notifies the other relays: see
    /// [`Notice::Updates`](crate::Notice::Updates).
    #[n(0)]
    pub origin: String,
    /// The updates. Those of one room are stored in this order.
    #[n(1)]
    pub updates: Vec<Update>,
    /// Says whether the relay sends each update that this request leaves undecided ([`Outcome::Suspect`]) again, alone,
    /// so that no other update waits for it. If it does not, the app decides all of them.
    #[n(2)]
    pub defers: Option<bool>,
}

/// A Loro update on its way into a room.
#[derive(Debug, Clone, PartialEq, Encode, Decode, CborLen)]
pub struct Update {
    /// The room.
    #[n(0)]
    pub project: String,
    /// The Loro blob, as the client sent it.
    #[n(1)]
    pub payload: ByteVec,
    /// The update's number among all of its origin, which gives no number twice. The app stores such an update once,
    /// however often it is appended within [`REPEATED_WITHIN`] and whatever else is in those requests: each answer has
    /// the first outcome. An update without a number is stored again.
    #[n(2)]
    pub serial: Option<u64>,
}

/// The answer to an [`AppendRequest`].
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode, CborLen)]
pub struct AppendResponse {
    /// The outcome of each update, in the order of the request.
    #[n(0)]
    pub outcomes: Vec<Outcome>,
}

/// The outcome of one update.
#[derive(Debug, Clone, PartialEq, Encode, Decode, CborLen)]
pub enum Outcome {
    /// The update is on disk.
    #[n(0)]
    Stored {
        /// The update's place in the room's log.
        #[n(0)]
        rev: u64,
        /// Says whether it may wait for operations that the room lacks. A [`WaitingRequest`](crate::WaitingRequest)
        /// finds out whether it does.
        #[n(1)]
        waits: Option<bool>,
    },
    /// The update was refused, and nothing of it was kept. Sending it again will not help.
    #[n(1)]
    Refused {
        /// The reason, in words for the sender.
        #[n(0)]
        reason: String,
        /// The reason as a word for programs; `None` for `invalid_update`.
        #[n(1)]
        code: Option<String>,
    },
    /// The update was not stored, and its outcome is open. Either operations with the same ids are in the room, so it
    /// is a resend or its peer id is in use twice; or it may wait for others, and the room may have too many updates
    /// that wait. Deciding that takes longer. Only an answer to a relay that defers has this outcome.
    #[n(2)]
    Suspect,
}

impl Outcome {
    /// Returns whether the update was refused with [`DUPLICATE_PEER`].
    pub fn is_duplicate_peer(&self) -> bool {
        matches!(self, Self::Refused { code: Some(code), .. } if code == DUPLICATE_PEER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_a_peer_id_that_is_in_use_twice() {
        let refused = |code: Option<&str>| Outcome::Refused {
            reason: String::new(),
            code: code.map(Into::into),
        };
        assert!(refused(Some(DUPLICATE_PEER)).is_duplicate_peer());
        for other in [refused(Some(QUARANTINED)), refused(None), Outcome::Suspect] {
            assert!(!other.is_duplicate_peer(), "{other:?}");
        }
    }
}
