//! Opens connections from several addresses of this machine, and provides enough descriptors for them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpSocket, TcpStream};

/// The address of users who have nothing to do with a storm.
pub(crate) const USERS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);

/// The address from which a storm comes.
pub(crate) const STORM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// The receive buffer of a client that does not read, in bytes: the least, so that the kernel reads little for it.
const LEAST: u32 = 4096;

/// Lets this process, and those that it starts, have as many descriptors as the system allows.
pub(crate) fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

/// Connects from an address of this machine.
pub(crate) async fn connect(from: Ipv4Addr, to: &str) -> io::Result<TcpStream> {
    socket(from)?.connect(address(to)).await
}

/// Connects from an address of this machine, with the least buffer for what the server sends.
pub(crate) async fn connect_deaf(from: Ipv4Addr, to: &str) -> io::Result<TcpStream> {
    let socket = socket(from)?;
    socket.set_recv_buffer_size(LEAST)?;
    socket.connect(address(to)).await
}

fn socket(from: Ipv4Addr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    Ok(socket)
}

fn address(to: &str) -> SocketAddr {
    to.parse().unwrap()
}
