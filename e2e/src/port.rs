//! A port that stays reserved for a test while no server listens on it.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A free port of 127.0.0.1. While this value lives, the system gives the port to no other program, so that a
/// server can be stopped and started again at the same address.
///
/// The socket is bound and never listens. Servers, which allow the reuse of an address, can listen beside it.
pub struct Port(TcpSocket);

impl Port {
    /// Reserves a port that the system picks.
    pub fn free() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Self(socket)
    }

    /// The address with this port.
    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }
}
