//! Which paths are the app's internal ones, however they are written, and who may ask this relay
//! for its own.

use http::{HeaderMap, header};
use subtle::ConstantTimeEq;

/// How often a path may have been percent-encoded. Each layer costs a pass over the path.
const LAYERS: usize = 3;

/// A path has more layers of percent-encoding than [`LAYERS`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooDeep;

/// Whether some server might take this path for `/internal` or something below it: after decoding
/// what is encoded (more than once), resolving dots, joining slashes and ignoring case.
///
/// # Errors
/// When it is encoded more often than anybody needs.
pub(crate) fn is_internal(path: &str) -> Result<bool, TooDeep> {
    let mut bytes = path.as_bytes().to_vec();
    for _ in 0..=LAYERS {
        if names_internal(&bytes) {
            return Ok(true);
        }
        let decoded = percent_decode(&bytes);
        if decoded == bytes {
            return Ok(false);
        }
        bytes = decoded;
    }
    Err(TooDeep)
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

/// Whether the request may see and do what is the operator's: it has the internal token. Where none is set, no
/// request may: not even one from this machine, for the app calls addresses that users give, from here too.
pub(crate) fn is_operator(headers: &HeaderMap, token: &str) -> bool {
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .filter(|_| !token.is_empty())
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
            assert_eq!(is_internal(path), Ok(true), "{path}");
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
            assert_eq!(is_internal(path), Ok(false), "{path}");
        }
    }

    #[test]
    fn a_path_has_three_layers_of_encoding_at_most() {
        for (path, expected) in [
            ("/%252569nternal", Ok(true)),
            ("/%25252569nternal", Err(TooDeep)),
            ("/%252541", Ok(false)),
            ("/%25252541", Err(TooDeep)),
        ] {
            assert_eq!(is_internal(path), expected, "{path}");
        }
        assert_eq!(
            is_internal(&format!("/%{}", "25".repeat(7_500))),
            Err(TooDeep)
        );
    }

    #[test]
    fn operators() {
        let with = |value: &'static str| {
            HeaderMap::from_iter([(header::AUTHORIZATION, http::HeaderValue::from_static(value))])
        };
        for (headers, token, expected) in [
            (HeaderMap::new(), "", false),
            (with("Bearer "), "", false),
            (HeaderMap::new(), "t", false),
            (with("Bearer t"), "t", true),
            (with("Bearer tt"), "t", false),
            (with("Basic t"), "t", false),
        ] {
            assert_eq!(
                is_operator(&headers, token),
                expected,
                "{headers:?} {token}"
            );
        }
    }
}
