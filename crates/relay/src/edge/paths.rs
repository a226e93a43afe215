//! The paths that may mean the app's internal routes, however they are written.

use percent_encoding::percent_decode;
use std::borrow::Cow;

/// The number of times that a path may have been percent-encoded. Each layer costs a pass over the path.
const LAYERS: usize = 3;

/// The error that a path has more layers of percent-encoding than [`LAYERS`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("The path is percent-encoded more than {} times", LAYERS)]
pub(crate) struct TooDeep;

/// Returns whether some server might take this path for `/internal` or something below it: after decoding it (more than
/// once), resolving dots, joining slashes and ignoring case.
///
/// # Errors
/// If the path is encoded more often than any client needs.
pub(crate) fn is_internal(path: &str) -> Result<bool, TooDeep> {
    let mut bytes = Cow::Borrowed(path.as_bytes());
    for _ in 0..=LAYERS {
        if names_internal(&bytes) {
            return Ok(true);
        }
        let decoded: Vec<u8> = percent_decode(&bytes).collect();
        if decoded == *bytes {
            return Ok(false);
        }
        bytes = Cow::Owned(decoded);
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
    // Some servers cut a name at a NUL, and blanks at its end.
    segment
        .trim_ascii()
        .split(|byte| *byte == 0)
        .next()
        .is_some_and(|name| name.eq_ignore_ascii_case(b"internal"))
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
}
