//! What a relay and the app say to each other.
//!
//! Bodies of the internal HTTP routes, and the notices on the Redis channel of a room, are CBOR
//! (RFC 8949) with numbered fields: a relay and an app of neighbouring releases understand each
//! other, for an unknown field is skipped and a missing optional one is `None`.
//!
//! | Route | Body | Answer |
//! |---|---|---|
//! | `POST /internal/append` | [`AppendRequest`] | [`AppendResponse`] |
//! | `GET /internal/rooms/{project}/state?version={base64url}` | | [`State`] |
//! | `GET /internal/rooms/{project}/updates?after={rev}` | | [`State`] |
//! | `POST /internal/heads` | [`HeadsRequest`] | [`Heads`] |
//! | `POST /internal/rooms/{project}/compact` | | 202, empty |
//! | `POST /internal/sweep` | | 202, empty |
//! | `POST /internal/access` | [`AccessRequest`] | [`AccessResponse`] |
//!
//! All of them want `Authorization: Bearer {internal_token}` where a token is configured. What
//! fails answers `application/problem+json`.

#![forbid(unsafe_code)]

use minicbor::{CborLen, Decode, Encode};

pub use minicbor::bytes::{ByteSlice, ByteVec};

/// The media type of every body here.
pub const CONTENT_TYPE: &str = "application/cbor";

/// The largest update, and the largest body of a public request: 16 MiB.
pub const MAX_UPDATE_BYTES: usize = 16 * 1024 * 1024;

/// The most updates in one [`AppendRequest`].
pub const MAX_APPEND_UPDATES: usize = 1024;

/// The largest body of an [`AppendRequest`], in bytes: one update of the largest size, and room
/// for its envelope or for many small ones.
pub const MAX_APPEND_BYTES: usize = MAX_UPDATE_BYTES + 1024 * 1024;

/// The longest project id, in characters of `[A-Za-z0-9_-]`.
pub const MAX_PROJECT_ID: usize = 128;

/// Updates beyond this many bytes are left out of a [`Notice`]; their revs tell a relay to fetch
/// them.
pub const MAX_NOTICE_BYTES: usize = 256 * 1024;

/// Whether `id` can name a project: 1 to 128 characters of `[A-Za-z0-9_-]`.
pub fn is_project_id(id: &str) -> bool {
    (1..=MAX_PROJECT_ID).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// The Redis channel with the [`Notice`]s of a room.
pub fn room_channel(project: &str) -> String {
    format!("room:{project}")
}

/// Updates to store, for any number of rooms, in one statement.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode, CborLen)]
pub struct AppendRequest {
    /// Who asks: a relay's id. It is kept with each row. The relay itself tells others, see
    /// [`Notice::Updates`].
    #[n(0)]
    pub origin: String,
    /// The updates. Those of one room are stored in this order.
    #[n(1)]
    pub updates: Vec<Update>,
}

/// One Loro update on its way into a room.
#[derive(Debug, Clone, PartialEq, Encode, Decode, CborLen)]
pub struct Update {
    /// The room.
    #[n(0)]
    pub project: String,
    /// The Loro blob, as the client sent it.
    #[n(1)]
    pub payload: ByteVec,
}

/// What became of each update of an [`AppendRequest`].
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode, CborLen)]
pub struct AppendResponse {
    /// One outcome an update, in the order of the request.
    #[n(0)]
    pub outcomes: Vec<Outcome>,
}

/// What became of one update.
#[derive(Debug, Clone, PartialEq, Encode, Decode, CborLen)]
pub enum Outcome {
    /// It is on disk.
    #[n(0)]
    Stored {
        /// Its place in the room's log.
        #[n(0)]
        rev: u64,
    },
    /// It was refused, and nothing of it was kept. Sending it again will not help.
    #[n(1)]
    Refused {
        /// Why, in words for the sender.
        #[n(0)]
        reason: String,
    },
}

/// The state of a room, or what somebody who knows a part of it still lacks.
///
/// `B` holds the bytes: whoever receives a large state can borrow them (`&ByteSlice`) from the body
/// rather than copy them.
#[derive(Debug, Clone, PartialEq, Encode, Decode, CborLen)]
pub struct StateOf<B> {
    /// The rev up to which this tells all.
    #[n(0)]
    pub rev: u64,
    /// An encoded Loro version vector that the room has for certain reached. It may have gone on.
    #[n(1)]
    pub version: B,
    /// Loro blobs, to be imported in this order. The first is the state, or nearly so; a large
    /// document's latest updates may follow. Empty where nothing is lacking.
    #[n(2)]
    pub blobs: Vec<B>,
    /// The rev of each blob, in their order; of a snapshot, the rev up to which it tells all. Updates
    /// that waited for others when the snapshot was made follow it with lower revs than its own.
    /// `None` if the answer is a state for a client, which is one whole.
    #[n(3)]
    pub revs: Option<Vec<u64>>,
}

/// A state that owns its bytes.
pub type State = StateOf<ByteVec>;

/// Asks for the newest rev of each of these rooms.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode, CborLen)]
pub struct HeadsRequest {
    /// The rooms.
    #[n(0)]
    pub projects: Vec<String>,
}

/// The newest rev of each room of a [`HeadsRequest`], in its order; 0 for a room without updates.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode, CborLen)]
pub struct Heads {
    /// One rev a room.
    #[n(0)]
    pub revs: Vec<u64>,
    /// One count of changes of who may do what in the room's project.
    #[n(1)]
    pub access_revs: Option<Vec<u64>>,
}

/// Asks whether sockets may be in their rooms.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode, CborLen)]
pub struct AccessRequest {
    /// At most [`MAX_ACCESS_CHECKS`].
    #[n(0)]
    pub checks: Vec<AccessCheck>,
}

/// The most checks of one [`AccessRequest`].
pub const MAX_ACCESS_CHECKS: usize = 64;

/// A socket, with what it came with.
#[derive(Clone, Default, PartialEq, Encode, Decode, CborLen)]
pub struct AccessCheck {
    /// The room.
    #[n(0)]
    pub project: String,
    /// The whole header `Cookie`.
    #[n(1)]
    pub cookie: Option<String>,
    /// The header `Authorization`.
    #[n(2)]
    pub authorization: Option<String>,
    /// The parameter `token`.
    #[n(3)]
    pub token: Option<String>,
    /// The header `Origin`.
    #[n(4)]
    pub origin: Option<String>,
    /// The name under which the relay was reached.
    #[n(5)]
    pub host: Option<String>,
    /// It is in its room already: what is known of its session must be quite new.
    #[n(6)]
    pub again: bool,
    /// Who it was when it was last judged.
    #[n(7)]
    pub principal: Option<String>,
}

impl std::fmt::Debug for AccessCheck {
    /// Without what is secret of it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessCheck")
            .field("project", &self.project)
            .finish_non_exhaustive()
    }
}

/// One verdict a check of an [`AccessRequest`], in its order.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode, CborLen)]
pub struct AccessResponse {
    /// The verdicts.
    #[n(0)]
    pub verdicts: Vec<Verdict>,
}

/// Whether a socket may be in its room.
#[derive(Debug, Clone, PartialEq, Encode, Decode, CborLen)]
pub enum Verdict {
    /// It may.
    #[n(0)]
    Granted {
        /// Who it is, such as `user:abc`.
        #[n(0)]
        principal: String,
        /// Whether it may change the document.
        #[n(1)]
        write: bool,
        /// When that ends at the latest, in Unix seconds.
        #[n(2)]
        expires_at: Option<i64>,
        /// The project's count of changes of who may do what, of which this is true.
        #[n(3)]
        access_rev: u64,
    },
    /// It may not, or nobody knows (then the status is 503).
    #[n(1)]
    Denied {
        /// The HTTP status to answer.
        #[n(0)]
        status: u16,
        /// The body to answer, of `application/problem+json`.
        #[n(1)]
        problem: String,
        /// A header to answer: its name and its value.
        #[n(2)]
        header: Option<Vec<String>>,
        /// Where nobody knows whether it still is who it was: whether that one may change the document.
        #[n(3)]
        write: Option<bool>,
    },
}

/// A message on [`room_channel`].
#[derive(Debug, Clone, PartialEq, Encode, Decode, CborLen)]
pub enum Notice {
    /// Updates were stored. Sent after the commit, by the relay that had them stored, or by the app
    /// where they came to it without a relay.
    #[n(0)]
    Updates {
        /// The relay, which so can skip its own; or `http`.
        #[n(0)]
        origin: String,
        /// The rev of the first of them; the others follow without a gap.
        #[n(1)]
        first_rev: u64,
        /// The newest of their revs.
        #[n(2)]
        last_rev: u64,
        /// The Loro blobs; empty where they were too large for a message, or are not told.
        #[n(3)]
        payloads: Vec<ByteVec>,
    },
    /// How many sockets a relay has in the room. Sent by relays.
    #[n(1)]
    Peers {
        /// The relay.
        #[n(0)]
        relay: String,
        /// Its sockets in this room.
        #[n(1)]
        count: u32,
    },
    /// Who may do what in the project has changed. Sent by the app.
    #[n(2)]
    Access {
        /// The project's count of such changes.
        #[n(0)]
        access_rev: u64,
    },
}

/// A body that is not what it should be.
#[derive(Debug)]
pub struct DecodeError(minicbor::decode::Error);

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not the expected CBOR: {}", self.0)
    }
}

impl std::error::Error for DecodeError {}

/// Encodes a message.
pub fn encode<T: Encode<()> + CborLen<()>>(message: &T) -> Vec<u8> {
    // A state of some MiB is not to be copied each time that the buffer grows.
    let mut out = Vec::with_capacity(minicbor::len(message));
    // Writing into a Vec cannot fail.
    let _ = minicbor::encode(message, &mut out);
    out
}

/// Decodes a message.
///
/// # Errors
/// When the bytes are not CBOR, or not this message.
pub fn decode<'b, T: Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, DecodeError> {
    minicbor::decode(bytes).map_err(DecodeError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn project_ids() {
        let longest = "a".repeat(MAX_PROJECT_ID);
        let too_long = "a".repeat(MAX_PROJECT_ID + 1);
        for (id, valid) in [
            ("demo", true),
            ("A-z_09", true),
            (longest.as_str(), true),
            (too_long.as_str(), false),
            ("", false),
            ("a b", false),
            ("a/b", false),
            ("ä", false),
            ("a.b", false),
            ("a%20", false),
        ] {
            assert_eq!(is_project_id(id), valid, "{id:?}");
        }
    }

    #[test]
    fn messages_survive_the_wire() {
        let request = AppendRequest {
            origin: "relay".into(),
            updates: vec![Update {
                project: "p".into(),
                payload: vec![1, 2, 3].into(),
            }],
        };
        assert_eq!(decode::<AppendRequest>(&encode(&request)).unwrap(), request);
        let notice = Notice::Updates {
            origin: "relay".into(),
            first_rev: 7,
            last_rev: 8,
            payloads: vec![vec![9].into(), vec![].into()],
        };
        assert_eq!(decode::<Notice>(&encode(&notice)).unwrap(), notice);
    }

    #[test]
    fn a_state_can_be_borrowed_and_fills_its_buffer() {
        let state = State {
            rev: 300,
            version: vec![1, 2].into(),
            blobs: vec![vec![7; 70_000].into(), vec![8].into()],
            revs: Some(vec![299, 300]),
        };
        let body = encode(&state);
        assert_eq!(body.len(), minicbor::len(&state));
        let borrowed: StateOf<&ByteSlice> = decode(&body).unwrap();
        assert_eq!((borrowed.rev, borrowed.version[..].len()), (300, 2));
        let blobs: Vec<ByteVec> = borrowed
            .blobs
            .into_iter()
            .map(|b| b.to_vec().into())
            .collect();
        assert_eq!(blobs, state.blobs);
    }

    #[test]
    fn nonsense_is_an_error() {
        for bytes in [&b""[..], b"\xff", b"hello", &[0x82, 0x00]] {
            assert!(decode::<AppendRequest>(bytes).is_err());
        }
    }

    /// A field that a later release adds is skipped by this one.
    #[test]
    fn an_unknown_field_is_skipped() {
        #[derive(Encode, CborLen)]
        struct Later {
            #[n(0)]
            revs: Vec<u64>,
            #[n(7)]
            more: String,
        }
        let later = Later {
            revs: vec![3],
            more: "new".into(),
        };
        assert_eq!(decode::<Heads>(&encode(&later)).unwrap().revs, [3]);
    }
}
