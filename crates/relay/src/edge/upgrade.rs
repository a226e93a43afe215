//! The opening handshake of a WebSocket (RFC 6455, section 4.2).

use crate::Relay;
use crate::edge::problem::Problem;
use crate::edge::proxy::{Body, full};
use crate::room::access;
use crate::socket::connection::Connection;
use crate::socket::raw;
use crate::socket::socket::Wants;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The paths that take an upgrade, as the app's routes are written.
pub const UPGRADES: [&str; 1] = ["/sync/{project}"];

/// Where the project follows of the raw protocol.
pub(crate) const RAW_PATH: &str = "/sync/";

/// Whether the client wants a WebSocket.
pub(crate) fn is_asked_for(headers: &HeaderMap) -> bool {
    has_token(headers, header::UPGRADE, "websocket")
}

fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(token))
}

/// Answers a request to upgrade to the raw protocol; the WebSocket then lives in a task of its own.
pub(crate) async fn raw(relay: &Arc<Relay>, request: Request<Incoming>) -> Response<Body> {
    match try_raw(relay, request).await {
        Ok(response) => response,
        Err(response) => *response,
    }
}

type Refusal = Box<Response<Body>>;

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::new(problem.into())
    }
}

async fn try_raw(
    relay: &Arc<Relay>,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let accept = accept_key(&request)?;
    let project = request.uri().path().strip_prefix(RAW_PATH).unwrap_or("");
    if !wire::is_project_id(project) {
        return Err(Problem::bad_project().into());
    }
    let project: Arc<str> = project.into();
    let query =
        raw::Query::parse(request.uri().query().unwrap_or("")).map_err(Problem::bad_request)?;
    if relay.is_draining() {
        return Err(Problem::draining().into());
    }
    let Ok(seat) = relay.seats.clone().try_acquire_owned() else {
        relay.metrics.refused_total.add(1);
        return Err(Problem::too_many_connections().into());
    };
    let check = access::check(
        &project,
        request.headers(),
        query.token,
        relay.settings.trust_forwarded,
    );
    let (pass, principal) = access::admit(relay, check).await?;
    let credential = relay
        .limits
        .credential(request.headers(), request.uri().query());
    if let Some(credential) = credential
        && let Err(wait) = relay.limits.told(credential, &principal)
    {
        relay.metrics.limited_total.add(1);
        return Err(Problem::too_many_requests(wait).into());
    }
    let alive = relay.alive();
    let upgrade = hyper::upgrade::on(&mut request);
    let task = relay.clone();
    tokio::spawn(async move {
        let (_seat, _alive) = (seat, alive);
        let Ok(Ok(upgraded)) = timeout(task.settings.header_timeout, upgrade).await else {
            return;
        };
        let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
            tracing::error!("an upgraded connection is no TCP stream");
            return;
        };
        let wants = Wants {
            events: query.events,
        };
        let early = parts.read_buf.to_vec();
        // It is a slice of the HTTP server's buffer, and would keep that as long as the WebSocket.
        drop(parts.read_buf);
        let stream = parts.io.into_inner();
        let connection = Connection::new(task, project, stream, early, wants, pass);
        connection.run(query.version).await;
    });
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

/// Checks the handshake, and computes what answers the client's key.
fn accept_key(request: &Request<Incoming>) -> Result<HeaderValue, Problem> {
    let headers = request.headers();
    if request.method() != Method::GET {
        return Err(Problem::method_not_allowed("GET"));
    }
    if request.version() != Version::HTTP_11 || !has_token(headers, header::CONNECTION, "upgrade") {
        return Err(Problem::bad_request(
            "an upgrade needs HTTP/1.1 and Connection: Upgrade",
        ));
    }
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err(Problem::upgrade_required());
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .map(HeaderValue::as_bytes)
        .filter(|key| STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16))
        .ok_or_else(|| Problem::bad_request("Sec-WebSocket-Key is not 16 bytes in base64"))?;
    HeaderValue::from_str(&derive_accept_key(key))
        .map_err(|_| Problem::bad_request("Sec-WebSocket-Key makes no sense"))
}
