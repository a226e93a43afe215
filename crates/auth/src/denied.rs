//! The refusals: why a caller may not do something, and the answer that they get.

use platform::{DatabaseError, UnreadableSetting};
use problem::{Kind, Problem};
use thiserror::Error;

use crate::advice::{Advice, REFUSED_PAGE};

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
    /// The project does not exist.
    #[error("there is no such project")]
    NoSuchProject,
    /// The caller is not a member of the project.
    #[error("the caller is not a member of the project")]
    Forbidden,
    /// The caller may read the project, but not change it.
    #[error("the caller may only read the project")]
    ReadOnly,
    /// The caller is not the project's owner, and only the owner may do this.
    #[error("only the owner may do this")]
    OwnerOnly,
    /// A page of another site sent the request, with the cookies of a user who may not know of it. The advice says what
    /// lets the page in, if it has an origin.
    #[error("a page of another site sent the request")]
    CrossSite(Option<Advice>),
    /// The caller reached the server under a name that may have been pointed at it by a stranger. The advice says what
    /// lets the name in, if the name can be read.
    #[error("the server was reached under a name that it does not know")]
    ForeignHost(Option<Advice>),
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
    /// Makes the refusal for sessions that cannot be checked just now.
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
            Denied::CrossSite(advice) => {
                let why = match &advice {
                    Some(advice) => format!("Pages of {} may not use this server.", advice.address),
                    None => NO_ORIGIN.into(),
                };
                refused_page(Kind::CROSS_SITE, why, advice)
            }
            Denied::ForeignHost(advice) => {
                refused_page(Kind::FOREIGN_HOST, FOREIGN_HOST.into(), advice)
            }
            Denied::BadProjectId => Self::bad_project_id(),
            Denied::NotConfigured(setting) => Self::not_configured(setting),
            Denied::Unreadable(error) => error.into(),
            Denied::Database(error) => error.into(),
        }
    }
}

/// The reason why a page without an origin is refused.
const NO_ORIGIN: &str = "The page that sent this request is not of an origin that the setting `allowed_origins` allows.";

/// The reason why names that the server does not know are refused.
const FOREIGN_HOST: &str = "Without sessions, any page could reach this server by pointing a name of its own at it, so \
                            names that it does not know are refused.";

/// The answer to a page that is refused, with the setting that lets it in.
fn refused_page(kind: Kind, why: String, advice: Option<Advice>) -> Problem {
    let (told, logged) = match advice {
        Some(advice) => (
            format!("{why} {}", advice.for_the_caller()),
            format!("{why} {}", advice.for_the_log()),
        ),
        None => (why.clone(), why),
    };
    Problem::new(kind, told).with_header(REFUSED_PAGE, logged)
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use platform::native::MapConfig;

    #[test]
    fn the_log_has_the_whole_setting_that_lets_a_refused_page_in() {
        let set = ("allowed_origins", "https://a.example , https://b.example");
        let address = "https://app.example";
        let whole =
            "SPIN_VARIABLE_ALLOWED_ORIGINS=https://a.example,https://b.example,https://app.example";
        for (settings, is_told) in [
            (vec![set], true),
            (vec![set, ("environment", "production")], false),
        ] {
            let config = MapConfig::from_pairs(&settings);
            for denied in [Denied::CrossSite, Denied::ForeignHost] {
                let problem = Problem::from(denied(Advice::to_allow(address.into(), &config)));
                let (name, logged) = problem.header().unwrap();
                assert!(name == REFUSED_PAGE && logged.ends_with(whole), "{logged}");
                assert_eq!(problem.detail().ends_with(whole), is_told, "{problem:?}");
                assert_eq!(problem.detail().contains("b.example"), is_told);
            }
        }
        let unset = MapConfig::default();
        for useless in ["", "null", "http://0.0.0.0:5173"] {
            assert_eq!(Advice::to_allow(useless.into(), &unset), None, "{useless}");
        }
        for (denied, words) in [
            (Denied::CrossSite(None), "allowed_origins"),
            (
                Denied::ForeignHost(None),
                "names that it does not know are refused",
            ),
        ] {
            let problem = Problem::from(denied);
            assert!(problem.detail().contains(words), "{problem:?}");
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
