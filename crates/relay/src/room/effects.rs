//! The duties that follow from a call of a room.

use crate::socket::close::Close;
use crate::socket::socket::Socket;
use std::sync::Arc;

/// The duties after a call of a room. Each method of a room that may need something returns them, and
/// [`Rooms::act`](crate::room::rooms::Rooms::act) carries them out.
#[must_use = "a room relies on its effects being carried out: pass them to `Rooms::act`"]
#[derive(Default)]
pub(crate) struct Effects {
    /// The sockets that have something new in their queues.
    pub(crate) flush: Vec<Arc<Socket>>,
    /// The number of frames that were queued, over all sockets.
    pub(crate) frames: usize,
    /// The time at which missing updates are fetched; `None` if none are missing, or another task is fetching them.
    pub(crate) fetch: Option<Fetch>,
    /// Says whether the access to the project has changed, so its sockets must be checked again.
    pub(crate) recheck: bool,
    /// The reason why all sockets of the room must be closed, if they must.
    pub(crate) close: Option<Close>,
}

/// The time at which missing updates are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fetch {
    /// The updates are fetched at once, because they are not on their way.
    Now,
    /// The updates are fetched after the time in which they may arrive by themselves.
    IfLate,
}
