//! Whether the settings suffice to serve.

use platform::{Config, Problem};

use crate::internal;

/// Fails closed: nothing is served that the settings do not suffice to protect.
///
/// # Errors
/// 503, naming the setting.
pub fn check(config: &impl Config) -> Result<(), Problem> {
    missing_setting(config).map_or(Ok(()), |setting| Err(Problem::not_configured(setting)))
}

/// What keeps these settings from serving, naming the setting; `None` where nothing does.
///
/// An `environment` that is not `development` is a deployment, whatever it is called.
pub fn missing_setting(config: &impl Config) -> Option<&'static str> {
    if !config.is_development() {
        return Some(if internal::token(config).is_none() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use platform::native::MapConfig;

    #[test]
    fn only_a_development_without_sessions_serves() {
        let origin = ("better_auth_origin", "https://auth.example");
        let token = ("internal_token", "t");
        for (settings, missing) in [
            (vec![], None),
            (vec![("environment", "development"), token], None),
            (vec![("environment", "production")], Some("internal_token")),
            (vec![("environment", "prodution")], Some("internal_token")),
            (
                vec![("environment", "production"), token],
                Some("better_auth_origin"),
            ),
            (
                vec![("environment", "production"), token, origin],
                Some("environment"),
            ),
            (vec![origin], Some("better_auth_origin")),
        ] {
            let config = MapConfig::from_pairs(&settings);
            let found = missing_setting(&config);
            assert_eq!(
                found.is_some(),
                missing.is_some(),
                "{settings:?}: {found:?}"
            );
            if let (Some(found), Some(missing)) = (found, missing) {
                assert!(found.contains(missing), "{settings:?}: {found}");
            }
        }
    }
}
