//! A client's admission to a room: its credentials, and what the app last said about them.

use crate::socket::close::Close;
use parking_lot::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use wire::{AccessCheck, Verdict};

/// The shortest time between two checks of one socket. Without it, a room that received an `access_rev` which the
/// project has not reached would be checked without pause.
pub(crate) const CHECK_PAUSE: Duration = Duration::from_secs(1);

/// The time to wait after the app could not judge.
const RETRY_PAUSE: Duration = Duration::from_secs(3);

/// The longest time between two checks, whatever the settings say.
const LONGEST_INTERVAL: Duration = Duration::from_secs(300);

/// The credentials of one client, with the app's newest verdict.
pub(crate) struct Grant {
    check: AccessCheck,
    permission: Mutex<Permission>,
}

/// The newest verdict, and the time from which the app may be asked again.
#[derive(Debug, Clone, Copy)]
struct Permission {
    write: bool,
    /// The time at which the permission ends at the latest, in Unix seconds.
    expires_at: Option<i64>,
    access_rev: u64,
    /// The time of the app's newest verdict.
    judged: Instant,
    /// The next check happens no earlier.
    not_before: Instant,
}

impl Grant {
    /// A grant to a client that the app has admitted.
    pub(crate) fn new(
        check: AccessCheck,
        write: bool,
        expires_at: Option<i64>,
        access_rev: u64,
    ) -> Self {
        let now = Instant::now();
        Self {
            check,
            permission: Mutex::new(Permission {
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
        self.permission.lock().write
    }

    /// The project's `access_rev` at which the verdict was computed.
    pub(crate) fn access_rev(&self) -> u64 {
        self.permission.lock().access_rev
    }

    /// Returns whether the app must be asked again: the interval has passed, the session has ended, the project has a
    /// newer `access_rev`, or all verdicts before `doubted` are in doubt.
    pub(crate) fn is_due(
        &self,
        access_rev: u64,
        interval: Duration,
        doubted: Option<Instant>,
    ) -> bool {
        let permission = *self.permission.lock();
        let now = Instant::now();
        now >= permission.not_before
            && (now - permission.judged >= interval.min(LONGEST_INTERVAL)
                || permission.access_rev < access_rev
                || doubted.is_some_and(|doubted| permission.judged < doubted)
                || permission
                    .expires_at
                    .is_some_and(|end| end <= unix_seconds()))
    }

    /// Takes note of a verdict; `None` if the app gave none. Returns why the socket must be closed, if it must: the app
    /// denied access, or has not been able to judge for `patience`.
    pub(crate) fn judged(&self, verdict: Option<Verdict>, patience: Duration) -> Option<Close> {
        let mut permission = self.permission.lock();
        let now = Instant::now();
        match verdict {
            Some(Verdict::Granted {
                write,
                expires_at,
                access_rev,
                ..
            }) => {
                *permission = Permission {
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
                    permission.write = write;
                }
                permission.not_before = now + RETRY_PAUSE;
                (now - permission.judged >= patience).then_some(Close::UNKNOWN)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> Grant {
        Grant::new(AccessCheck::default(), true, None, 1)
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
            let close = grant().judged(verdict.clone(), patience);
            assert_eq!(close.map(|close| close.code), code, "{verdict:?}");
        }
        // A denial may still carry the role.
        let reader = grant();
        let verdict = Some(Verdict::Denied {
            status: 503,
            problem: String::new(),
            header: None,
            write: Some(false),
        });
        assert_eq!(reader.judged(verdict, patience), None);
        assert!(!reader.may_write());
        // Access that cannot be checked for too long ends.
        let close = grant().judged(denied(503), Duration::ZERO);
        assert_eq!(close, Some(Close::UNKNOWN));
        let grant = grant();
        let granted = Verdict::Granted {
            principal: "user:a".into(),
            write: false,
            expires_at: Some(7),
            access_rev: 2,
        };
        assert_eq!(grant.judged(Some(granted), patience), None);
        assert!(!grant.may_write());
        assert_eq!(grant.access_rev(), 2);
    }
}
