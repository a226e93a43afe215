//! What goes wrong in a room, as clients see it.

use platform::Problem;
use rooms::RoomError;

/// A body that is no Loro update, with the reason.
pub(crate) fn bad_update(reason: impl Into<String>) -> Problem {
    Problem::new(400, "invalid-update", "Not a Loro update", reason)
}

/// A room that cannot be read or written.
pub(crate) fn of_room(error: RoomError) -> Problem {
    match error {
        RoomError::Database(error) => error.into(),
        RoomError::BadVersion => Problem::bad_request("`version` is not a Loro version vector."),
        error @ (RoomError::Loro(_) | RoomError::Merge(_)) => {
            tracing::error!(%error, "room cannot be read");
            // Never a 500: that is what a trap answers.
            Problem::unavailable("The document cannot be read just now.")
        }
    }
}
