//! Who asks, and by what that is known.

use platform::{Config, Ports, UnreadableSetting};

use crate::{Denied, Role, secrets, sessions, tokens};

/// The user that everybody is in a development without sessions.
pub const DEVELOPER: &str = "dev";

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// Somebody who has signed in.
    User {
        /// The id that Better Auth knows them by.
        id: String,
        /// When the session ends at the latest, in Unix seconds.
        expires_at: Option<i64>,
    },
    /// An agent with a token of one project.
    Token {
        /// The token's id.
        id: String,
        /// The project.
        project_id: String,
        /// What it may do there.
        role: Role,
        /// Until when, in Unix seconds.
        expires_at: Option<i64>,
    },
    /// A trusted backend, with the token of the whole server (`agent_token`).
    Server,
}

impl Principal {
    /// A name that no other principal has, fit for a log.
    pub fn name(&self) -> String {
        match self {
            Self::User { id, .. } => format!("user:{id}"),
            Self::Token { id, .. } => format!("token:{id}"),
            Self::Server => "server".into(),
        }
    }

    /// The user of a name that [`Principal::name`] gave; `None` where it is no user's.
    pub fn user_of_name(name: &str) -> Option<Self> {
        Some(Self::User {
            id: name.strip_prefix("user:")?.to_owned(),
            expires_at: None,
        })
    }

    /// When it ceases to be known, in Unix seconds.
    pub fn expires_at(&self) -> Option<i64> {
        match self {
            Self::User { expires_at, .. } | Self::Token { expires_at, .. } => *expires_at,
            Self::Server => None,
        }
    }
}

/// What a request brings to be known by. A token counts before cookies.
#[derive(Clone, Default)]
pub struct Credentials {
    /// The whole `Cookie` header.
    pub cookie: Option<String>,
    /// A bearer token, from the header `Authorization` or the parameter `token`.
    pub bearer: Option<String>,
}

/// Shows none of them, for they are secret.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Credentials {
    /// From the headers `Cookie` and `Authorization`, and the parameter `token`.
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
        }
    }

    /// Without a token that is none of ours, where nobody needs one: in a development without sessions. An agent that
    /// has one for another server is user `dev` there, as everybody is.
    ///
    /// # Errors
    /// When a setting cannot be read.
    pub fn without_foreign_token(mut self, config: &dyn Config) -> Result<Self, UnreadableSetting> {
        if config.is_development() && sessions::origin(config)?.is_none() {
            let trusted = config.read("agent_token")?.unwrap_or_default();
            self.bearer = self
                .bearer
                .filter(|bearer| tokens::is_like_ours(bearer) || secrets::same(&trusted, bearer));
        }
        Ok(self)
    }

    /// Finds out who it is. What was known of a session up to `max_age` seconds ago still counts.
    ///
    /// # Errors
    /// Where nobody is known by them, or that cannot be found out. What is presented and does not
    /// hold is never passed over for something else.
    pub async fn principal(&self, ports: Ports<'_>, max_age: i64) -> Result<Principal, Denied> {
        if let Some(bearer) = &self.bearer {
            let trusted = ports.config.read("agent_token")?;
            if trusted.is_some_and(|trusted| secrets::same(&trusted, bearer)) {
                return Ok(Principal::Server);
            }
            return tokens::verify(ports, bearer)
                .await?
                .ok_or(Denied::Unauthenticated);
        }
        if sessions::origin(ports.config)?.is_some() {
            let cookie = self.cookie.as_ref().ok_or(Denied::Unauthenticated)?;
            let session = sessions::find(ports, cookie, max_age).await?;
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
