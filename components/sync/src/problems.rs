//! The failures of rooms, as clients see them.

use problem::{Kind, Problem};
use rooms::RoomError;

/// Makes the problem for a body that is not a Loro update of this document; the reason completes the answer.
pub(crate) fn bad_update(reason: String, code: Option<String>) -> Problem {
    let kind = match code.as_deref() {
        Some(wire::DUPLICATE_PEER) => Kind::DUPLICATE_PEER,
        Some(wire::WAITING_FULL) => Kind::WAITING_FULL,
        _ => Kind::INVALID_UPDATE,
    };
    Problem::new(kind, reason)
}

/// Makes the problem for a room that cannot be read or written.
pub(crate) fn of_room(error: RoomError) -> Problem {
    match error {
        RoomError::Database(error) => error.into(),
        RoomError::BadVersion => Problem::bad_request("`version` is not a Loro version vector."),
        RoomError::StateUnavailable | RoomError::TooLarge { .. } => Problem::new(
            Kind::STATE_UNAVAILABLE,
            "Much was written into this document at once, and its state is still being computed, or is too large for this \
             host. Read it as application/octet-stream, or try again in some seconds.",
        )
        .with_header("retry-after", "10"),
        error @ RoomError::TooDeep => Problem::new(
            Kind::STATE_UNAVAILABLE,
            format!("There is no JSON, because {error}. Read it as application/octet-stream."),
        ),
        error @ (RoomError::Loro(_) | RoomError::Merge(_) | RoomError::Busy) => {
            tracing::error!(%error, "a room cannot be read");
            // The status is never 500, because that means a trap.
            Problem::unavailable("The document cannot be read just now.")
        }
    }
}

/// Checks a project id in the path of an internal route.
pub(crate) fn check_project_id(id: &str) -> Result<(), Problem> {
    if wire::is_project_id(id) {
        Ok(())
    } else {
        Err(Problem::bad_project_id())
    }
}
