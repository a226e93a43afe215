//! The bounds of the fields of an archive's files.

/// The longest text of a field, in bytes.
pub(crate) const MAX_TEXT: usize = 8192;

/// The latest time of a field: the end of the year 9999, in Unix seconds.
pub(crate) const LATEST: i64 = 253_402_300_799;

/// Returns whether a text is one line that is neither empty nor longer than a field may be.
pub(crate) fn is_text(text: &str) -> bool {
    (1..=MAX_TEXT).contains(&text.len()) && !text.chars().any(char::is_control)
}
