//! The callers of requests, and the credentials that identify them.

use platform::{Config, Ports, UnreadableSetting};

use crate::{Denied, Role, secrets, sessions, tokens};

platform::settings! {
    /// The bearer token of a trusted backend, which may do everything
    pub(crate) AGENT_TOKEN = "agent_token", Secret;
}

/// The user of every caller in a development without sessions.
pub const DEVELOPER: &str = "dev";

/// The caller of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A user who has signed in.
    User {
        /// The user's id in Better Auth.
        id: String,
        /// When the session ends at the latest, in Unix seconds; `None` if there are no sessions.
        expires_at: Option<i64>,
    },
    /// An agent with a token of one project.
    Token {
        /// The token's id.
        id: String,
        /// The project.
        project_id: String,
        /// The agent's role in the project.
        role: Role,
        /// When the token ends, in Unix seconds; `None` if it never does.
        expires_at: Option<i64>,
    },
    /// A trusted backend, with the token of the whole server (`agent_token`).
    Server,
}

impl Principal {
    /// A name that no other principal has. It holds no secret, so a log may show it.
    pub fn name(&self) -> String {
        match self {
            Self::User { id, .. } => format!("user:{id}"),
            Self::Token { id, .. } => format!("token:{id}"),
            Self::Server => "server".into(),
        }
    }

    /// The user's id in a name from [`Principal::name`]; `None` if the principal is no user.
    pub fn user_of_name(name: &str) -> Option<Self> {
        Some(Self::User {
            id: name.strip_prefix("user:")?.to_owned(),
            expires_at: None,
        })
    }

    /// When the session or the token ends, in Unix seconds; `None` if it has no end.
    pub fn expires_at(&self) -> Option<i64> {
        match self {
            Self::User { expires_at, .. } | Self::Token { expires_at, .. } => *expires_at,
            Self::Server => None,
        }
    }
}

/// The credentials of a request. A token takes precedence over cookies.
#[derive(Clone, Default)]
pub struct Credentials {
    /// The whole `Cookie` header.
    pub cookie: Option<String>,
    /// A bearer token, from the header `Authorization` or the parameter `token`.
    pub bearer: Option<String>,
    /// The address of the client, if the relay has told it.
    pub client: Option<String>,
}

/// Shows none of them, because they are secret.
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

    /// Drops a token that is not of this server if no caller needs one: in a development without sessions, an agent
    /// with a token of another server is user `dev`, as every caller is.
    ///
    /// # Errors
    /// If a setting cannot be read.
    pub fn without_foreign_token(mut self, config: &dyn Config) -> Result<Self, UnreadableSetting> {
        if config.is_development() && sessions::origin(config)?.is_none() {
            let trusted = config.read(AGENT_TOKEN)?.unwrap_or_default();
            self.bearer = self
                .bearer
                .filter(|bearer| tokens::is_like_ours(bearer) || secrets::same(&trusted, bearer));
        }
        Ok(self)
    }

    /// Finds the principal. A cached session counts for up to `max_age` seconds.
    ///
    /// # Errors
    /// If the credentials are missing or not valid, or cannot be checked. A token that is not valid is refused, even if
    /// the cookies are.
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
