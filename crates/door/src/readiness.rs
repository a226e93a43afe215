//! Checks whether the settings suffice to serve.

use auth::{
    internal, origins,
    sessions::{self, BETTER_AUTH_ORIGIN},
    webhooks::WEBHOOK_KEY,
};
use platform::{Config, Form, UnreadableSetting, WrongForm, config::ENVIRONMENT};
use problem::Problem;

/// Fails closed: refuses every request if the settings do not suffice to protect the app.
///
/// # Errors
/// 503 that names the missing settings. If a setting cannot be read, only the log names it.
pub(crate) fn check(config: &dyn Config) -> Result<(), Problem> {
    match missing_setting(config)? {
        Some(setting) => Err(Problem::not_configured(&setting)),
        None => Ok(()),
    }
}

/// Names the settings that are missing or wrong; `None` if the app can serve.
///
/// An `environment` that is not `development` is a deployment, whatever it is called.
///
/// # Errors
/// If a setting cannot be read, because it may be set all the same.
pub fn missing_setting(config: &dyn Config) -> Result<Option<String>, UnreadableSetting> {
    config.read(ENVIRONMENT)?;
    let origin = sessions::origin(config)?;
    let token = internal::token(config)?;
    let key = config.read(WEBHOOK_KEY)?;
    let has_origin = origin.is_some();
    if origin.is_some_and(|origin| !Form::Origin.fits(&origin)) {
        let (setting, form) = (BETTER_AUTH_ORIGIN, Form::Origin);
        return Ok(Some(WrongForm { setting, form }.to_string()));
    }
    if let Some(wrong) = origins::wrong_setting(config)? {
        return Ok(Some(wrong.to_string()));
    }
    if config.is_development() {
        return Ok(None);
    }
    let missing: Vec<&str> = [
        ("`better_auth_origin`", !has_origin),
        ("`internal_token`", token.is_none()),
        ("`webhook_key`", key.is_none()),
    ]
    .into_iter()
    .filter_map(|(name, missing)| missing.then_some(name))
    .collect();
    Ok(match missing.as_slice() {
        [] => None,
        [one] => Some(format!("{one} is not set")),
        more => Some(format!("{} are not set", more.join(" and "))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::native::MapConfig;

    #[test]
    fn a_deployment_names_what_is_missing() {
        let production = ("environment", "production");
        let origin = ("better_auth_origin", "https://auth.example/");
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
            (vec![("environment", "")], Some("better_auth_origin")),
            (vec![("environment", "Development")], Some("webhook_key")),
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
            (
                vec![("better_auth_origin", "ftp://a.example")],
                Some("better_auth_origin"),
            ),
            (
                vec![("allowed_origins", "app.example")],
                Some("allowed_origins"),
            ),
            (vec![("public_url", "http://0.0.0.0:1")], Some("public_url")),
        ] {
            let config = MapConfig::from_pairs(&settings);
            let found = missing_setting(&config).unwrap();
            let named = |name: &str| found.as_ref().is_some_and(|found| found.contains(name));
            let named = missing.is_none_or(named);
            assert!(
                named && found.is_some() == missing.is_some(),
                "{settings:?}: {found:?}"
            );
        }
    }

    #[test]
    fn nothing_is_served_while_a_setting_cannot_be_read() {
        for unreadable in [
            "environment",
            "better_auth_origin",
            "internal_token",
            "webhook_key",
        ] {
            let config = MapConfig::default().with_unreadable(unreadable);
            let problem = check(&config).unwrap_err();
            assert_eq!(problem.status(), 503, "{unreadable}");
            let told = problem.body().to_string();
            assert!(!told.contains(unreadable), "{told}");
        }
        assert!(check(&MapConfig::default()).is_ok());
    }
}
