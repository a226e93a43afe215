//! Rooms: which sockets are in them, what those see in which order, and who may be there.

pub(crate) mod access;
pub(crate) mod join;
pub(crate) mod peers;
#[allow(clippy::module_inception, reason = "the file is named after its type")]
pub(crate) mod room;
pub(crate) mod rooms;
