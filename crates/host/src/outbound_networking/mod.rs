//! The addresses that a component may call, over any protocol: what the manifest allows, less what the operator blocks.

pub(crate) mod allowed_hosts;
pub(crate) mod blocked_networks;
