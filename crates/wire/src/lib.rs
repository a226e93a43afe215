//! The messages between a relay and the app.
//!
//! Bodies of the internal HTTP routes, and the notices on the Redis channel of a room, are CBOR
//! (RFC 8949) with numbered fields. A relay and an app of neighbouring releases understand each
//! other, because an unknown field is skipped and a missing optional one is `None`.
//!
//! | Route | Body | Answer |
//! |---|---|---|
//! | `POST /internal/append` | [`AppendRequest`] | [`AppendResponse`] |
//! | `GET /internal/rooms/{project}/state?version={base64url}` | | [`State`] |
//! | `POST /internal/rooms/{project}/state` | [`StateRequest`] | [`State`] |
//! | `GET /internal/rooms/{project}/updates?after={rev}` | | [`State`] |
//! | `POST /internal/rooms/{project}/waiting` | [`WaitingRequest`] | [`WaitingAnswer`] |
//! | `POST /internal/heads` | [`HeadsRequest`] | [`Heads`] |
//! | `POST /internal/access` | [`AccessRequest`] | [`AccessResponse`] |
//! | `POST /internal/tasks/marks` | [`MarksRequest`] | [`Marks`] |
//! | `POST /internal/rooms/{project}/compact` | | 202, empty |
//! | `POST /internal/sweep` | | 202, empty |
//! | `POST /internal/poll` | | 202, [`Polled`] |
//! | `GET /internal/metrics` | | the app's numbers, in the text format of Prometheus |
//!
//! `POST /internal/line` carries many of the requests that a relay sends often, one after the other, as
//! [`LineRequest`]s in its body and [`LineAnswer`]s in its answer: `GET /health`, and all of the table above
//! up to `/internal/access`, except `…/waiting`.
//!
//! The app sends these to itself, so that each runs in an instance of its own:
//!
//! | Route | Body | Answer |
//! |---|---|---|
//! | `POST /internal/rooms/{project}/work?run={id}` | [`Job`] | [`State`] |
//! | `POST /internal/merge/{project}?run={id}` | [`Job`] that may take minutes | [`State`] |
//! | `POST /internal/submissions/{service}` | | 202, or 204 if no submission was due; empty |
//! | `POST /internal/projections/{project}` | | 200, empty |
//!
//! A relay sends the version of its messages with each request ([`VERSION_HEADER`]). The app answers 503 to a version
//! that it does not know, so that the relay keeps the updates that it has taken, and tries again.
//!
//! All internal routes require `Authorization: Bearer {internal_token}` if a token is configured. A failure is answered
//! with `application/problem+json`.

#![forbid(unsafe_code)]

mod access;
mod append;
mod codec;
mod line;
mod notice;
mod poll;
mod room;
mod task;
mod upload;
mod version;

pub use access::{AccessCheck, AccessRequest, AccessResponse, MAX_ACCESS_CHECKS, Verdict};
pub use append::{
    AppendRequest, AppendResponse, DUPLICATE_PEER, MAX_APPEND_BYTES, MAX_APPEND_UPDATES,
    MAX_UPDATE_BYTES, Outcome, QUARANTINED, REPEATED_WITHIN, Update, WAITING_FULL,
};
pub use codec::{ByteSlice, ByteVec, CONTENT_TYPE, DecodeError, decode, encode};
pub use line::{
    LINE_BYTES, LINE_REQUESTS, LINE_TIME, LineAnswer, LineReader, LineRequest, MAX_LINE_REQUEST,
    TooLong, encode_framed,
};
pub use notice::{MAX_NOTICE_BYTES, Notice, room_channel};
pub use poll::Polled;
pub use room::{
    EncodedState, Heads, HeadsRequest, Job, MAX_PROJECT_ID, State, StateOf, StateRequest, Waiting,
    WaitingAnswer, WaitingRequest, is_project_id,
};
pub use task::{
    END_OF_EVENTS, LONGEST_WAIT, MAX_EVENTS, MAX_MARKS, MORE_EVENTS, Marks, MarksRequest,
    TASK_CHANGES, TASK_EVENTS, TASK_MARK, preferred_wait,
};
pub use upload::{MAX_WHOLE_UPLOAD, UPLOAD_PART};
pub use version::{UnknownVersion, VERSION, VERSION_HEADER, check_version};

#[cfg(test)]
mod tests {
    use super::*;

    /// A relay and an app of neighbouring releases, and relays among each other, must agree on these.
    #[test]
    fn the_bounds_and_the_names_of_channels_are_part_of_the_protocol() {
        for (bound, bytes) in [
            (MAX_UPDATE_BYTES, 16_777_216),
            (MAX_APPEND_BYTES, 17_825_792),
            (MAX_LINE_REQUEST, 17_829_888),
            (LINE_BYTES, 8_388_608),
            (MAX_NOTICE_BYTES, 262_144),
            (MAX_EVENTS, 262_144),
            (MAX_WHOLE_UPLOAD, 8_388_608),
            (UPLOAD_PART, 5_242_880),
        ] {
            assert_eq!(bound, bytes);
        }
        assert_eq!(room_channel("p"), "room:p");
    }
}
