//! The version of the messages, which a relay sends with each request.

/// The version of the messages of this release. It grows only if a relay or an app of the previous release would
/// misunderstand a message. New optional fields and new routes do not make it grow.
pub const VERSION: u32 = 1;

/// The header in which a relay sends the version of its messages. A relay that sends none speaks version 1.
pub const VERSION_HEADER: &str = "x-loro-wire-version";

/// The error that a relay speaks a version that this app does not know.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownVersion {
    /// The version that the relay sent.
    told: String,
}

impl std::fmt::Display for UnknownVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The header may hold anything, so only its beginning is shown.
        let told: String = self.told.chars().take(16).collect();
        write!(
            f,
            "the relay speaks version {told:?} of the messages between relay and app, and this app speaks {VERSION}: \
             replace the app before its relays"
        )
    }
}

impl std::error::Error for UnknownVersion {}

/// Checks the version that a relay has sent in [`VERSION_HEADER`].
///
/// # Errors
/// If it is newer than [`VERSION`], or is not a version.
pub fn check_version(told: Option<&str>) -> Result<(), UnknownVersion> {
    let Some(told) = told else {
        return Ok(());
    };
    match told.parse::<u32>() {
        Ok(1..=VERSION) => Ok(()),
        _ => Err(UnknownVersion {
            told: told.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_up_to_this_one_is_understood() {
        for told in [None, Some("1"), Some(VERSION.to_string().as_str())] {
            assert_eq!(check_version(told), Ok(()), "{told:?}");
        }
        let newer = (VERSION + 1).to_string();
        for told in [newer.as_str(), "0", "", "-1", "one", &"9".repeat(99)] {
            let words = check_version(Some(told)).unwrap_err().to_string();
            assert!(
                words.contains("replace the app before its relays"),
                "{words}"
            );
            assert!(words.len() < 200, "{words}");
        }
    }
}
