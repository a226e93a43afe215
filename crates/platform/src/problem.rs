//! Errors as clients see them: `application/problem+json` (RFC 9457).

use serde_json::{Value, json};

use crate::{DatabaseError, UnreadableSetting};

/// An error answer. Its `type` is stable; its words may change.
#[derive(Debug)]
pub struct Problem(Box<Parts>);

#[derive(Debug)]
struct Parts {
    status: u16,
    kind: &'static str,
    title: &'static str,
    detail: String,
    header: Option<(&'static str, String)>,
    errors: Option<Value>,
}

impl Problem {
    /// An error of a status, with the last part of its `type`, a title and words about this case.
    pub fn new(
        status: u16,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self(Box::new(Parts {
            status,
            kind,
            title,
            detail: detail.into(),
            header: None,
            errors: None,
        }))
    }

    /// With a list of what is wrong where, as the extension `errors`.
    pub fn with_errors(mut self, errors: Value) -> Self {
        self.0.errors = Some(errors);
        self
    }

    /// With a header.
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.header = Some((name, value.into()));
        self
    }

    /// What should name a project does not.
    pub fn bad_project_id() -> Self {
        Self::new(
            400,
            "bad-project-id",
            "Not a project id",
            "A project id has 1 to 128 characters of A-Z, a-z, 0-9, _ and -.",
        )
    }

    /// A request that makes no sense.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(400, "bad-request", "The request makes no sense", detail)
    }

    /// An internal route without the internal token.
    pub fn unauthorized() -> Self {
        Self::new(
            401,
            "unauthorized",
            "Who are you?",
            "This route wants the internal token as a bearer token.",
        )
        .with_header("www-authenticate", "Bearer")
    }

    /// There is nothing there.
    pub fn not_found() -> Self {
        Self::new(
            404,
            "not-found",
            "Not found",
            "There is nothing at this address.",
        )
    }

    /// A method that the address does not take.
    pub fn method_not_allowed(allowed: &[&str]) -> Self {
        let allowed = allowed.join(", ");
        Self::new(
            405,
            "method-not-allowed",
            "Method not allowed",
            format!("This address takes {allowed}."),
        )
        .with_header("allow", allowed)
    }

    /// A body of more than `limit` bytes.
    pub fn too_large(limit: usize) -> Self {
        Self::new(
            413,
            "payload-too-large",
            "Too large",
            format!("A body has at most {limit} bytes."),
        )
    }

    /// The settings do not suffice to serve; names the one that is missing.
    pub fn not_configured(setting: &str) -> Self {
        Self::new(503, "not-configured", "Not configured", setting)
    }

    /// Something that may go better later.
    pub fn unavailable(detail: &str) -> Self {
        Self::new(503, "unavailable", "Try again later", detail).with_header("retry-after", "1")
    }

    /// Its HTTP status.
    pub fn status(&self) -> u16 {
        self.0.status
    }

    /// A header that goes with it.
    pub fn header(&self) -> Option<(&'static str, &str)> {
        let (name, value) = self.0.header.as_ref()?;
        Some((name, value))
    }

    /// Its body, of the media type [`MEDIA_TYPE`].
    pub fn body(&self) -> Value {
        let mut body = json!({
            "type": format!("urn:loro-sync:problem:{}", self.0.kind),
            "title": self.0.title,
            "status": self.0.status,
            "detail": self.0.detail,
        });
        if let Some(errors) = &self.0.errors {
            body["errors"] = errors.clone();
        }
        body
    }
}

/// The media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

impl From<UnreadableSetting> for Problem {
    fn from(error: UnreadableSetting) -> Self {
        tracing::error!(
            setting = error.name.as_str(),
            reason = error.reason,
            "setting not read"
        );
        Self::unavailable("A setting of the server cannot be read.")
    }
}

impl From<DatabaseError> for Problem {
    fn from(error: DatabaseError) -> Self {
        tracing::error!(%error, "database failed");
        Self::unavailable("The database does not answer as it should.")
    }
}
