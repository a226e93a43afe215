//! Who may be in a room, and for how long.
//!
//! The app judges by what a client brought to its upgrade: once before the upgrade is answered, and again
//! while the socket lives: every now and then, when its session ends, when the app tells that something has
//! changed for its project, and when an operator asks for it. What the app cannot find out changes nothing
//! for a while; then the socket is closed too.

use crate::Relay;
use crate::app::backoff::Backoff;
use crate::app::client::AppError;
use crate::edge::problem::{MEDIA_TYPE, Problem};
use crate::edge::proxy::{Body, full};
use crate::room::room::Room;
use crate::socket::socket::{Close, Socket};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use wire::{AccessCheck, Verdict};

/// How often sockets are looked over for those that are due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long to wait after the app could not find out.
const AGAIN: Duration = Duration::from_secs(3);

/// The longest that a socket is not looked at, whatever the settings say.
const LONGEST: Duration = Duration::from_secs(300);

/// How many requests about sockets are under way at once.
const AT_ONCE: usize = 4;

/// How long an upgrade waits for an app that is away.
const PATIENCE: Duration = Duration::from_secs(10);

const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What a client brought to be known by, and what that is good for.
pub(crate) struct Pass {
    check: AccessCheck,
    standing: Mutex<Standing>,
}

#[derive(Debug, Clone, Copy)]
struct Standing {
    write: bool,
    /// In Unix seconds.
    expires_at: Option<i64>,
    access_rev: u64,
    /// When the app last judged.
    judged: Instant,
    /// Not to be asked about before.
    not_before: Instant,
}

/// What wakes the task that looks sockets over.
#[derive(Default)]
pub(crate) struct Doubt {
    due: Notify,
    /// What was judged before this is in doubt.
    since: Mutex<Option<Instant>>,
}

impl Doubt {
    /// Somebody may have lost access to a room.
    pub(crate) fn raise(&self) {
        self.due.notify_one();
    }

    /// Anybody may have lost access to anything.
    pub(crate) fn raise_for_all(&self) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.due.notify_one();
    }

    fn since(&self) -> Option<Instant> {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an upgrade brings to be judged by.
pub(crate) fn check(
    project: &str,
    headers: &HeaderMap,
    token: Option<String>,
    trusted: bool,
) -> AccessCheck {
    // Whatever is in a cookie: it is passed on, not understood.
    let text = |name: HeaderName| {
        let values: Vec<_> = headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        (!values.is_empty()).then(|| values.join("; "))
    };
    let forwarded = text(FORWARDED_HOST).filter(|_| trusted);
    AccessCheck {
        project: project.to_owned(),
        cookie: text(header::COOKIE),
        authorization: text(header::AUTHORIZATION),
        token,
        origin: text(header::ORIGIN),
        host: forwarded.or_else(|| text(header::HOST)),
        again: false,
        principal: None,
    }
}

/// Asks the app whether a client may come in.
///
/// # Errors
/// With the answer to its upgrade, where it may not.
pub(crate) async fn admit(
    relay: &Relay,
    check: AccessCheck,
) -> Result<(Pass, String), Box<Response<Body>>> {
    let begun = Instant::now();
    let patience = PATIENCE.min(relay.settings.app_patience);
    let mut backoff = Backoff::app();
    let verdict = loop {
        match relay.app.access(vec![check.clone()]).await {
            Ok(verdicts) => break verdicts.into_iter().next(),
            Err(error) if begun.elapsed() >= patience || !may_pass(&error) => {
                tracing::warn!(%error, "a client could not be judged");
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
            let now = Instant::now();
            let pass = Pass {
                check: AccessCheck {
                    again: true,
                    principal: Some(principal.clone()),
                    ..check
                },
                standing: Mutex::new(Standing {
                    write,
                    expires_at,
                    access_rev,
                    judged: now,
                    not_before: now,
                }),
            };
            Ok((pass, principal))
        }
        Some(Verdict::Denied {
            status,
            problem,
            header,
            ..
        }) => Err(Box::new(refusal(status, problem, header))),
        None => Err(Box::new(Problem::app_unreachable().into())),
    }
}

/// Whether asking again may help.
fn may_pass(error: &AppError) -> bool {
    match error {
        AppError::Unreachable(_) | AppError::Timeout(_) => true,
        AppError::Status(status) => status.is_server_error(),
        AppError::Refused(_) | AppError::Garbage(_) => false,
    }
}

/// The app's own words.
fn refusal(status: u16, problem: String, header: Option<Vec<String>>) -> Response<Body> {
    let mut response = Response::new(full(problem));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    if let Some([name, value]) = header.as_deref()
        && let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value))
    {
        headers.insert(name, value);
    }
    response
}

impl Pass {
    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its holder may change the document.
    pub(crate) fn may_write(&self) -> bool {
        self.standing().write
    }

    /// Of which count of changes of who may do what it is true.
    pub(crate) fn access_rev(&self) -> u64 {
        self.standing().access_rev
    }

    fn is_due(&self, room: &Room, relay: &Relay, doubted: Option<Instant>) -> bool {
        let standing = *self.standing();
        let now = Instant::now();
        now >= standing.not_before
            && (now - standing.judged >= relay.settings.recheck_interval.min(LONGEST)
                || standing.access_rev < room.access_rev()
                || doubted.is_some_and(|doubted| standing.judged < doubted)
                || standing.expires_at.is_some_and(|end| end <= unix_seconds()))
    }

    /// Takes note of what the app says now. Gives why the socket is to be closed, if it is.
    fn judged(&self, verdict: Option<Verdict>, patience: Duration) -> Option<Close> {
        let mut standing = self.standing();
        let now = Instant::now();
        match verdict {
            Some(Verdict::Granted {
                write,
                expires_at,
                access_rev,
                ..
            }) => {
                *standing = Standing {
                    write,
                    expires_at,
                    access_rev,
                    judged: now,
                    // A room that was told of a later change than there was is not asked about all the time.
                    not_before: now + LOOK_EVERY,
                };
                None
            }
            Some(Verdict::Denied { status: 401, .. }) => Some(Close::SIGNED_OUT),
            Some(Verdict::Denied { status: 403, .. }) => Some(Close::NO_ACCESS),
            Some(Verdict::Denied { status: 404, .. }) => Some(Close::NO_PROJECT),
            unknown => {
                if let Some(Verdict::Denied {
                    write: Some(write), ..
                }) = unknown
                {
                    standing.write = write;
                }
                standing.not_before = now + AGAIN;
                (now - standing.judged >= patience).then_some(Close::UNKNOWN)
            }
        }
    }
}

fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

/// Looks at sockets again that are due, for as long as the relay runs.
pub(crate) async fn recheck(relay: Arc<Relay>) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = relay.doubt.due.notified() => {}
        }
        let doubted = relay.doubt.since();
        let mut due: Vec<(bool, Arc<Socket>)> = relay
            .rooms
            .all()
            .iter()
            .flat_map(|room| {
                let sockets = room.sockets().into_iter();
                sockets
                    .filter(|socket| socket.pass.is_due(room, &relay, doubted))
                    .map(|socket| (socket.pass.access_rev() >= room.access_rev(), socket))
                    .collect::<Vec<_>>()
            })
            .collect();
        // Those first of whose project something has changed.
        due.sort_by_key(|(unchanged, _)| *unchanged);
        let due: Vec<Arc<Socket>> = due.into_iter().map(|(_, socket)| socket).collect();
        stream::iter(due.chunks(wire::MAX_ACCESS_CHECKS))
            .for_each_concurrent(AT_ONCE, |sockets| judge(&relay, sockets))
            .await;
    }
}

async fn judge(relay: &Relay, sockets: &[Arc<Socket>]) {
    let checks = sockets.iter().map(|socket| socket.pass.check.clone());
    let mut verdicts = match relay.app.access(checks.collect()).await {
        Ok(verdicts) => verdicts.into_iter(),
        Err(error) => {
            tracing::warn!(%error, "sockets could not be judged");
            Vec::new().into_iter()
        }
    };
    for socket in sockets {
        let close = socket
            .pass
            .judged(verdicts.next(), relay.settings.recheck_patience);
        if let Some(close) = close {
            relay.metrics.closed_access_total.add(1);
            socket.close(close);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass() -> Pass {
        let now = Instant::now();
        Pass {
            check: AccessCheck::default(),
            standing: Mutex::new(Standing {
                write: true,
                expires_at: None,
                access_rev: 1,
                judged: now,
                not_before: now,
            }),
        }
    }

    fn denied(status: u16) -> Option<Verdict> {
        Some(Verdict::Denied {
            status,
            problem: String::new(),
            header: None,
            write: None,
        })
    }

    #[test]
    fn what_a_verdict_does_to_a_socket() {
        let patience = Duration::from_secs(300);
        for (verdict, code) in [
            (denied(401), Some(4401)),
            (denied(403), Some(4403)),
            (denied(404), Some(4404)),
            (denied(503), None),
            (None, None),
        ] {
            let close = pass().judged(verdict.clone(), patience);
            assert_eq!(close.map(|close| close.code), code, "{verdict:?}");
        }
        // Where that is all that is known, it is known.
        let reader = pass();
        let verdict = Some(Verdict::Denied {
            status: 503,
            problem: String::new(),
            header: None,
            write: Some(false),
        });
        assert_eq!(reader.judged(verdict, patience), None);
        assert!(!reader.may_write());
        // What cannot be found out for too long is no.
        let close = pass().judged(denied(503), Duration::ZERO);
        assert_eq!(close, Some(Close::UNKNOWN));
        let pass = pass();
        let granted = Verdict::Granted {
            principal: "user:a".into(),
            write: false,
            expires_at: Some(7),
            access_rev: 2,
        };
        assert_eq!(pass.judged(Some(granted), patience), None);
        assert!(!pass.may_write());
        assert_eq!(pass.access_rev(), 2);
    }
}
