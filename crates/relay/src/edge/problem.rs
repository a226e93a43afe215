//! The errors of the relay itself, and their way into answers.

use crate::edge::body::{Body, full};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use problem::{Kind, MEDIA_TYPE, Problem};
use std::time::Duration;

const RETRY_AFTER: &str = "retry-after";

/// A body takes too long to arrive.
pub(crate) fn too_slow() -> Problem {
    Problem::new(
        Kind::REQUEST_TIMEOUT,
        "The request's body did not arrive in time.",
    )
}

/// The client speaks another version of the WebSocket protocol.
pub(crate) fn upgrade_required() -> Problem {
    Problem::new(
        Kind::WEBSOCKET_VERSION,
        "This server speaks version 13 of the WebSocket protocol.",
    )
    .with_header("sec-websocket-version", "13")
}

/// The relay has reached its limit of connections.
pub(crate) fn too_many_connections() -> Problem {
    Problem::new(
        Kind::TOO_MANY_CONNECTIONS,
        "This relay has reached its limit of connections: connect again later.",
    )
    .with_header(RETRY_AFTER, "5")
}

/// The client asks more often than the limits allow.
pub(crate) fn too_many_requests(wait: Duration) -> Problem {
    let seconds = wait.as_secs_f64().ceil().max(1.0);
    Problem::new(
        Kind::TOO_MANY_REQUESTS,
        "This address or user sends more requests than the limit allows: wait and try again.",
    )
    .with_header(RETRY_AFTER, seconds.to_string())
}

/// A limit of requests under way is reached: of all clients, of this address, or of this user.
pub(crate) fn too_busy() -> Problem {
    Problem::new(
        Kind::TOO_BUSY,
        "Too many requests are under way, from all clients or from this address or user: wait and try again.",
    )
    .with_header(RETRY_AFTER, "2")
}

/// The relay is shutting down.
pub(crate) fn draining() -> Problem {
    Problem::new(
        Kind::DRAINING,
        "This relay is shutting down: connect again.",
    )
    .with_header(RETRY_AFTER, "1")
}

/// The app could not be reached, or its answer broke off.
pub(crate) fn app_unreachable() -> Problem {
    Problem::new(
        Kind::APP_UNREACHABLE,
        "The app could not be reached, or its answer broke off: try again.",
    )
    .with_header(RETRY_AFTER, "2")
}

/// The app did not answer in time.
pub(crate) fn app_timeout() -> Problem {
    Problem::new(Kind::APP_TIMEOUT, "The app did not answer in time.").with_header(RETRY_AFTER, "5")
}

/// The app does not report its health. Load balancers and monitors expect 503 of a server that cannot serve.
pub(crate) fn app_silent() -> Problem {
    Problem::unavailable("The app could not be reached, or did not report its health in time.")
}

/// The answer that carries a problem.
pub(crate) fn response(problem: &Problem) -> Response<Body> {
    let status = StatusCode::from_u16(problem.status());
    let mut response = described(
        status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        problem.body(),
    );
    if let Some((name, value)) = problem.header()
        && let Ok(value) = HeaderValue::from_str(value)
    {
        let name = HeaderName::from_static(name);
        response.headers_mut().insert(name, value);
    }
    response
}

/// An answer with the body of a problem, which may be the relay's or the app's.
pub(crate) fn described(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    response
}

/// The whole answer in the bytes of HTTP/1.1, for a connection that is refused before a request was read.
pub(crate) fn as_http(problem: &Problem) -> Vec<u8> {
    let body = problem.body();
    let status = StatusCode::from_u16(problem.status());
    let header = problem
        .header()
        .map(|(name, value)| format!("{name}: {value}\r\n"));
    format!(
        "HTTP/1.1 {}\r\ncontent-type: {MEDIA_TYPE}\r\n{}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        header.unwrap_or_default(),
        body.len(),
    )
    .into_bytes()
}

/// The answer to a request that is refused.
pub(crate) struct Refusal(Box<Response<Body>>);

impl Refusal {
    /// Refuses with an answer that is ready.
    pub(crate) fn new(response: Response<Body>) -> Self {
        Self(Box::new(response))
    }

    /// The answer.
    pub(crate) fn into_response(self) -> Response<Body> {
        *self.0
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::new(response(&problem))
    }
}
