//! The app's decisions about who may be in a room, and for how long.
//!
//! The app judges by the credentials that a client brought to its upgrade: once before the upgrade is answered, and
//! again while the socket lives: at an interval, when the session ends, when the app tells that something has changed
//! for the project, and when an operator asks for it. If the app cannot judge, the socket stays for a while and is then
//! closed, too.

use crate::app::backoff::Backoff;
use crate::app::client::App;
use crate::app::error::AppError;
use crate::metrics::Metrics;
use crate::room::pass::{CHECK_PAUSE, Doubt, Pass};
use crate::room::rooms::Rooms;
use crate::settings::Settings;
use crate::socket::socket::Socket;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, header};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use wire::{AccessCheck, Verdict};

/// The number of requests about sockets that are under way at once.
const AT_ONCE: usize = 4;

/// The time that an upgrade waits for an app that is away.
const PATIENCE: Duration = Duration::from_secs(10);

const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

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
    pub(crate) pass: Pass,
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
                break None;
            }
            Err(_) => sleep(backoff.next()).await,
        }
    };
    match verdict {
        Some(Verdict::Granted {
            principal,
            write,
            expires_at,
            access_rev,
        }) => {
            let again = AccessCheck {
                again: true,
                principal: Some(principal.clone()),
                ..check
            };
            let pass = Pass::new(again, write, expires_at, access_rev);
            Ok(Admitted { pass, principal })
        }
        Some(Verdict::Denied {
            status,
            problem,
            header,
            ..
        }) => Err(Refused::Denied {
            status,
            problem,
            header,
        }),
        None => Err(Refused::Unknown),
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

/// The task that checks sockets again.
pub(crate) struct Recheck {
    pub(crate) settings: Arc<Settings>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) app: Arc<App>,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) doubt: Arc<Doubt>,
}

impl Recheck {
    /// Checks sockets that are due, for as long as the relay runs.
    pub(crate) async fn run(self) {
        let mut ticks = interval(CHECK_PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.doubt.raised() => {}
            }
            let due = self.due();
            stream::iter(due.chunks(wire::MAX_ACCESS_CHECKS))
                .for_each_concurrent(AT_ONCE, |sockets| self.judge(sockets))
                .await;
        }
    }

    /// The sockets that are due. Those whose project has changed come first.
    fn due(&self) -> Vec<Arc<Socket>> {
        let doubted = self.doubt.since();
        let mut due: Vec<(bool, Arc<Socket>)> = Vec::new();
        for room in self.rooms.all() {
            let access_rev = room.access_rev();
            for socket in room.sockets() {
                let pass = &socket.pass;
                if pass.is_due(access_rev, self.settings.recheck_interval, doubted) {
                    due.push((pass.access_rev() >= access_rev, socket));
                }
            }
        }
        due.sort_by_key(|(is_unchanged, _)| *is_unchanged);
        due.into_iter().map(|(_, socket)| socket).collect()
    }

    async fn judge(&self, sockets: &[Arc<Socket>]) {
        let checks = sockets.iter().map(|socket| socket.pass.check().clone());
        let mut verdicts = match self.app.access(checks.collect()).await {
            Ok(verdicts) => verdicts.into_iter(),
            Err(error) => {
                tracing::warn!(%error, "the access of sockets could not be checked");
                Vec::new().into_iter()
            }
        };
        for socket in sockets {
            let patience = self.settings.recheck_patience;
            if let Some(close) = socket.pass.judged(verdicts.next(), patience) {
                self.metrics.closed_access_total.add(1);
                socket.close(close);
            }
        }
    }
}
