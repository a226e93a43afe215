//! Whether the settings suffice to serve.

use platform::{Config, Problem};

use crate::{internal, sessions};

/// Fails closed: nothing is served that the settings do not suffice to protect.
///
/// # Errors
/// 503, naming the setting.
pub fn check(config: &dyn Config) -> Result<(), Problem> {
    missing_setting(config).map_or(Ok(()), |setting| Err(Problem::not_configured(setting)))
}

/// What keeps these settings from serving, naming the setting; `None` where nothing does.
///
/// An `environment` that is not `development` is a deployment, whatever it is called.
pub fn missing_setting(config: &dyn Config) -> Option<&'static str> {
    match sessions::origin(config) {
        Some(origin) if !is_http(&origin) => {
            return Some("`better_auth_origin` is not like https://auth.example.com");
        }
        None if !config.is_development() => return Some("`better_auth_origin` is not set"),
        _ => {}
    }
    if config.is_development() {
        return None;
    }
    if internal::token(config).is_none() {
        return Some("`internal_token` is not set");
    }
    config
        .get("webhook_key")
        .is_none()
        .then_some("`webhook_key` is not set")
}

fn is_http(origin: &str) -> bool {
    url::Url::parse(origin).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.has_host() && url.path() == "/"
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::native::MapConfig;

    #[test]
    fn a_deployment_names_what_is_missing() {
        let production = ("environment", "production");
        let origin = ("better_auth_origin", "https://auth.example");
        let token = ("internal_token", "t");
        let key = ("webhook_key", "k");
        for (settings, missing) in [
            (vec![], None),
            (vec![origin], None),
            (vec![("environment", "development"), token], None),
            (vec![production], Some("better_auth_origin")),
            (
                vec![("environment", "prodution"), token, key],
                Some("better_auth_origin"),
            ),
            (vec![production, origin, key], Some("internal_token")),
            (vec![production, origin, token], Some("webhook_key")),
            (vec![production, origin, token, key], None),
            (
                vec![
                    production,
                    ("better_auth_origin", "auth.example"),
                    token,
                    key,
                ],
                Some("better_auth_origin"),
            ),
            (
                vec![("better_auth_origin", "https://a.example/path")],
                Some("better_auth_origin"),
            ),
        ] {
            let config = MapConfig::from_pairs(&settings);
            let found = missing_setting(&config);
            let named = missing.is_none_or(|name| found.is_some_and(|f| f.contains(name)));
            assert!(
                named && found.is_some() == missing.is_some(),
                "{settings:?}: {found:?}"
            );
        }
    }
}
