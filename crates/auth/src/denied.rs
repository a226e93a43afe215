//! Refusals: why a caller may not do something, and the answer that they get.

use platform::{DatabaseError, UnreadableSetting};
use problem::{Kind, Problem};
use thiserror::Error;

/// A refusal.
#[derive(Debug, Error)]
pub enum Denied {
    /// The request has no credentials, or none that are valid.
    #[error("the credentials are missing or not valid")]
    Unauthenticated,
    /// The credentials cannot be checked just now.
    #[error("sessions cannot be checked: {0}")]
    Unavailable(String),
    /// There is no such project.
    #[error("there is no such project")]
    NoSuchProject,
    /// The caller is not a member of the project.
    #[error("the caller is not a member of the project")]
    Forbidden,
    /// The caller may read the project, but not change it.
    #[error("the caller may only read the project")]
    ReadOnly,
    /// Only the owner may do this.
    #[error("only the owner may do this")]
    OwnerOnly,
    /// A page of another site sent the request, with the cookies of a user who may not know.
    #[error("a page of another site sent the request")]
    CrossSite,
    /// The given id cannot name a project.
    #[error("not a project id")]
    BadProjectId,
    /// A setting is missing.
    #[error("{0}")]
    NotConfigured(String),
    /// A setting cannot be read, so access that it protects stays closed.
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
