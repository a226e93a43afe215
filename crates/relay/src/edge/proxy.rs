//! Everything public that is not a WebSocket goes to the app, streamed both ways.

use crate::Relay;
use crate::app::upstream::UpstreamError;
use crate::edge::problem::Problem;
use crate::room::rooms;
use crate::socket::raw;
use bytes::Bytes;
use http::header::{self, Entry, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, Uri, Version};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::timeout;

/// A body on its way, in either direction.
pub(crate) type Body =
    http_body_util::combinators::UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// A body that is there already.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Headers that concern one connection only (RFC 9110, section 7.6.1), and what has been replaced
/// by them.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    // The relay's own server has said 100 by the time that there is a body to pass on.
    header::EXPECT,
];

const HOP_BY_HOP_NAMES: [&str; 2] = ["keep-alive", "proxy-connection"];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Headers by which the relay may tell the app things; no client may.
const OURS: &str = "x-loro-internal-";

const REV: &str = "x-loro-rev";

/// By which the app tells who asked.
const PRINCIPAL: &str = "x-loro-internal-principal";

/// Passes a request on, and its answer back.
pub(crate) async fn forward(
    relay: &Arc<Relay>,
    client: IpAddr,
    request: Request<Incoming>,
) -> Response<Body> {
    relay.metrics.proxied_total.add(1);
    let posted_to = (request.method() == Method::POST)
        .then(|| request.uri().path().strip_prefix("/sync/"))
        .flatten()
        .map(str::to_owned);
    // Refused here: an app that answers before it has read everything may not be heard.
    if request.body().size_hint().lower() > wire::MAX_UPDATE_BYTES as u64 {
        return Problem::too_large().into();
    }
    let credential = relay
        .limits
        .credential(request.headers(), request.uri().query());
    let fault = Arc::new(OnceLock::new());
    let request = match outgoing(relay, client, request, fault.clone()) {
        Ok(request) => request,
        Err(problem) => return problem.into(),
    };
    let answer = timeout(relay.settings.proxy_timeout, relay.upstream.send(request)).await;
    let mut response = match answer {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            match fault.get() {
                Some(BodyFault::TooLarge) => return Problem::too_large().into(),
                Some(BodyFault::Broken) => {
                    return Problem::bad_request("the request's body broke off").into();
                }
                None => {}
            }
            relay.metrics.proxy_errors_total.add(1);
            match &error {
                UpstreamError::Connect(_) => tracing::warn!(%error, "a request was not answered"),
                UpstreamError::Http(_) => tracing::debug!(%error, "a request was not answered"),
            }
            return Problem::app_unreachable().into();
        }
        Err(_) => {
            relay.metrics.proxy_errors_total.add(1);
            return Problem::app_timeout().into();
        }
    };
    if let Some(project) = posted_to
        && response.status().is_success()
    {
        see_rev(relay, &project, response.headers());
    }
    if let Some(principal) = response.headers_mut().remove(PRINCIPAL)
        && let (Some(credential), Ok(principal)) = (credential, principal.to_str())
    {
        // What was done is done: only the next one is refused.
        let _ = relay.limits.told(credential, principal);
    }
    remove_hop_by_hop(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    response.map(|body| body.map_err(Into::into).boxed_unsync())
}

/// A server-side update: the room's sockets need not wait for the next comparison of heads.
fn see_rev(relay: &Arc<Relay>, project: &str, headers: &HeaderMap) {
    let rev = headers
        .get(REV)
        .and_then(|rev| rev.to_str().ok())
        .and_then(|rev| rev.parse().ok());
    if let Some(rev) = rev {
        // With Redis the update itself is on its way.
        let wait = if relay.pubsub.is_connected() {
            relay.settings.gap_wait
        } else {
            Duration::ZERO
        };
        rooms::note(relay, project, rev, wait);
    }
}

/// What is wrong with a request's body, found out while it is passed on.
enum BodyFault {
    TooLarge,
    Broken,
}

/// The request as the app gets it. Where its body cannot be passed on whole, `fault` tells why.
fn outgoing(
    relay: &Relay,
    client: IpAddr,
    request: Request<Incoming>,
    fault: Arc<OnceLock<BodyFault>>,
) -> Result<Request<Body>, Problem> {
    let (mut head, body) = request.into_parts();
    // A target in absolute form names its own host (RFC 9112, section 3.2.2).
    if let Some(authority) = head.uri.authority() {
        let host = HeaderValue::from_str(authority.as_str())
            .map_err(|_| Problem::bad_request("the request's target makes no sense"))?;
        head.headers.insert(header::HOST, host);
    }
    let mut target = head
        .uri
        .path_and_query()
        .map_or_else(|| "/".to_owned(), |target| target.as_str().to_owned());
    if let Some(token) = head.uri.query().and_then(raw::token) {
        // Hosts of the app note the query in their traces.
        target = without_token(&target);
        if !head.headers.contains_key(header::AUTHORIZATION) {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| Problem::bad_request("the token makes no sense"))?;
            value.set_sensitive(true);
            head.headers.insert(header::AUTHORIZATION, value);
        }
    }
    head.uri = target
        .parse::<Uri>()
        .map_err(|_| Problem::bad_request("the request's target makes no sense"))?;
    head.version = Version::HTTP_11;
    remove_hop_by_hop(&mut head.headers);
    set_forwarded(&mut head.headers, client, relay.settings.trust_forwarded);
    if !head.headers.contains_key(header::HOST) {
        // HTTP/1.0. The app wants one.
        if let Ok(host) = HeaderValue::from_str(&relay.upstream.authority) {
            head.headers.insert(header::HOST, host);
        }
    }
    let body = Limited::new(body, wire::MAX_UPDATE_BYTES).map_err(move |error| {
        fault.get_or_init(|| match error.is::<LengthLimitError>() {
            true => BodyFault::TooLarge,
            false => BodyFault::Broken,
        });
        error
    });
    Ok(Request::from_parts(head, body.boxed_unsync()))
}

/// A path and query without the parameter `token`.
fn without_token(target: &str) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| raw::token(pair).is_none())
        .collect();
    match kept.is_empty() {
        true => path.to_owned(),
        false => format!("{path}?{}", kept.join("&")),
    }
}

/// Removes the headers that concern one connection only.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // What says how long a message is, and to whom it goes, is not for a client to take away.
        .filter(|name| ![header::HOST, header::CONTENT_LENGTH].contains(name))
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        remove(headers, name.clone());
    }
    for name in HOP_BY_HOP_NAMES {
        remove(headers, HeaderName::from_static(name));
    }
}

fn remove(headers: &mut HeaderMap, name: HeaderName) {
    if let Entry::Occupied(entry) = headers.entry(name) {
        entry.remove_entry_mult();
    }
}

fn set_forwarded(headers: &mut HeaderMap, client: IpAddr, trusted: bool) {
    let ours: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            name.as_str().starts_with(OURS)
                || !trusted
                    && (name.as_str().starts_with("x-forwarded-")
                        || *name == header::FORWARDED
                        || *name == "x-real-ip")
        })
        .cloned()
        .collect();
    for name in ours {
        remove(headers, name);
    }
    let mut chain: Vec<String> = headers
        .get_all(FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .map(str::to_owned)
        .collect();
    chain.push(client.to_string());
    if let Ok(chain) = HeaderValue::from_str(&chain.join(", ")) {
        headers.insert(FORWARDED_FOR, chain);
    }
    headers
        .entry(FORWARDED_PROTO)
        .or_insert(HeaderValue::from_static("http"));
    if let Some(host) = headers.get(header::HOST).cloned() {
        headers.entry(FORWARDED_HOST).or_insert(host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn hop_by_hop_headers_go() {
        let mut headers = map(&[
            ("connection", "close, X-Private, host, Content-Length"),
            ("x-private", "1"),
            ("host", "example.com"),
            ("content-length", "3"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("authorization", "Bearer x"),
            ("cookie", "a=b"),
        ]);
        remove_hop_by_hop(&mut headers);
        assert_eq!(
            headers,
            map(&[
                ("host", "example.com"),
                ("content-length", "3"),
                ("authorization", "Bearer x"),
                ("cookie", "a=b"),
            ])
        );
    }

    #[test]
    fn a_token_leaves_the_query() {
        for (target, left) in [
            ("/sync/p?token=t", "/sync/p"),
            ("/sync/p?a=b&token=t&c=d", "/sync/p?a=b&c=d"),
            ("/sync/p?a=token=t", "/sync/p?a=token=t"),
            ("/sync/p?tok%65n=t&a=b", "/sync/p?a=b"),
        ] {
            assert_eq!(without_token(target), left);
        }
    }

    #[test]
    fn forwarded_headers() {
        let sent: [(&str, &str); 6] = [
            ("host", "example.com"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-prefix", "/x"),
            ("forwarded", "for=6.6.6.6"),
            ("x-loro-internal-user", "root"),
        ];
        let client = IpAddr::from([10, 0, 0, 1]);
        let mut headers = map(&sent);
        set_forwarded(&mut headers, client, false);
        assert_eq!(
            headers,
            map(&[
                ("host", "example.com"),
                ("x-forwarded-for", "10.0.0.1"),
                ("x-forwarded-proto", "http"),
                ("x-forwarded-host", "example.com"),
            ])
        );
        let mut headers = map(&sent);
        set_forwarded(&mut headers, client, true);
        assert_eq!(
            headers,
            map(&[
                ("host", "example.com"),
                ("x-forwarded-for", "6.6.6.6, 10.0.0.1"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-prefix", "/x"),
                ("forwarded", "for=6.6.6.6"),
                ("x-forwarded-host", "example.com"),
            ])
        );
    }
}
