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
    #[error("sessions cannot be checked: {reason}")]
    Unavailable {
        /// The cause, for the log.
        reason: String,
        /// The time after which it may be tried again, in seconds.
        retry_after: i64,
    },
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
    /// A page of another site sent the request, with the cookies of a user who may not know. Names the page's origin, if
    /// it has one.
    #[error("a page of another site sent the request")]
    CrossSite(Option<String>),
    /// The caller reached the server under a name that may have been pointed at it by a stranger. Holds the address
    /// that lets the name in, if the name can be read.
    #[error("the server was reached under a name that it does not know")]
    ForeignHost(Option<String>),
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

/// The time after which sessions may be checked again, if Better Auth names none, in seconds.
const RETRY_AFTER: i64 = 2;

impl Denied {
    /// Sessions cannot be checked just now.
    pub(crate) fn unavailable(reason: &str) -> Self {
        Self::Unavailable {
            reason: reason.to_owned(),
            retry_after: RETRY_AFTER,
        }
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unauthenticated => Self::unauthenticated(),
            Denied::Unavailable {
                reason,
                retry_after,
            } => {
                tracing::warn!(reason, "sessions cannot be checked");
                Self::new(Kind::AUTH_UNAVAILABLE, "Try again in a few seconds.")
                    .with_header("retry-after", retry_after.to_string())
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
            Denied::CrossSite(origin) => Self::new(Kind::CROSS_SITE, cross_site(origin)),
            Denied::ForeignHost(address) => Self::new(Kind::FOREIGN_HOST, foreign_host(address)),
            Denied::BadProjectId => Self::bad_project_id(),
            Denied::NotConfigured(setting) => Self::not_configured(setting),
            Denied::Unreadable(error) => error.into(),
            Denied::Database(error) => error.into(),
        }
    }
}

/// Says what lets the pages of an origin in.
fn cross_site(origin: Option<String>) -> String {
    match origin {
        Some(origin) => format!(
            "Pages of {origin} may not act here. This lets them in: SPIN_VARIABLE_ALLOWED_ORIGINS={origin}"
        ),
        None => "The page that sent this request is not of an allowed origin (`allowed_origins`)."
            .into(),
    }
}

/// Says what lets callers in that reach the server under another name.
fn foreign_host(address: Option<String>) -> String {
    let why = "Without sessions, any page could reach this server by pointing a name of its own at it, so names that \
               it does not know are refused.";
    match address {
        Some(address) => {
            format!("{why} This lets yours in: SPIN_VARIABLE_ALLOWED_ORIGINS={address}")
        }
        None => why.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_was_refused_reads_what_lets_it_in() {
        let told = |denied| Problem::from(denied).detail().to_owned();
        let address = "https://app.example";
        let setting = format!("SPIN_VARIABLE_ALLOWED_ORIGINS={address}");
        for (denied, words) in [
            (Denied::CrossSite(Some(address.into())), setting.as_str()),
            (Denied::CrossSite(None), "allowed_origins"),
            (Denied::ForeignHost(Some(address.into())), &setting),
            (
                Denied::ForeignHost(None),
                "names that it does not know are refused",
            ),
        ] {
            let told = told(denied);
            assert!(told.contains(words), "{told}");
        }
    }

    #[test]
    fn sessions_that_cannot_be_checked_may_be_asked_for_again() {
        let problem = Problem::from(Denied::unavailable("a secret reason"));
        assert_eq!(problem.status(), 503);
        assert_eq!(problem.header(), Some(("retry-after", "2")));
        assert!(!problem.body().contains("a secret reason"));
    }
}
