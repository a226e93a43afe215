//! The callers of requests.

use problem::{Kind, Problem};

use crate::role::Role;

/// The user of every caller in a development without sessions.
pub const DEVELOPER: &str = "dev";

/// The caller of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A user who has signed in.
    User {
        /// The user's id in Better Auth.
        id: String,
        /// The latest end of the session, in Unix seconds; `None` if there are no sessions.
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
        /// The end of the token, in Unix seconds; `None` if it never ends.
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

    /// Makes the user of a name from [`Principal::name`]; `None` if the name is not a user's.
    pub fn user_of_name(name: &str) -> Option<Self> {
        Some(Self::User {
            id: name.strip_prefix("user:")?.to_owned(),
            expires_at: None,
        })
    }

    /// The user who will own a project that this caller makes; `None` for the trusted backend, which names the owner.
    ///
    /// # Errors
    /// 403 for a token, because it is for one project.
    pub fn as_owner(&self) -> Result<Option<&str>, Problem> {
        match self {
            Self::User { id, .. } => Ok(Some(id)),
            Self::Server => Ok(None),
            Self::Token { .. } => {
                let words = "A token is for one project and cannot make another.";
                Err(Problem::new(Kind::USERS_ONLY, words))
            }
        }
    }

    /// The end of the session or of the token, in Unix seconds; `None` if it has no end.
    pub fn expires_at(&self) -> Option<i64> {
        match self {
            Self::User { expires_at, .. } | Self::Token { expires_at, .. } => *expires_at,
            Self::Server => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_belongs_to_one_principal_and_shows_its_kind() {
        let user = |id: &str, expires_at| Principal::User {
            id: id.into(),
            expires_at,
        };
        let token = |expires_at| Principal::Token {
            id: "a".into(),
            project_id: "p".into(),
            role: Role::Read,
            expires_at,
        };
        for (principal, name, end) in [
            (user("a", Some(7)), "user:a", Some(7)),
            (user("user:a", None), "user:user:a", None),
            (token(Some(9)), "token:a", Some(9)),
            (token(None), "token:a", None),
            (Principal::Server, "server", None),
        ] {
            assert_eq!(
                (principal.name().as_str(), principal.expires_at()),
                (name, end)
            );
            let read = Principal::user_of_name(name);
            let is_user = matches!(principal, Principal::User { .. });
            assert_eq!(
                read,
                is_user.then(|| user(principal.user_id(), None)),
                "{name}"
            );
        }
    }

    #[test]
    fn a_user_owns_what_they_make_and_a_token_makes_nothing() {
        let token = Principal::Token {
            id: "t".into(),
            project_id: "p".into(),
            role: Role::Owner,
            expires_at: None,
        };
        let user = Principal::User {
            id: "ada".into(),
            expires_at: None,
        };
        for (principal, expected) in [
            (user, Ok(Some("ada"))),
            (Principal::Server, Ok(None)),
            (token, Err(403)),
        ] {
            let owner = principal.as_owner().map_err(|problem| problem.status());
            assert_eq!(owner, expected, "{}", principal.name());
        }
    }
}
