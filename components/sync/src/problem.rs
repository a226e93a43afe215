//! Errors as clients see them: `application/problem+json` (RFC 9457).

use platform::DatabaseError;
use rooms::RoomError;
use spin_sdk::http::Method;

use crate::{reply::Reply, request::method_name};

/// An error answer. Its `type` is stable; its words may change.
#[derive(Debug)]
pub(crate) struct Problem {
    status: u16,
    kind: &'static str,
    title: &'static str,
    detail: String,
    header: Option<(&'static str, String)>,
}

impl Problem {
    fn new(
        status: u16,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            status,
            kind,
            title,
            detail: detail.into(),
            header: None,
        }
    }

    fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.header = Some((name, value.into()));
        self
    }

    pub(crate) fn bad_project_id() -> Self {
        Self::new(
            400,
            "bad-project-id",
            "Not a project id",
            "A project id has 1 to 128 characters of A-Z, a-z, 0-9, _ and -.",
        )
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(400, "bad-request", "The request makes no sense", detail)
    }

    pub(crate) fn bad_update(detail: impl Into<String>) -> Self {
        Self::new(400, "invalid-update", "Not a Loro update", detail)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(
            401,
            "unauthorized",
            "Who are you?",
            "This route wants the internal token as a bearer token.",
        )
        .with_header("www-authenticate", "Bearer")
    }

    pub(crate) fn not_found() -> Self {
        Self::new(
            404,
            "not-found",
            "Not found",
            "There is nothing at this address.",
        )
    }

    pub(crate) fn method_not_allowed(allowed: &[Method]) -> Self {
        let allowed: Vec<&str> = allowed.iter().map(method_name).collect();
        let allowed = allowed.join(", ");
        Self::new(
            405,
            "method-not-allowed",
            "Method not allowed",
            format!("This address takes {allowed}."),
        )
        .with_header("allow", allowed)
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(
            413,
            "payload-too-large",
            "Too large",
            format!("A body has at most {limit} bytes."),
        )
    }

    pub(crate) fn not_configured(setting: &str) -> Self {
        Self::new(503, "not-configured", "Not configured", setting)
    }

    fn unavailable(detail: &str) -> Self {
        Self::new(503, "unavailable", "Try again later", detail).with_header("retry-after", "1")
    }
}

impl From<DatabaseError> for Problem {
    fn from(error: DatabaseError) -> Self {
        tracing::error!(%error, "database failed");
        Self::unavailable("The database does not answer as it should.")
    }
}

impl From<RoomError> for Problem {
    fn from(error: RoomError) -> Self {
        match error {
            RoomError::Database(error) => error.into(),
            RoomError::BadVersion => Self::bad_request("`version` is not a Loro version vector."),
            error @ (RoomError::Loro(_) | RoomError::Merge(_)) => {
                tracing::error!(%error, "room cannot be read");
                // Never a 500: that is what a trap answers.
                Self::unavailable("The document cannot be read just now.")
            }
        }
    }
}

impl From<Problem> for Reply {
    fn from(problem: Problem) -> Self {
        let body = serde_json::json!({
            "type": format!("urn:loro-sync:problem:{}", problem.kind),
            "title": problem.title,
            "status": problem.status,
            "detail": problem.detail,
        });
        let reply = Self::new(problem.status)
            .header("content-type", "application/problem+json")
            .body(body.to_string());
        match problem.header {
            Some((name, value)) => reply.header(name, value),
            None => reply,
        }
    }
}
