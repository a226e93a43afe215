//! The header `Range` of a request for an asset (RFC 9110, section 14.2).

use std::ops::Range;

/// The error of a range that begins after the end.
#[derive(Debug, PartialEq, Eq)]
pub struct Unsatisfiable;

/// Reads the one range of bytes that the header asks for; `None` if it asks for anything else, which is answered with
/// everything.
///
/// # Errors
/// If the range begins after the end.
pub fn parse(header: &str, length: u64) -> Option<Result<Range<u64>, Unsatisfiable>> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (first.trim(), last.trim()) {
        ("", "") => return None,
        ("", suffix) => {
            let suffix: u64 = suffix.parse().ok()?;
            length.saturating_sub(suffix)..length
        }
        (first, "") => first.parse().ok()?..length,
        (first, last) => {
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(length)
        }
    };
    Some(if range.start < range.end {
        Ok(range)
    } else {
        Err(Unsatisfiable)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_read() {
        for (header, expected) in [
            ("bytes=0-0", Some(Ok(0..1))),
            ("bytes=2-5", Some(Ok(2..6))),
            ("bytes=2-", Some(Ok(2..10))),
            ("bytes= 2 - 5 ", Some(Ok(2..6))),
            ("bytes=-3", Some(Ok(7..10))),
            ("bytes=-30", Some(Ok(0..10))),
            ("bytes=9-99", Some(Ok(9..10))),
            ("bytes=9-18446744073709551615", Some(Ok(9..10))),
            ("bytes=10-", Some(Err(Unsatisfiable))),
            ("bytes=-0", Some(Err(Unsatisfiable))),
            ("bytes=5-2", None),
            ("bytes=-", None),
            ("bytes=a-b", None),
            ("bytes=0-1,3-4", None),
            ("lines=0-1", None),
            ("", None),
        ] {
            assert_eq!(parse(header, 10), expected, "{header:?}");
        }
    }
}
