//! Errors as `application/problem+json` (RFC 9457).

use crate::edge::proxy::{Body, full};
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;
use std::borrow::Cow;
use std::time::Duration;

/// The media type of every error.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// An error for an HTTP client. Its `type` is stable: clients may rely on it.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: String,
    header: Option<(header::HeaderName, Cow<'static, str>)>,
}

impl Problem {
    fn new(
        status: StatusCode,
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

    fn with(mut self, name: header::HeaderName, value: impl Into<Cow<'static, str>>) -> Self {
        self.header = Some((name, value.into()));
        self
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "bad-request",
            "Bad request",
            detail,
        )
    }

    pub(crate) fn bad_project() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "bad-project-id",
            "Bad project id",
            "a project id is 1 to 128 characters of A-Z a-z 0-9 _ -",
        )
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "Unauthorized",
            "send the internal token as a bearer token",
        )
        .with(header::WWW_AUTHENTICATE, "Bearer")
    }

    pub(crate) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "Not found",
            "there is nothing here",
        )
    }

    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "Method not allowed",
            format!("use {allow}"),
        )
        .with(header::ALLOW, allow)
    }

    pub(crate) fn too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "payload-too-large",
            "Too large",
            "a body has at most 16 MiB",
        )
    }

    pub(crate) fn upgrade_required() -> Self {
        Self::new(
            StatusCode::UPGRADE_REQUIRED,
            "websocket-version",
            "Unknown WebSocket version",
            "this server speaks WebSocket version 13",
        )
        .with(header::SEC_WEBSOCKET_VERSION, "13")
    }

    pub(crate) fn too_many_connections() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too-many-connections",
            "Too many connections",
            "this relay holds as many connections as it may",
        )
        .with(header::RETRY_AFTER, "5")
    }

    pub(crate) fn too_many_requests(wait: Duration) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-requests",
            "Too many requests",
            "you ask more often than one may: wait a little",
        )
        .with(
            header::RETRY_AFTER,
            wait.as_secs_f64().ceil().max(1.0).to_string(),
        )
    }

    pub(crate) fn draining() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "draining",
            "Going down",
            "this relay is going down: connect again",
        )
        .with(header::RETRY_AFTER, "1")
    }

    pub(crate) fn app_unreachable() -> Self {
        Self::new(
            StatusCode::BAD_GATEWAY,
            "app-unreachable",
            "The app does not answer",
            "the app could not be reached or broke off: try again",
        )
        .with(header::RETRY_AFTER, "2")
    }

    pub(crate) fn app_timeout() -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "app-timeout",
            "The app took too long",
            "the app did not answer in time",
        )
        .with(header::RETRY_AFTER, "5")
    }

    /// The whole answer as bytes of HTTP/1.1, for a connection that is refused before a request
    /// was read.
    pub(crate) fn as_http(&self) -> Vec<u8> {
        let body = self.body();
        format!(
            "HTTP/1.1 {}\r\ncontent-type: {MEDIA_TYPE}\r\nretry-after: 5\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.status,
            body.len(),
        )
        .into_bytes()
    }

    fn body(&self) -> String {
        json!({
            "type": format!("urn:loro-sync:problem:{}", self.kind),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        })
        .to_string()
    }
}

impl From<Problem> for Response<Body> {
    fn from(problem: Problem) -> Self {
        let mut response = Response::new(full(problem.body()));
        *response.status_mut() = problem.status;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some((name, value)) = problem.header
            && let Ok(value) = HeaderValue::from_str(&value)
        {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
