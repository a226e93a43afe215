//! The environment of this process.

use std::ffi::OsString;

/// The variables of the environment. One whose name or value is not UTF-8 is passed over, because it means nothing to
/// this host or to the relay.
pub(crate) fn variables() -> impl Iterator<Item = (String, String)> {
    readable(std::env::vars_os())
}

fn readable(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> impl Iterator<Item = (String, String)> {
    variables
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn a_variable_that_is_not_utf_8_is_passed_over() {
        let broken = || OsString::from_vec(vec![b'a', 0xff]);
        let variables = [
            (broken(), "1".into()),
            ("B".into(), broken()),
            ("C".into(), "3".into()),
        ];
        let read: Vec<_> = readable(variables).collect();
        assert_eq!(read, [("C".to_owned(), "3".to_owned())]);
    }
}
