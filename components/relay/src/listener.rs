//! The listening socket.
//!
//! On `wasm32-wasip2`, mio's accept ends in an `fcntl` that the libc of Rust 1.95 does not know for
//! sockets, so that every connection is dropped with "Invalid argument". Std's accept does without
//! it, but nothing safe tells when there is something to accept; there the socket is looked at
//! every few milliseconds.

use std::io;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// Accepts connections.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) struct Listener(tokio::net::TcpListener);

#[cfg(not(target_arch = "wasm32"))]
impl Listener {
    /// Takes over a socket that listens.
    ///
    /// # Errors
    /// Never, here.
    pub(crate) fn new(listener: tokio::net::TcpListener) -> io::Result<Self> {
        Ok(Self(listener))
    }

    /// The next connection.
    ///
    /// # Errors
    /// When that one failed, or the system is out of descriptors.
    pub(crate) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }
}

/// How often the socket is looked at.
#[cfg(target_arch = "wasm32")]
const LOOK: std::time::Duration = std::time::Duration::from_millis(5);

/// Accepts connections.
#[cfg(target_arch = "wasm32")]
pub(crate) struct Listener(std::net::TcpListener);

#[cfg(target_arch = "wasm32")]
impl Listener {
    /// Takes over a socket that listens.
    ///
    /// # Errors
    /// When the runtime does not let go of it.
    pub(crate) fn new(listener: tokio::net::TcpListener) -> io::Result<Self> {
        let listener = listener.into_std()?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// The next connection.
    ///
    /// # Errors
    /// When that one failed, or the system is out of descriptors.
    pub(crate) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            match self.0.accept() {
                Ok((stream, client)) => {
                    stream.set_nonblocking(true)?;
                    return Ok((TcpStream::from_std(stream)?, client));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(LOOK).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}
