//! Who may come in.
//!
//! In development everybody is user `dev`, and the internal routes are open where no token is set.
//! Everywhere else the app refuses to serve what it cannot protect.

use platform::Config;
use subtle::ConstantTimeEq;

use crate::problem::Problem;

/// The bearer token of the internal routes, where one is set.
pub(crate) fn internal_token(config: &impl Config) -> Option<String> {
    config.get("internal_token")
}

/// What keeps this configuration from serving, naming the setting; `None` where nothing does.
pub(crate) fn missing_setting(config: &impl Config) -> Option<&'static str> {
    let environment = config.get("environment");
    if environment.as_deref().unwrap_or("development") != "development" {
        return Some(if internal_token(config).is_none() {
            "`internal_token` is not set"
        } else if config.get("better_auth_origin").is_none() {
            "`better_auth_origin` is not set"
        } else {
            "`environment` must be `development`: sessions are not checked by this release"
        });
    }
    // Who sets it expects that sessions are checked.
    config
        .get("better_auth_origin")
        .map(|_| "`better_auth_origin` is set, but sessions are not checked by this release")
}

/// Fails closed.
pub(crate) fn check(config: &impl Config) -> Result<(), Problem> {
    missing_setting(config).map_or(Ok(()), |setting| Err(Problem::not_configured(setting)))
}

/// Checks the bearer token of an internal route.
pub(crate) fn check_internal(
    config: &impl Config,
    authorization: Option<&str>,
) -> Result<(), Problem> {
    let Some(token) = internal_token(config) else {
        return Ok(());
    };
    let given = authorization
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    if bool::from(given.as_bytes().ct_eq(token.as_bytes())) {
        Ok(())
    } else {
        Err(Problem::unauthorized())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::native::MapConfig;

    fn config(settings: &[(&str, &str)]) -> MapConfig {
        MapConfig(
            settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn only_a_development_without_sessions_serves() {
        for (settings, serves) in [
            (&[][..], true),
            (&[("environment", "development")], true),
            (&[("environment", "production")], false),
            (&[("environment", "prodution")], false),
            (
                &[("environment", "production"), ("internal_token", "t")],
                false,
            ),
            (
                &[
                    ("environment", "production"),
                    ("internal_token", "t"),
                    ("better_auth_origin", "https://auth.example"),
                ],
                false,
            ),
            (&[("better_auth_origin", "https://auth.example")], false),
        ] {
            assert_eq!(check(&config(settings)).is_ok(), serves, "{settings:?}");
        }
    }

    #[test]
    fn internal_routes_want_the_token() {
        let config = config(&[("internal_token", "secret")]);
        for (given, allowed) in [
            (Some("Bearer secret"), true),
            (Some("Bearer secre"), false),
            (Some("Bearer secret2"), false),
            (Some("secret"), false),
            (Some("Basic secret"), false),
            (Some(""), false),
            (None, false),
        ] {
            assert_eq!(check_internal(&config, given).is_ok(), allowed, "{given:?}");
        }
    }
}
