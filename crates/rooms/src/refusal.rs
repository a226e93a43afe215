//! The refusal of an update that decodes.

use wire::Outcome;

/// The reason why an update is refused after a look at the document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The reason in words, for the sender.
    pub(crate) reason: String,
    /// The reason as a word, for programs.
    pub(crate) code: String,
}

impl Refusal {
    /// Makes the refusal of an update that was written under a peer id that is in use.
    pub(crate) fn of_duplicate(reason: &str) -> Self {
        Self {
            reason: reason.to_owned(),
            code: wire::DUPLICATE_PEER.to_owned(),
        }
    }
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        Self::Refused {
            reason: refusal.reason,
            code: Some(refusal.code),
        }
    }
}
