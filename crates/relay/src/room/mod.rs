//! The rooms: their sockets, the order in which those see updates, and the permission to be there.

pub(crate) mod access;
pub(crate) mod counters;
pub(crate) mod crowd;
pub(crate) mod effects;
pub(crate) mod grant;
pub(crate) mod join;
pub(crate) mod log;
pub(crate) mod peers;
pub(crate) mod reads;
pub(crate) mod recheck;
#[allow(clippy::module_inception, reason = "the file is named after its type")]
pub(crate) mod room;
pub(crate) mod rooms;
pub(crate) mod stored;
pub(crate) mod waiting;
