//! A client's admission to a room: its credentials, and what the app last said about them.

use crate::socket::close::Close;
use parking_lot::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use tokio::time::Instant;
use wire::{AccessCheck, Verdict};

/// The shortest time between two checks of one socket. Without it, a room that was told an `access_rev` which the
/// project has not reached would be checked without pause.
pub(crate) const CHECK_PAUSE: Duration = Duration::from_secs(1);

/// The time to wait after the app could not judge.
const RETRY_PAUSE: Duration = Duration::from_secs(3);

/// The longest time between two checks, whatever the settings say.
const LONGEST_INTERVAL: Duration = Duration::from_secs(300);

/// The credentials of one client, with the app's newest verdict.
pub(crate) struct Pass {
    check: AccessCheck,
    standing: Mutex<Standing>,
}

#[derive(Debug, Clone, Copy)]
struct Standing {
    write: bool,
    /// The time at which the permission ends at the latest, in Unix seconds.
    expires_at: Option<i64>,
    access_rev: u64,
    /// The time of the app's newest verdict.
    judged: Instant,
    /// The next check happens no earlier.
    not_before: Instant,
}

impl Pass {
    /// Admits a client.
    pub(crate) fn new(
        check: AccessCheck,
        write: bool,
        expires_at: Option<i64>,
        access_rev: u64,
    ) -> Self {
        let now = Instant::now();
        Self {
            check,
            standing: Mutex::new(Standing {
                write,
                expires_at,
                access_rev,
                judged: now,
                not_before: now,
            }),
        }
    }

    /// The question to the app whether the client may stay.
    pub(crate) fn check(&self) -> &AccessCheck {
        &self.check
    }

    /// Returns whether the client may change the document.
    pub(crate) fn may_write(&self) -> bool {
        self.standing.lock().write
    }

    /// The project's `access_rev` at which the verdict was computed.
    pub(crate) fn access_rev(&self) -> u64 {
        self.standing.lock().access_rev
    }

    /// Returns whether the app must be asked again: the interval has passed, the session has ended, the project has a
    /// newer `access_rev`, or all verdicts before `doubted` are in doubt.
    pub(crate) fn is_due(
        &self,
        access_rev: u64,
        interval: Duration,
        doubted: Option<Instant>,
    ) -> bool {
        let standing = *self.standing.lock();
        let now = Instant::now();
        now >= standing.not_before
            && (now - standing.judged >= interval.min(LONGEST_INTERVAL)
                || standing.access_rev < access_rev
                || doubted.is_some_and(|doubted| standing.judged < doubted)
                || standing.expires_at.is_some_and(|end| end <= unix_seconds()))
    }

    /// Takes note of a verdict; `None` if the app gave none. Returns why the socket must be closed, if it must: the app
    /// denied access, or has not been able to judge for `patience`.
    pub(crate) fn judged(&self, verdict: Option<Verdict>, patience: Duration) -> Option<Close> {
        let mut standing = self.standing.lock();
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
                    not_before: now + CHECK_PAUSE,
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
                standing.not_before = now + RETRY_PAUSE;
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

/// Wakes the task that checks sockets again.
#[derive(Default)]
pub(crate) struct Doubt {
    raised: Notify,
    /// The moment before which every verdict is in doubt.
    since: Mutex<Option<Instant>>,
}

impl Doubt {
    /// Notes that the access to one project has changed.
    pub(crate) fn raise(&self) {
        self.raised.notify_one();
    }

    /// Notes that any client may have lost access to any project.
    pub(crate) fn raise_for_all(&self) {
        *self.since.lock() = Some(Instant::now());
        self.raised.notify_one();
    }

    /// Resolves after a doubt was raised.
    pub(crate) async fn raised(&self) {
        self.raised.notified().await;
    }

    /// The moment before which every verdict is in doubt.
    pub(crate) fn since(&self) -> Option<Instant> {
        *self.since.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass() -> Pass {
        Pass::new(AccessCheck::default(), true, None, 1)
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
        // A denial may still carry the role.
        let reader = pass();
        let verdict = Some(Verdict::Denied {
            status: 503,
            problem: String::new(),
            header: None,
            write: Some(false),
        });
        assert_eq!(reader.judged(verdict, patience), None);
        assert!(!reader.may_write());
        // Access that cannot be checked for too long ends.
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
