//! The decision about an update: the app's own, or the relay's on proof.

/// The decision about an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The app has the update on disk.
    Stored {
        /// Its place in the room's log.
        rev: u64,
        /// Says whether it may wait for operations that the room lacks.
        waits: bool,
    },
    /// The update was refused, and nothing of it was kept.
    Refused(Refusal),
}

/// The reason why an update was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// A word for programs.
    pub(crate) code: String,
    /// The reason, in words for the sender.
    pub(crate) reason: String,
}

impl Refusal {
    /// The code of a refusal that the app gives no other code.
    const INVALID_UPDATE: &str = "invalid_update";

    /// The refusal of an update that the app cannot take.
    pub(crate) fn of_invalid(reason: &str) -> Self {
        Self {
            code: Self::INVALID_UPDATE.to_owned(),
            reason: reason.to_owned(),
        }
    }
}

impl Decision {
    /// Reads the app's answer about an update; `None` if the app left it undecided.
    pub(crate) fn of(outcome: wire::Outcome) -> Option<Self> {
        match outcome {
            wire::Outcome::Stored { rev, waits } => Some(Self::Stored {
                rev,
                waits: waits == Some(true),
            }),
            wire::Outcome::Refused { reason, code } => Some(Self::Refused(Refusal {
                code: code.unwrap_or_else(|| Refusal::INVALID_UPDATE.to_owned()),
                reason,
            })),
            wire::Outcome::Suspect => None,
        }
    }

    /// Returns whether the update was refused because its peer id is in use twice.
    pub(crate) fn is_duplicate_peer(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code == wire::DUPLICATE_PEER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_app_left_undecided_is_no_refusal() {
        assert_eq!(Decision::of(wire::Outcome::Suspect), None);
        for (code, read, is_duplicate) in [
            (None, "invalid_update", false),
            (Some(wire::DUPLICATE_PEER), "duplicate_peer", true),
        ] {
            let refused = wire::Outcome::Refused {
                reason: "words".to_owned(),
                code: code.map(str::to_owned),
            };
            let decision = Decision::of(refused).unwrap();
            assert_eq!(decision.is_duplicate_peer(), is_duplicate);
            let refusal = Refusal {
                code: read.to_owned(),
                reason: "words".to_owned(),
            };
            assert_eq!(decision, Decision::Refused(refusal));
        }
        let waits = Some(true);
        let stored = Decision::of(wire::Outcome::Stored { rev: 3, waits });
        assert_eq!(
            stored,
            Some(Decision::Stored {
                rev: 3,
                waits: true
            })
        );
    }
}
