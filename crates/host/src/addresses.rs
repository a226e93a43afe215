//! The addresses that the host listens on, taken before anything else starts.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Result, anyhow};
use tokio::net::{TcpListener, TcpSocket};

use crate::relay::RelayKind;

/// The relay's public address.
pub(crate) enum Public {
    /// The listening socket, for a relay in this process.
    Listens(TcpListener),
    /// A socket that keeps the port until a relay that listens by itself has taken it over. Without that socket, the
    /// system may give the port to any connection that is made while the components are compiled.
    Reserved(TcpSocket),
    /// The address is not used, because no relay runs.
    None,
}

impl Public {
    /// Takes `address` for the relay.
    pub(crate) async fn open(relay: RelayKind, address: SocketAddr) -> Result<Self> {
        match relay {
            RelayKind::Native => Ok(Self::Listens(listen(address).await?)),
            RelayKind::Wasm => reserve(address)
                .map(Self::Reserved)
                .map_err(|error| cannot_listen(address, &error)),
            RelayKind::None => Ok(Self::None),
        }
    }

    /// The address, with the port that the system picked; `None` without a relay.
    pub(crate) fn address(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Listens(listener) => listener.local_addr().map(Some),
            Self::Reserved(socket) => socket.local_addr().map(Some),
            Self::None => Ok(None),
        }
    }
}

/// The address at which a client on this machine reaches a server that listens on `address`: an unspecified one
/// (`0.0.0.0`) means all networks, and a client cannot connect to it.
pub(crate) fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// Takes a port without listening. Another socket may listen there only if it allows the address's reuse, as servers
/// do and the system's own choice of a port does not.
fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Listens on `address`; port 0 lets the system pick one.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| cannot_listen(address, &error))
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            anyhow!("{address} is taken: another program listens there")
        }
        _ => anyhow!("cannot listen on {address}: {error}"),
    }
}
