//! The token of the internal routes.

use platform::{Config, Problem};
use subtle::{Choice, ConstantTimeEq};

/// The bearer token of the internal routes; `None` where none is set, and they are open.
pub fn token(config: &dyn Config) -> Option<String> {
    config.get("internal_token")
}

/// Checks the `Authorization` header of a request to an internal route. While a token is being replaced,
/// `internal_token_previous` passes too.
///
/// # Errors
/// 401, where it may not pass.
pub fn check(config: &dyn Config, authorization: Option<&str>) -> Result<(), Problem> {
    if may_pass(config, authorization) {
        Ok(())
    } else {
        Err(Problem::unauthorized())
    }
}

/// Whether an `Authorization` header may pass to an internal route. Takes the same time whatever
/// is wrong with it.
fn may_pass(config: &dyn Config, authorization: Option<&str>) -> bool {
    let Some(token) = token(config) else {
        return true;
    };
    let given = authorization
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    let previous = config.get("internal_token_previous");
    [Some(token), previous]
        .into_iter()
        .flatten()
        .fold(Choice::from(0), |found, token| {
            found | given.as_bytes().ct_eq(token.as_bytes())
        })
        .into()
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
            assert_eq!(may_pass(&config, given), passes, "{given:?}");
        }
        assert!(may_pass(&MapConfig::default(), None));
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
            assert_eq!(may_pass(&replaced, Some(given)), passes, "{given}");
        }
    }
}
