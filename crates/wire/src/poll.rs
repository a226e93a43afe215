//! The answer of the poller, which does what is due.

use minicbor::{CborLen, Decode, Encode};

/// The answer to `POST /internal/poll`, while the app goes on working. An app of an earlier release answers with an empty
/// body.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode, CborLen)]
pub struct Polled {
    /// Says whether there is a task that is not finished.
    #[n(0)]
    pub has_open_tasks: bool,
    /// The warnings about what the app and its host do not protect, as sentences for an operator.
    #[n(1)]
    pub unprotected: Option<Vec<String>>,
}
