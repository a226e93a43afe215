//! The connections to Redis servers, the broker that stands in for a server, and the calls that a guest makes.
//!
//! The manifest has no section for it: a component may call the servers in its `allowed_outbound_hosts`.

pub(crate) mod broker;
pub(crate) mod guest;
pub(crate) mod shared;

/// The port of Redis, if its address has none.
pub(crate) const PORT: u16 = 6379;
