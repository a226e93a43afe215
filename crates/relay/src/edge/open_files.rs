//! The limit of open files, which bounds how many sockets the relay can hold.

use crate::edge::arrivals;
use crate::settings::Settings;

/// The open files that are reserved for everything but clients: connections to the app and to Redis, databases of a
/// host in the same process, logs.
const RESERVE: usize = 512;

/// Raises the limit as far as it may be, and returns how many connections the relay takes: what the settings ask for, or
/// what the limit leaves.
pub(crate) fn connections(settings: &Settings) -> usize {
    let wanted = arrivals::wanted(settings);
    let Some(files) = raise() else {
        tracing::info!(sockets = wanted, "the relay can hold this many sockets");
        return wanted;
    };
    // At least half of a small limit is for clients.
    let possible = files.saturating_sub(RESERVE).max(files / 2);
    let sockets = wanted.min(possible);
    if sockets < wanted {
        tracing::warn!(
            sockets,
            wanted,
            files,
            "the limit of open files allows fewer sockets than the settings do"
        );
    } else {
        tracing::info!(sockets, files, "the relay can hold this many sockets");
    }
    sockets
}

/// Raises the soft limit of open files of this process to the hard one, as far as the system lets it, and returns it;
/// `None` if there is none. A relay does this at its start; a host of a Wasm relay has to, because that one cannot.
#[cfg(unix)]
pub fn raise() -> Option<usize> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        // The system knows a lower bound of its own.
        Err(_) => limit.current,
    };
    files.and_then(|files| usize::try_from(files).ok())
}

/// Returns `None`, because WASI has no such limit, and the limit of its runtime is not known here.
#[cfg(not(unix))]
pub fn raise() -> Option<usize> {
    None
}
