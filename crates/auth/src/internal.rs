//! The token of the internal routes.

use platform::{Config, UnreadableSetting, self_request::INTERNAL_TOKEN};
use problem::Problem;
use subtle::{Choice, ConstantTimeEq};

use crate::origins::Page;

platform::settings! {
    /// The former `internal_token`, while it is being replaced
    pub(crate) INTERNAL_TOKEN_PREVIOUS = "internal_token_previous", Secret;
}

/// The bearer token of the internal routes; `None` if none is set, which opens them to every caller except pages.
///
/// # Errors
/// If the setting cannot be read.
pub fn token(config: &dyn Config) -> Result<Option<String>, UnreadableSetting> {
    config.read(INTERNAL_TOKEN)
}

/// Checks the `Authorization` header of a request to an internal route. While a token is being replaced,
/// `internal_token_previous` passes, too. If no token is set, every caller passes except pages, because a browser sends
/// requests for any page.
///
/// # Errors
/// 401 if the request may not pass; 503 if a token cannot be read.
pub fn check(config: &dyn Config, authorization: Option<&str>, page: &Page) -> Result<(), Problem> {
    if may_pass(config, authorization, page)? {
        Ok(())
    } else {
        Err(Problem::unauthorized())
    }
}

/// Returns whether a request with this `Authorization` header may pass to an internal route. How long the comparison
/// takes depends on the lengths alone, and not on the place of a difference.
fn may_pass(
    config: &dyn Config,
    authorization: Option<&str>,
    page: &Page,
) -> Result<bool, UnreadableSetting> {
    let Some(token) = token(config)? else {
        return Ok(!page.is_one() && !page.may_be_rebound(config));
    };
    let given = authorization
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    let previous = config.read(INTERNAL_TOKEN_PREVIOUS)?;
    let tokens = [Some(token), previous].into_iter().flatten();
    let found = tokens.fold(Choice::from(0), |found, token| {
        found | given.as_bytes().ct_eq(token.as_bytes())
    });
    Ok(found.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::native::MapConfig;

    #[test]
    fn only_the_token_passes() {
        let config = MapConfig::from_pairs(&[("internal_token", "secret")]);
        for (given, passes) in [
            (Some("Bearer secret"), true),
            (Some("Bearer secre"), false),
            (Some("Bearer secret2"), false),
            (Some("secret"), false),
            (Some("Basic secret"), false),
            (Some(""), false),
            (None, false),
        ] {
            assert_eq!(
                may_pass(&config, given, &Page::default()).unwrap(),
                passes,
                "{given:?}"
            );
        }
        assert!(may_pass(&MapConfig::default(), None, &Page::default()).unwrap());
        let replaced = [
            ("internal_token", "new"),
            ("internal_token_previous", "old"),
        ];
        let replaced = MapConfig::from_pairs(&replaced);
        for (given, passes) in [
            ("Bearer new", true),
            ("Bearer old", true),
            ("Bearer ", false),
        ] {
            assert_eq!(
                may_pass(&replaced, Some(given), &Page::default()).unwrap(),
                passes,
                "{given}"
            );
        }
        // The former token may be the present one, before it is replaced or because it was put back.
        let same = [
            ("internal_token", "old"),
            ("internal_token_previous", "old"),
        ];
        let same = MapConfig::from_pairs(&same);
        assert!(may_pass(&same, Some("Bearer old"), &Page::default()).unwrap());
    }

    #[test]
    fn without_a_token_no_page_passes() {
        let config = MapConfig::default();
        let of = |origin: Option<&str>, site: Option<&str>, reached: Option<&str>| Page {
            origin: origin.map(str::to_owned),
            site: site.map(str::to_owned),
            host: None,
            reached: reached.map(str::to_owned),
        };
        for (page, passes) in [
            (of(None, None, Some("127.0.0.1:3000")), true),
            (of(None, Some("none"), None), true),
            (of(Some("http://127.0.0.1:3000"), None, None), false),
            (of(None, Some("cross-site"), None), false),
            (of(None, None, Some("evil.example:3000")), false),
        ] {
            assert_eq!(may_pass(&config, None, &page).unwrap(), passes, "{page:?}");
        }
    }

    #[test]
    fn a_token_that_cannot_be_read_opens_nothing() {
        for unreadable in ["internal_token", "internal_token_previous"] {
            let config = MapConfig::from_pairs(&[("internal_token", "secret")]);
            let config = config.with_unreadable(unreadable);
            for given in [None, Some("Bearer "), Some("Bearer secret")] {
                let refused = check(&config, given, &Page::default()).unwrap_err();
                assert_eq!(refused.status(), 503, "{unreadable} {given:?}");
            }
        }
    }
}
