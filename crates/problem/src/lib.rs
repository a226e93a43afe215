//! The errors as HTTP clients see them: `application/problem+json` (RFC 9457).
//!
//! [`Kind`] lists every `type` with its status and its title. A [`Problem`] is one error: a kind, and words about the
//! case. [`Fields`] checks the fields of a JSON body and reports all that are wrong in one problem.

#![forbid(unsafe_code)]

mod fields;
mod kind;

use serde_json::{Value, json};

pub use fields::{FieldError, Fields};
pub use kind::Kind;

/// The media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// An error answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem(Box<Parts>);

#[derive(Debug, Clone, PartialEq)]
struct Parts {
    kind: Kind,
    detail: String,
    header: Option<(&'static str, String)>,
    errors: Vec<FieldError>,
}

impl Problem {
    /// Makes an error of this kind, with a sentence about this case. The sentence must hold no internal detail.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            kind,
            detail: detail.into(),
            header: None,
            errors: Vec::new(),
        }))
    }

    /// Adds a header to the answer. The name is in lower case.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.header = Some((name, value.into()));
        self
    }

    /// The request cannot be understood.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(Kind::BAD_REQUEST, detail)
    }

    /// A name is not a project id.
    pub fn bad_project_id() -> Self {
        Self::new(
            Kind::BAD_PROJECT_ID,
            "A project id has 1 to 128 characters of A-Z, a-z, 0-9, _ and -.",
        )
    }

    /// The caller must sign in or send a token.
    pub fn unauthenticated() -> Self {
        Self::new(
            Kind::UNAUTHENTICATED,
            "Sign in, or send a valid token as a bearer token.",
        )
        .with_header("www-authenticate", "Bearer")
    }

    /// An internal route was asked without the internal token.
    pub fn unauthorized() -> Self {
        Self::new(
            Kind::UNAUTHORIZED,
            "This route requires the internal token as a bearer token.",
        )
        .with_header("www-authenticate", "Bearer")
    }

    /// The address leads to nothing.
    pub fn not_found() -> Self {
        Self::new(Kind::NOT_FOUND, "There is nothing at this address.")
    }

    /// The address takes other methods, which are named.
    pub fn method_not_allowed(allowed: &[&str]) -> Self {
        let allowed = allowed.join(", ");
        Self::new(
            Kind::METHOD_NOT_ALLOWED,
            format!("This address takes {allowed}."),
        )
        .with_header("allow", allowed)
    }

    /// A body has more than `limit` bytes.
    pub fn too_large(limit: usize) -> Self {
        Self::new(
            Kind::PAYLOAD_TOO_LARGE,
            format!("A body has at most {limit} bytes."),
        )
    }

    /// The body has wrong fields.
    pub fn invalid_fields(errors: Vec<FieldError>) -> Self {
        let sentences = errors
            .iter()
            .map(|error| format!("`{}` {}.", error.field, error.message));
        let detail = sentences.collect::<Vec<_>>().join(" ");
        let mut problem = Self::new(Kind::INVALID_FIELDS, detail);
        problem.0.errors = errors;
        problem
    }

    /// The body has one wrong field. The message completes the sentence that begins with the field's name.
    pub fn invalid_field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid_fields(vec![FieldError::new(field, message)])
    }

    /// A setting is missing; the detail names it.
    pub fn not_configured(detail: impl Into<String>) -> Self {
        Self::new(Kind::NOT_CONFIGURED, detail)
    }

    /// The same request may succeed later.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(Kind::UNAVAILABLE, detail).with_header("retry-after", "1")
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.0.kind.status
    }

    /// The sentence about this case.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// A header that goes with the answer.
    pub fn header(&self) -> Option<(&'static str, &str)> {
        let (name, value) = self.0.header.as_ref()?;
        Some((name, value))
    }

    /// The body, of the media type [`MEDIA_TYPE`].
    pub fn body(&self) -> String {
        let Parts {
            kind,
            detail,
            errors,
            ..
        } = &*self.0;
        let mut body = json!({
            "type": format!("urn:loro-sync:problem:{}", kind.name),
            "title": kind.title,
            "status": kind.status,
            "detail": detail,
        });
        if !errors.is_empty() {
            body["errors"] = json!(errors);
        }
        Value::to_string(&body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(problem: &Problem) -> Value {
        serde_json::from_str(&problem.body()).unwrap_or_default()
    }

    #[test]
    fn a_problem_says_what_rfc_9457_asks_for() {
        let problem = Problem::method_not_allowed(&["GET", "HEAD"]);
        assert_eq!(problem.header(), Some(("allow", "GET, HEAD")));
        let expected = json!({
            "type": "urn:loro-sync:problem:method-not-allowed",
            "title": "Method not allowed",
            "status": 405,
            "detail": "This address takes GET, HEAD.",
        });
        assert_eq!(body(&problem), expected);
    }

    #[test]
    fn wrong_fields_are_listed() {
        let errors = vec![
            FieldError::new("role", "must be read or write"),
            FieldError::new("name", "is missing"),
        ];
        let told = body(&Problem::invalid_fields(errors));
        assert_eq!(
            told["detail"],
            "`role` must be read or write. `name` is missing."
        );
        let expected = json!([
            { "field": "role", "message": "must be read or write" },
            { "field": "name", "message": "is missing" },
        ]);
        assert_eq!((&told["status"], &told["errors"]), (&json!(422), &expected));
    }
}
