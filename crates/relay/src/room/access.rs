//! The app's decisions about which clients may be in a room, and for how long.
//!
//! The app judges by the credentials that a client brought to its upgrade: once before the upgrade is answered, and
//! again while the socket lives: at an interval, when the session ends, when the app reports that something has changed
//! for the project, and when an operator asks for it. If the app cannot judge, the socket stays for a while and is then
//! closed, too.

use crate::app::backoff::Backoff;
use crate::app::client::App;
use crate::app::error::AppError;
use crate::room::grant::Grant;
use http::{HeaderMap, HeaderName, header};
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use wire::{AccessCheck, Verdict};

/// The time that an upgrade waits for an app that is away.
const PATIENCE: Duration = Duration::from_secs(10);

/// The header in which a proxy names the host that a client has asked for.
pub(crate) const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Collects the facts by which the app judges an upgrade.
pub(crate) fn check(
    project: &str,
    headers: &HeaderMap,
    token: Option<String>,
    client: IpAddr,
    trust_forwarded: bool,
) -> AccessCheck {
    // The app reads cookies; here they are only passed on, whatever is in them.
    let text = |name: HeaderName| {
        let values: Vec<_> = headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        (!values.is_empty()).then(|| values.join("; "))
    };
    let forwarded = text(FORWARDED_HOST).filter(|_| trust_forwarded);
    AccessCheck {
        project: project.to_owned(),
        cookie: text(header::COOKIE),
        authorization: text(header::AUTHORIZATION),
        token,
        origin: text(header::ORIGIN),
        host: forwarded.or_else(|| text(header::HOST)),
        again: false,
        principal: None,
        client: Some(client.to_string()),
    }
}

/// A client that may come in.
pub(crate) struct Admitted {
    pub(crate) grant: Grant,
    /// The user or token that the app recognized, such as `user:abc`.
    pub(crate) principal: String,
}

/// The reason why a client may not come in.
pub(crate) enum Refused {
    /// The app denied it. This is its own answer to the client.
    Denied {
        status: u16,
        problem: String,
        header: Option<Vec<String>>,
    },
    /// The app did not answer.
    Unknown,
}

/// Asks the app whether a client may come in, and asks again while the app is away, but not for longer than `patience`.
///
/// # Errors
/// If the client may not come in, or the app does not answer.
pub(crate) async fn admit(
    app: &App,
    check: AccessCheck,
    patience: Duration,
) -> Result<Admitted, Refused> {
    let begun = Instant::now();
    let patience = PATIENCE.min(patience);
    let mut backoff = Backoff::app();
    let verdict = loop {
        match app.entry(check.clone()).await {
            Ok(verdict) => break verdict,
            Err(error) if begun.elapsed() >= patience || !may_pass(&error) => {
                tracing::warn!(%error, "a client's access could not be checked");
                return Err(Refused::Unknown);
            }
            Err(_) => sleep(backoff.next()).await,
        }
    };
    match verdict {
        Verdict::Granted {
            principal,
            write,
            expires_at,
            access_rev,
        } => {
            let again = AccessCheck {
                again: true,
                principal: Some(principal.clone()),
                ..check
            };
            let grant = Grant::new(again, write, expires_at, access_rev);
            Ok(Admitted { grant, principal })
        }
        Verdict::Denied {
            status,
            problem,
            header,
            ..
        } => Err(Refused::Denied {
            status,
            problem,
            header,
        }),
    }
}

/// Returns whether the same question may get an answer later.
fn may_pass(error: &AppError) -> bool {
    match error {
        AppError::Unreachable(_) | AppError::Timeout(_) => true,
        AppError::Status(status) => status.is_server_error(),
        AppError::Refused(_) | AppError::Crowded | AppError::Garbage(_) => false,
    }
}
