//! Outbound HTTP: the client that all guests share, and the calls that a guest makes.
//!
//! The manifest has nothing of its own for it: a component may call the hosts in its `allowed_outbound_hosts`.

mod body;
pub(crate) mod connector;
pub(crate) mod guest;
pub(crate) mod shared;
