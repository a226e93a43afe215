//! The kinds of error that an HTTP client may get. The status, the `type` and the title of each are written once, here.

/// A kind of error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The HTTP status.
    pub status: u16,
    /// The last part of the problem's `type`. It is stable: clients may rely on it.
    pub name: &'static str,
    /// A few words for a person, the same for each error of this kind.
    pub title: &'static str,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $constant:ident = $status:literal $name:literal $title:literal;)+) => {
        impl Kind {
            $($(#[$doc])* pub const $constant: Self = Self { status: $status, name: $name, title: $title };)+

            /// Lists all kinds.
            pub const ALL: &[Self] = &[$(Self::$constant),+];
        }
    };
}

kinds! {
    /// The request cannot be understood.
    BAD_REQUEST = 400 "bad-request" "Bad request";
    /// A path or a body names a project by a text that is not a project id.
    BAD_PROJECT_ID = 400 "bad-project-id" "Not a project id";
    /// A body is not a Loro update.
    INVALID_UPDATE = 400 "invalid-update" "Not a Loro update";
    /// A caller must sign in or send a token.
    UNAUTHENTICATED = 401 "unauthenticated" "Authentication required";
    /// An internal route needs the internal token.
    UNAUTHORIZED = 401 "unauthorized" "Internal token required";
    /// A callback lacks the signature of its address.
    BAD_SIGNATURE = 401 "bad-signature" "Signature required";
    /// The caller is not a member of the project.
    FORBIDDEN = 403 "forbidden" "No access";
    /// The caller may read the project, but not change it.
    READ_ONLY = 403 "read-only" "Read only";
    /// The request is for the project's owner alone.
    OWNER_ONLY = 403 "owner-only" "Not the owner";
    /// A page of another site sent the request.
    CROSS_SITE = 403 "cross-site" "Request from another site";
    /// The server was reached under a name that it does not know.
    FOREIGN_HOST = 403 "foreign-host" "Unknown host name";
    /// A token of one project cannot do what only a user can.
    USERS_ONLY = 403 "users-only" "Not allowed with a token";
    /// The address leads to nothing.
    NOT_FOUND = 404 "not-found" "Not found";
    /// The project does not exist.
    PROJECT_NOT_FOUND = 404 "project-not-found" "No such project";
    /// The address takes other methods.
    METHOD_NOT_ALLOWED = 405 "method-not-allowed" "Method not allowed";
    /// A body did not arrive in time.
    REQUEST_TIMEOUT = 408 "request-timeout" "Request timeout";
    /// The update was written under a peer id that another client uses.
    DUPLICATE_PEER = 409 "duplicate-peer" "The peer id is taken";
    /// The idempotency key was used for another request.
    IDEMPOTENCY_CONFLICT = 409 "idempotency-conflict" "The idempotency key is taken";
    /// The project's owner cannot be made a member.
    IS_OWNER = 409 "is-owner" "The owner needs no role";
    /// The owner of the project changed after the request was checked.
    OWNER_CHANGED = 409 "owner-changed" "The owner has changed";
    /// The project id is in use, or was.
    PROJECT_EXISTS = 409 "project-exists" "The id is taken";
    /// A finished task cannot change.
    TASK_FINISHED = 409 "task-finished" "The task is finished";
    /// The task has neither failed nor been cancelled, so it cannot be retried.
    TASK_NOT_RETRYABLE = 409 "task-not-retryable" "The task cannot be retried";
    /// The part of an upload is not the next one.
    NOT_NEXT_PART = 409 "not-next-part" "Not the next part";
    /// A body is larger than the address allows.
    PAYLOAD_TOO_LARGE = 413 "payload-too-large" "Too large";
    /// The body has a type that the address does not take.
    UNSUPPORTED_MEDIA_TYPE = 415 "unsupported-media-type" "Unknown media type";
    /// An asset has no such range of bytes.
    RANGE_NOT_SATISFIABLE = 416 "range-not-satisfiable" "No such range";
    /// The body has wrong fields; `errors` lists them.
    INVALID_FIELDS = 422 "invalid-fields" "Some fields are wrong";
    /// The relay speaks another version of the WebSocket protocol.
    WEBSOCKET_VERSION = 426 "websocket-version" "Unknown WebSocket version";
    /// The caller sends too many requests.
    TOO_MANY_REQUESTS = 429 "too-many-requests" "Too many requests";
    /// The caller asks for a stream of events, which only a relay can hold, and the request came without a relay.
    NO_STREAMS = 501 "no-streams" "No streams of events here";
    /// The relay cannot reach the app.
    APP_UNREACHABLE = 502 "app-unreachable" "The app does not answer";
    /// A service behind the server is unavailable.
    UNAVAILABLE = 503 "unavailable" "Try again later";
    /// The document's state is still being computed. Its updates can be read.
    STATE_UNAVAILABLE = 503 "state-unavailable" "The document's state is not ready";
    /// The app cannot check sessions at the moment.
    AUTH_UNAVAILABLE = 503 "auth-unavailable" "Sessions cannot be checked";
    /// A setting is missing.
    NOT_CONFIGURED = 503 "not-configured" "Not configured";
    /// The relay is shutting down.
    DRAINING = 503 "draining" "Shutting down";
    /// The relay has reached its limit of connections.
    TOO_MANY_CONNECTIONS = 503 "too-many-connections" "Too many connections";
    /// A limit of requests under way is reached.
    TOO_BUSY = 503 "too-busy" "Too many requests under way";
    /// The project, or all projects of its owner together, have used up the quota.
    QUOTA = 507 "quota" "The quota is used up";
    /// The document has reached its largest size.
    ROOM_FULL = 507 "room-full" "The document is full";
    /// The limit of updates that wait for others is reached in this document.
    WAITING_FULL = 507 "waiting-full" "Too many waiting updates";
    /// The app did not answer in time.
    APP_TIMEOUT = 504 "app-timeout" "The app took too long";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_is_there_once() {
        for (at, kind) in Kind::ALL.iter().enumerate() {
            assert!(
                Kind::ALL[..at].iter().all(|other| other.name != kind.name),
                "{} is there twice",
                kind.name
            );
            assert!((400..600).contains(&kind.status), "{}", kind.name);
        }
    }
}
