//! Why a caller may not do something, and how clients see it.

use platform::{DatabaseError, UnreadableSetting};
use problem::{Kind, Problem};
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
            Denied::Unauthenticated => Self::unauthenticated(),
            Denied::Unavailable(reason) => {
                tracing::warn!(reason, "sessions cannot be checked");
                Self::new(Kind::AUTH_UNAVAILABLE, "Try again in a few seconds.")
                    .with_header("retry-after", "2")
            }
            Denied::NoSuchProject => Self::new(Kind::PROJECT_NOT_FOUND, "No project has this id."),
            Denied::Forbidden => {
                Self::new(Kind::FORBIDDEN, "You are not a member of this project.")
            }
            Denied::ReadOnly => Self::new(
                Kind::READ_ONLY,
                "You may read this project, but not change it.",
            ),
            Denied::OwnerOnly => Self::new(
                Kind::OWNER_ONLY,
                "Only the owner of the project may do this.",
            ),
            Denied::CrossSite => Self::new(
                Kind::CROSS_SITE,
                "The page that sent this request is not of an allowed origin (`allowed_origins`).",
            ),
            Denied::BadProjectId => Self::bad_project_id(),
            Denied::NotConfigured(setting) => Self::not_configured(setting),
            Denied::Unreadable(error) => error.into(),
            Denied::Database(error) => error.into(),
        }
    }
}
