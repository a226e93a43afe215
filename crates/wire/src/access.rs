//! The permission of sockets to be in their rooms.

use minicbor::{CborLen, Decode, Encode};

/// The most checks of one [`AccessRequest`].
pub const MAX_ACCESS_CHECKS: usize = 64;

/// Asks whether sockets may be in their rooms.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode, CborLen)]
pub struct AccessRequest {
    /// The checks, at most [`MAX_ACCESS_CHECKS`].
    #[n(0)]
    pub checks: Vec<AccessCheck>,
}

/// A socket, with the credentials that it came with.
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
    /// The name under which the client reached the relay.
    #[n(5)]
    pub host: Option<String>,
    /// Says whether the socket is in its room already. Then a cached session must be quite new.
    #[n(6)]
    pub again: bool,
    /// The socket's principal by the last verdict.
    #[n(7)]
    pub principal: Option<String>,
    /// The client's address.
    #[n(8)]
    pub client: Option<String>,
}

impl std::fmt::Debug for AccessCheck {
    /// Leaves out the credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessCheck")
            .field("project", &self.project)
            .finish_non_exhaustive()
    }
}

/// The verdict on each check of an [`AccessRequest`], in its order.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode, CborLen)]
pub struct AccessResponse {
    /// The verdicts.
    #[n(0)]
    pub verdicts: Vec<Verdict>,
}

/// The verdict on whether a socket may be in its room.
#[derive(Debug, Clone, PartialEq, Encode, Decode, CborLen)]
pub enum Verdict {
    /// The socket may be there.
    #[n(0)]
    Granted {
        /// The socket's principal, such as `user:abc`.
        #[n(0)]
        principal: String,
        /// Says whether the socket may change the document.
        #[n(1)]
        write: bool,
        /// The time at which the permission ends at the latest, in Unix seconds.
        #[n(2)]
        expires_at: Option<i64>,
        /// The count of changes of permissions in the project at which this verdict was computed.
        #[n(3)]
        access_rev: u64,
    },
    /// The socket may not be there, or the app cannot tell (then the status is 503).
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
        /// Says whether the last known principal may change the document, if the app cannot tell whether the session
        /// still holds.
        #[n(3)]
        write: Option<bool>,
    },
}
