//! The client of one connection, as the parts that answer its requests know it.

use crate::edge::arrivals::Arrival;
use crate::edge::stream::Upgrading;
use std::net::IpAddr;

/// A client.
pub(crate) struct Visitor {
    /// The address at the other end of the connection: the client's own, or a proxy's.
    pub(crate) peer: IpAddr,
    /// The place of the connection.
    pub(crate) arrival: Arrival,
    /// The mark by which the connection learns that it is being upgraded.
    pub(crate) upgrading: Upgrading,
}
