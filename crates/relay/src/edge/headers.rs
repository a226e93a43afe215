//! The heads of requests and answers, as they go on to the other side.

use crate::edge::address::{self, FORWARDED_FOR};
use crate::room::access::FORWARDED_HOST;
use crate::socket::raw;
use http::Uri;
use http::header::{self, Entry, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use problem::Problem;
use std::net::IpAddr;

/// The headers that concern one connection only (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    // The relay's own server has answered 100 before there is a body to pass on.
    header::EXPECT,
];

/// The names of two older headers of that kind.
const HOP_BY_HOP_NAMES: [&str; 2] = ["keep-alive", "proxy-connection"];

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The beginning of the names of the headers that the relay adds for the app. No client may send one.
const INTERNAL: &str = "x-loro-internal-";

/// The header in which the relay sends the client's address to the app.
const CLIENT: HeaderName = HeaderName::from_static("x-loro-internal-client");

/// Makes the target of a request a path and a query, and moves a token of the query into a header.
pub(crate) fn set_target(head: &mut Parts) -> Result<(), Problem> {
    // A target in absolute form names its own host (RFC 9112, section 3.2.2).
    if let Some(authority) = head.uri.authority() {
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| bad_target())?;
        head.headers.insert(header::HOST, host);
    }
    let mut target = head
        .uri
        .path_and_query()
        .map_or_else(|| "/".to_owned(), |target| target.as_str().to_owned());
    if let Some(token) = head.uri.query().and_then(raw::token) {
        // Hosts of the app keep the query in their traces.
        target = without_token(&target);
        if !head.headers.contains_key(header::AUTHORIZATION) {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
                Problem::bad_request("The token has characters that a token cannot have.")
            })?;
            value.set_sensitive(true);
            head.headers.insert(header::AUTHORIZATION, value);
        }
    }
    head.uri = target.parse::<Uri>().map_err(|_| bad_target())?;
    Ok(())
}

/// The request's target cannot be read.
pub(crate) fn bad_target() -> Problem {
    Problem::bad_request("The request's path or query cannot be read.")
}

/// Removes the parameter `token` from a path and query.
fn without_token(target: &str) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| raw::token(pair).is_none())
        .collect();
    if kept.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", kept.join("&"))
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
        // A client must not take away the length of a message, or the host to which it goes.
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

/// Replaces the headers that say where a request comes from. If the peer is `trusted`, its own are kept and appended
/// to.
pub(crate) fn set_forwarded(headers: &mut HeaderMap, client: IpAddr, trusted: bool) {
    let removed: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            name.as_str().starts_with(INTERNAL)
                || !trusted
                    && (name.as_str().starts_with("x-forwarded-")
                        || *name == header::FORWARDED
                        || *name == "x-real-ip")
        })
        .cloned()
        .collect();
    for name in removed {
        remove(headers, name);
    }
    let address = address::client(client, headers, trusted);
    if let Ok(address) = HeaderValue::from_str(&address.to_string()) {
        headers.insert(CLIENT, address);
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
                ("x-loro-internal-client", "10.0.0.1"),
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
                ("x-loro-internal-client", "6.6.6.6"),
            ])
        );
    }
}
