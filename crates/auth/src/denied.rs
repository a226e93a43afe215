//! Why somebody may not, and how clients see it.

use platform::{DatabaseError, Problem, UnreadableSetting};
use thiserror::Error;

/// Why something was refused.
#[derive(Debug, Error)]
pub enum Denied {
    /// Nobody is known by what came with the request.
    #[error("nobody is known by these credentials")]
    Unauthenticated,
    /// Whether somebody is, cannot be found out just now.
    #[error("sessions cannot be checked: {0}")]
    Unavailable(String),
    /// There is no such project.
    #[error("there is no such project")]
    NoSuchProject,
    /// It is a project of others.
    #[error("a project of others")]
    Forbidden,
    /// Who asks may read, and no more.
    #[error("may read only")]
    ReadOnly,
    /// Only the owner may do this.
    #[error("only the owner may")]
    OwnerOnly,
    /// A page of another site asked, with the cookies of somebody who does not know.
    #[error("asked by a page of another site")]
    CrossSite,
    /// What should name a project does not.
    #[error("not a project id")]
    BadProjectId,
    /// There is nothing at this address.
    #[error("no such route")]
    NoSuchRoute,
    /// The address takes other methods.
    #[error("not with this method")]
    Method(Vec<&'static str>),
    /// A setting is missing.
    #[error("{0}")]
    NotConfigured(String),
    /// A setting cannot be read, so what it protects stays shut.
    #[error(transparent)]
    Unreadable(#[from] UnreadableSetting),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unauthenticated => Self::new(
                401,
                "unauthenticated",
                "Who are you?",
                "Sign in, or send a token that is valid as a bearer token.",
            )
            .with_header("www-authenticate", "Bearer"),
            Denied::Unavailable(reason) => {
                tracing::warn!(reason, "sessions cannot be checked");
                Self::new(
                    503,
                    "auth-unavailable",
                    "Try again later",
                    "Sessions cannot be checked just now.",
                )
                .with_header("retry-after", "2")
            }
            Denied::NoSuchProject => Self::new(
                404,
                "project-not-found",
                "No such project",
                "There is no project of this id.",
            ),
            Denied::Forbidden => Self::new(
                403,
                "forbidden",
                "No access",
                "You are not a member of this project.",
            ),
            Denied::ReadOnly => Self::new(
                403,
                "read-only",
                "Read only",
                "You may read this project, but not change it.",
            ),
            Denied::OwnerOnly => Self::new(
                403,
                "owner-only",
                "Not the owner",
                "Only the owner of the project may do this.",
            ),
            Denied::CrossSite => Self::new(
                403,
                "cross-site",
                "From another site",
                "The page that asked is not of an allowed origin (`allowed_origins`).",
            ),
            Denied::BadProjectId => Self::bad_project_id(),
            Denied::NoSuchRoute => Self::not_found(),
            Denied::Method(allowed) => Self::method_not_allowed(&allowed),
            Denied::NotConfigured(setting) => Self::not_configured(&setting),
            Denied::Unreadable(error) => error.into(),
            Denied::Database(error) => error.into(),
        }
    }
}
