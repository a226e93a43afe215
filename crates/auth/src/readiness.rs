//! Whether the settings suffice to serve.

use platform::{Config, Problem};

use crate::{internal, sessions};

/// Fails closed: nothing is served that the settings do not suffice to protect.
///
/// # Errors
/// 503, naming the setting.
pub fn check(config: &dyn Config) -> Result<(), Problem> {
    missing_setting(config).map_or(Ok(()), |setting| Err(Problem::not_configured(&setting)))
}

/// What keeps these settings from serving, naming each; `None` where nothing does.
///
/// An `environment` that is not `development` is a deployment, whatever it is called.
pub fn missing_setting(config: &dyn Config) -> Option<String> {
    let origin = sessions::origin(config);
    if origin.as_deref().is_some_and(|origin| !is_http(origin)) {
        return Some("`better_auth_origin` is not like https://auth.example.com".into());
    }
    if config.is_development() {
        return None;
    }
    let missing: Vec<&str> = [
        ("`better_auth_origin`", origin.is_none()),
        ("`internal_token`", internal::token(config).is_none()),
        ("`webhook_key`", config.get("webhook_key").is_none()),
    ]
    .into_iter()
    .filter_map(|(name, missing)| missing.then_some(name))
    .collect();
    match missing.as_slice() {
        [] => None,
        [one] => Some(format!("{one} is not set")),
        more => Some(format!("{} are not set", more.join(" and "))),
    }
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
            let named = |name: &str| found.as_ref().is_some_and(|found| found.contains(name));
            let named = missing.is_none_or(named);
            assert!(
                named && found.is_some() == missing.is_some(),
                "{settings:?}: {found:?}"
            );
        }
    }
}
