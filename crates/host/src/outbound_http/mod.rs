//! The clients for outbound HTTP that all guests share, and the calls that a guest makes.
//!
//! The manifest has no section for it: a component may call the hosts in its `allowed_outbound_hosts`.

mod body;
pub(crate) mod connector;
pub(crate) mod guest;
pub(crate) mod shared;
