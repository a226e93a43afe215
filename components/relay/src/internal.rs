//! Which paths are the app's internal ones, however they are written, and who may ask this relay
//! for its own.

use http::{HeaderMap, header};
use std::net::IpAddr;
use subtle::ConstantTimeEq;

/// Whether some server might take this path for `/internal` or something below it: after decoding
/// what is encoded (more than once), resolving dots, joining slashes and ignoring case.
pub(crate) fn is_internal(path: &str) -> bool {
    let mut bytes = path.as_bytes().to_vec();
    loop {
        if names_internal(&bytes) {
            return true;
        }
        let decoded = percent_decode(&bytes);
        if decoded == bytes {
            return false;
        }
        bytes = decoded;
    }
}

fn names_internal(path: &[u8]) -> bool {
    let mut resolved: Vec<&[u8]> = Vec::new();
    for segment in path.split(|byte| matches!(byte, b'/' | b'\\')) {
        // Some servers cut parameters, as in `/internal;x`.
        let segment = segment
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or(segment);
        match segment {
            b"" | b"." => {}
            b".." => {
                resolved.pop();
            }
            segment => resolved.push(segment),
        }
        if resolved.len() == 1 && is_name(resolved[0]) {
            return true;
        }
    }
    false
}

fn is_name(segment: &[u8]) -> bool {
    // Control characters and blanks at the end are cut by some.
    segment
        .trim_ascii()
        .split(|byte| *byte == 0)
        .next()
        .is_some_and(|name| name.eq_ignore_ascii_case(b"internal"))
}

fn percent_decode(bytes: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        if *byte == b'%'
            && let (Some(high), Some(low)) = (digit(bytes.get(at + 1)), digit(bytes.get(at + 2)))
        {
            decoded.push((high * 16 + low) as u8);
            at += 3;
        } else {
            decoded.push(*byte);
            at += 1;
        }
    }
    decoded
}

/// Whether the request may see and do what is the operator's: it has the internal token, or there
/// is none and it comes from this machine.
pub(crate) fn is_operator(headers: &HeaderMap, token: &str, client: IpAddr) -> bool {
    if token.is_empty() {
        // A browser on this machine asks for any page what it likes.
        let page = headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site");
        return client.to_canonical().is_loopback() && !page;
    }
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .is_some_and(|sent| sent.ct_eq(token.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_however_it_is_written() {
        for path in [
            "/internal",
            "/internal/",
            "/internal/append",
            "//internal/append",
            "/./internal",
            "/x/../internal/heads",
            "/x/y/../../internal",
            "/../internal",
            "/%69nternal/append",
            "/%2569nternal",
            "/%2e/internal",
            "/x/%2e%2e/internal",
            "/x%2f..%2finternal",
            "/INTERNAL/append",
            "/Internal",
            "\\internal",
            "/%5cinternal",
            "/internal;x/append",
            "/internal%00",
            "/internal%20/append",
            "/internal/../console",
        ] {
            assert!(is_internal(path), "{path}");
        }
        for path in [
            "/",
            "/sync/internal",
            "/sync/internal/x",
            "/internals",
            "/x/internal",
            "/%",
            "/%zz",
            "/health",
        ] {
            assert!(!is_internal(path), "{path}");
        }
    }

    #[test]
    fn operators() {
        let local = IpAddr::from([127, 0, 0, 1]);
        let remote = IpAddr::from([10, 0, 0, 1]);
        let with = |value: &'static str| {
            HeaderMap::from_iter([(header::AUTHORIZATION, http::HeaderValue::from_static(value))])
        };
        for (headers, token, client, expected) in [
            (HeaderMap::new(), "", local, true),
            (HeaderMap::new(), "", remote, false),
            (with("Bearer "), "", remote, false),
            (HeaderMap::new(), "t", local, false),
            (with("Bearer t"), "t", remote, true),
            (with("Bearer tt"), "t", remote, false),
            (with("Basic t"), "t", remote, false),
        ] {
            assert_eq!(
                is_operator(&headers, token, client),
                expected,
                "{headers:?} {token}"
            );
        }
    }
}
