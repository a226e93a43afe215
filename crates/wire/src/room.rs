//! The messages that read and merge a room.

use minicbor::{CborLen, Decode, Encode};

use crate::{ByteSlice, ByteVec, DecodeError, decode, encode};

/// The longest project id, in characters of `[A-Za-z0-9_-]`.
pub const MAX_PROJECT_ID: usize = 128;

/// Returns whether `id` can name a project: 1 to 128 characters of `[A-Za-z0-9_-]`.
pub fn is_project_id(id: &str) -> bool {
    (1..=MAX_PROJECT_ID).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// The state of a room, or the part of it that a client or relay lacks.
///
/// `B` holds the bytes: the receiver of a large state can borrow them (`&ByteSlice`) from the body
/// rather than copy them.
#[derive(Debug, Clone, PartialEq, Encode, Decode, CborLen)]
pub struct StateOf<B> {
    /// The rev up to which this answer is complete.
    #[n(0)]
    pub rev: u64,
    /// An encoded Loro version vector that the room has certainly reached. The room may be ahead of it.
    #[n(1)]
    pub version: B,
    /// The Loro blobs, to be imported in this order. The first is the state, or nearly so; a large
    /// document's latest updates may follow. The list is empty if nothing is lacking.
    #[n(2)]
    pub blobs: Vec<B>,
    /// The rev of each blob, in their order; of a snapshot, the rev up to which it is complete. Updates
    /// that waited for others when the snapshot was made follow it with lower revs than its own.
    /// `None` if the blobs were merged.
    #[n(3)]
    pub revs: Option<Vec<u64>>,
}

/// Asks for the part of a room's state that a client lacks.
#[derive(Debug, Clone, PartialEq, Encode, Decode, CborLen)]
pub struct StateRequest {
    /// The client's encoded Loro version vector, of any number of peers.
    #[n(0)]
    pub version: ByteVec,
}

/// A state that owns its bytes.
pub type State = StateOf<ByteVec>;

impl Default for State {
    /// Makes an empty answer: rev 0, and no blobs.
    fn default() -> Self {
        Self {
            rev: 0,
            version: Vec::new().into(),
            blobs: Vec::new(),
            revs: None,
        }
    }
}

/// A [`State`] in the form in which it is sent. It is passed on as it came, so that a large document is
/// not decoded and encoded again on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedState(Vec<u8>);

impl EncodedState {
    /// The state in a body.
    ///
    /// # Errors
    /// If the body is not a state.
    pub fn from_body(body: Vec<u8>) -> Result<Self, DecodeError> {
        decode::<StateOf<&ByteSlice>>(&body)?;
        Ok(Self(body))
    }

    /// Decodes the state; its bytes are borrowed.
    ///
    /// # Errors
    /// Never, because only a state is kept here.
    pub fn decoded(&self) -> Result<StateOf<&ByteSlice>, DecodeError> {
        decode(&self.0)
    }

    /// The body of a request or an answer.
    pub fn into_body(self) -> Vec<u8> {
        self.0
    }
}

impl From<State> for EncodedState {
    fn from(state: State) -> Self {
        Self(encode(&state))
    }
}

/// A piece of work on a room, which runs in an instance of its own.
#[derive(Debug, Clone, PartialEq, Encode, Decode, CborLen)]
pub enum Job {
    /// Answers the document as one snapshot, or as one update if its state is not cheap; then the updates that
    /// wait for others.
    #[n(0)]
    Snapshot,
    /// Answers what a client lacks.
    #[n(1)]
    UpdatesSince {
        /// The client's encoded version vector.
        #[n(0)]
        version: ByteVec,
    },
    /// Answers the document as JSON text.
    #[n(2)]
    Json,
    /// Stores the snapshot and shortens the log; if the state is not cheap, stores one update for the log.
    #[n(3)]
    Compact,
    /// Tries whether Loro panics on the log up to this rev, and answers an empty state if not. If Loro refuses the log
    /// with an error, the answer has one blob: the reason in words.
    #[n(4)]
    Until {
        /// The last rev to apply.
        #[n(0)]
        rev: u64,
    },
    /// Answers the document as one update, then the updates that wait for others.
    #[n(5)]
    Updates,
    /// Stores one update for the log.
    #[n(6)]
    Pack,
    /// Computes the state, cheap or not, stores the snapshot, and shortens the log.
    #[n(7)]
    Merge,
    /// Compares an update with the document. If an operation of the update differs from the one with the same id in the
    /// document, or if the update waits for others and too many do, the answer has two blobs: the words of the refusal
    /// and its code. If not, or if the app cannot tell, it has none.
    #[n(8)]
    Compare {
        /// The update.
        #[n(0)]
        update: ByteVec,
    },
    /// Stores the whole document as one update in the snapshot's place, and shortens the log.
    #[n(9)]
    Fold,
}

impl Job {
    /// Returns whether the job may compute a state that is not cheap, which may take minutes.
    pub fn is_long(&self) -> bool {
        matches!(self, Self::Merge | Self::Until { .. })
    }
}

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
    /// The rev of each room.
    #[n(0)]
    pub revs: Vec<u64>,
    /// The count of changes of permissions in each room's project.
    #[n(1)]
    pub access_revs: Option<Vec<u64>>,
    /// The number of updates of each room that are in quarantine.
    #[n(2)]
    pub quarantined: Option<Vec<u64>>,
}

/// Asks which of these updates still wait for operations that the room lacks.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode, CborLen)]
pub struct WaitingRequest {
    /// The revs of the updates.
    #[n(0)]
    pub revs: Vec<u64>,
}

/// The answer to a [`WaitingRequest`]: those of its updates that wait.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode, CborLen)]
pub struct WaitingAnswer {
    /// The updates, in the order of their revs.
    #[n(0)]
    pub waiting: Vec<Waiting>,
}

/// An update that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, CborLen)]
pub struct Waiting {
    /// The update's place in the room's log.
    #[n(0)]
    pub rev: u64,
    /// The peer of the first operation that is missing.
    #[n(1)]
    pub peer: u64,
    /// The counter of that operation.
    #[n(2)]
    pub counter: u32,
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

    fn state() -> State {
        State {
            rev: 300,
            version: vec![1, 2].into(),
            blobs: vec![vec![7; 70_000].into(), vec![8].into()],
            revs: Some(vec![299, 300]),
        }
    }

    #[test]
    fn a_state_can_be_borrowed_and_fills_its_buffer() {
        let state = state();
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
    fn an_encoded_state_is_passed_on_as_it_came() {
        let body = encode(&state());
        let passed = EncodedState::from_body(body.clone()).unwrap();
        assert_eq!(passed, EncodedState::from(state()));
        assert_eq!(passed.decoded().unwrap().rev, 300);
        assert_eq!(passed.into_body(), body);
        assert!(EncodedState::from_body(b"nonsense".to_vec()).is_err());
    }

    #[test]
    fn only_a_job_that_may_compute_the_state_takes_long() {
        assert!(Job::Merge.is_long() && Job::Until { rev: 7 }.is_long());
        for job in [
            Job::Snapshot,
            Job::Json,
            Job::Compact,
            Job::Updates,
            Job::Pack,
        ] {
            assert!(!job.is_long(), "{job:?}");
        }
    }
}
