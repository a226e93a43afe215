//! The token of the internal routes.

use platform::{Config, Problem};
use subtle::ConstantTimeEq;

/// The bearer token of the internal routes; `None` where none is set, and they are open.
pub fn token(config: &impl Config) -> Option<String> {
    config.get("internal_token")
}

/// Checks the `Authorization` header of a request to an internal route.
///
/// # Errors
/// 401, where it may not pass.
pub fn check(config: &impl Config, authorization: Option<&str>) -> Result<(), Problem> {
    if may_pass(config, authorization) {
        Ok(())
    } else {
        Err(Problem::unauthorized())
    }
}

/// Whether an `Authorization` header may pass to an internal route. Takes the same time whatever
/// is wrong with it.
fn may_pass(config: &impl Config, authorization: Option<&str>) -> bool {
    let Some(token) = token(config) else {
        return true;
    };
    let given = authorization
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    given.as_bytes().ct_eq(token.as_bytes()).into()
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
    }
}
