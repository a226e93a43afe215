//! The credentials that identify the caller of a request.

use platform::{Config, Ports, UnreadableSetting};

use crate::{
    denied::Denied,
    principal::{DEVELOPER, Principal},
    secrets, sessions, tokens,
};

platform::settings! {
    /// The bearer token of a trusted backend, which may do everything
    pub(crate) AGENT_TOKEN = "agent_token", Secret;
}

/// The credentials of a request. A token takes precedence over cookies.
#[derive(Clone, Default)]
pub struct Credentials {
    /// The whole `Cookie` header.
    pub cookie: Option<String>,
    /// A bearer token, from the header `Authorization` or the parameter `token`.
    pub bearer: Option<String>,
    /// The address of the client, if the relay has passed it on.
    pub client: Option<String>,
}

/// Shows none of the credentials, because they are secret.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads the credentials in the headers `Cookie` and `Authorization`, and in the parameter `token`.
    pub fn new(
        cookie: Option<String>,
        authorization: Option<&str>,
        parameter: Option<String>,
    ) -> Self {
        let bearer = authorization.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case("bearer")
                .then(|| token.trim().to_owned())
        });
        Self {
            cookie: cookie.filter(|cookie| !cookie.is_empty()),
            bearer: bearer.or(parameter.filter(|token| !token.is_empty())),
            client: None,
        }
    }

    /// Adds the address of the client.
    #[must_use]
    pub fn of_client(self, client: Option<String>) -> Self {
        Self { client, ..self }
    }

    /// Drops a token that is not of this server if no caller needs a token: in a development without sessions, an agent
    /// with a token of another server is user `dev`, as every caller is.
    ///
    /// # Errors
    /// If a setting cannot be read.
    pub fn without_foreign_token(mut self, config: &dyn Config) -> Result<Self, UnreadableSetting> {
        if config.is_development() && sessions::origin(config)?.is_none() {
            let trusted = config.read(AGENT_TOKEN)?;
            let is_trusted = |bearer: &str| trusted.is_some_and(|t| secrets::same(&t, bearer));
            self.bearer = self
                .bearer
                .filter(|bearer| tokens::is_like_ours(bearer) || is_trusted(bearer));
        }
        Ok(self)
    }

    /// Finds the principal. A cached session counts for up to `max_age` seconds.
    ///
    /// # Errors
    /// If the credentials are missing or not valid, or cannot be checked. A token that is not valid is refused, even if
    /// the cookies are valid.
    pub async fn principal(&self, ports: Ports<'_>, max_age: i64) -> Result<Principal, Denied> {
        if let Some(bearer) = &self.bearer {
            let trusted = ports.config.read(AGENT_TOKEN)?;
            if trusted.is_some_and(|trusted| secrets::same(&trusted, bearer)) {
                return Ok(Principal::Server);
            }
            return tokens::verify(ports, bearer)
                .await?
                .ok_or(Denied::Unauthenticated);
        }
        if sessions::origin(ports.config)?.is_some() {
            let question = sessions::Question {
                cookies: self.cookie.as_ref().ok_or(Denied::Unauthenticated)?,
                client: self.client.as_deref(),
            };
            let session = sessions::find(ports, question, max_age).await?;
            let session = session.ok_or(Denied::Unauthenticated)?;
            return Ok(Principal::User {
                id: session.user_id,
                expires_at: Some(session.expires_at),
            });
        }
        if ports.config.is_development() {
            return Ok(Principal::User {
                id: DEVELOPER.into(),
                expires_at: None,
            });
        }
        Err(Denied::NotConfigured(
            "`better_auth_origin` is not set".into(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::world;
    use platform::native::{MapConfig, block_on};

    const SESSIONS: (&str, &str) = ("better_auth_origin", "https://auth.example");
    const TRUSTED: (&str, &str) = ("agent_token", "trusted");

    fn with_bearer(bearer: &str) -> Credentials {
        Credentials::new(None, Some(&format!("Bearer {bearer}")), None)
    }

    #[test]
    fn a_token_of_another_server_is_dropped_only_if_no_caller_needs_one() {
        let production = ("environment", "production");
        for (settings, bearer, is_kept) in [
            (vec![], "made up", false),
            (vec![], "", false),
            (vec![], "lst_made_up", true),
            (vec![TRUSTED], "trusted", true),
            (vec![TRUSTED], "truste", false),
            (vec![SESSIONS], "made up", true),
            (vec![production], "made up", true),
            (vec![production, SESSIONS], "made up", true),
        ] {
            let config = MapConfig::from_pairs(&settings);
            let given = Credentials {
                cookie: Some("a=b".into()),
                ..with_bearer(bearer).of_client(Some("10.0.0.7".into()))
            };
            let kept = given.without_foreign_token(&config).unwrap();
            let expected = is_kept.then_some(bearer);
            assert_eq!(kept.bearer.as_deref(), expected, "{settings:?} {bearer}");
            assert_eq!(kept.cookie.as_deref(), Some("a=b"));
            assert_eq!(kept.client.as_deref(), Some("10.0.0.7"));
        }
    }

    #[test]
    fn a_caller_is_who_the_credentials_prove() {
        let developer = Principal::User {
            id: DEVELOPER.into(),
            expires_at: None,
        };
        let production = ("environment", "production");
        for (settings, credentials, expected) in [
            (vec![TRUSTED], with_bearer("trusted"), Ok(Principal::Server)),
            (vec![TRUSTED], with_bearer("truste"), Err(401)),
            // A token that is not valid is refused, even if no caller needs one.
            (vec![], with_bearer("lst_made_up"), Err(401)),
            // An empty setting is none: no caller is trusted for an empty token.
            (vec![("agent_token", "")], with_bearer(""), Err(401)),
            (vec![], Credentials::default(), Ok(developer)),
            (vec![SESSIONS], Credentials::default(), Err(401)),
            (vec![production], Credentials::default(), Err(503)),
        ] {
            let world = world(&settings);
            let found = block_on(credentials.principal(world.ports(), 10));
            let found = found.map_err(|denied| problem::Problem::from(denied).status());
            assert_eq!(found, expected, "{settings:?} {:?}", credentials.bearer);
        }
    }

    #[test]
    fn a_token_comes_in_a_header_or_a_parameter() {
        for (authorization, parameter, bearer) in [
            (Some("Bearer abc"), None, Some("abc")),
            (Some("bearer abc"), Some("def"), Some("abc")),
            (Some("Basic abc"), None, None),
            (Some("Basic abc"), Some("def"), Some("def")),
            (None, Some(""), None),
            (None, None, None),
            (Some("Bearer "), None, Some("")),
        ] {
            let parameter = parameter.map(str::to_owned);
            let credentials = Credentials::new(None, authorization, parameter.clone());
            assert_eq!(
                credentials.bearer.as_deref(),
                bearer,
                "{authorization:?} {parameter:?}"
            );
        }
    }
}
