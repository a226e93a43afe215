//! The listening socket.

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
    pub(crate) async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }
}

/// Accepts connections on WASI. There mio's accept ends in an `fcntl` that the libc of Rust 1.95
/// does not know for sockets, so that every connection is dropped with "Invalid argument". Std
/// accepts without it; to wait, tokio takes the listening socket for a stream, whose readiness it
/// can tell.
#[cfg(target_arch = "wasm32")]
pub(crate) struct Listener(Option<std::net::TcpListener>);

#[cfg(target_arch = "wasm32")]
impl Listener {
    /// Takes over a socket that listens.
    ///
    /// # Errors
    /// When the runtime does not let go of it.
    pub(crate) fn new(listener: tokio::net::TcpListener) -> io::Result<Self> {
        let listener = listener.into_std()?;
        listener.set_nonblocking(true)?;
        Ok(Self(Some(listener)))
    }

    /// The next connection. Whoever stops waiting loses the socket: it is waited for until the
    /// relay drains, and then it is to close.
    ///
    /// # Errors
    /// When that one failed, or the system is out of descriptors.
    pub(crate) async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        use std::os::fd::OwnedFd;
        loop {
            let listener = self.0.take().ok_or(io::ErrorKind::NotConnected)?;
            match listener.accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let waiting = std::net::TcpStream::from(OwnedFd::from(listener));
                    let waiting = TcpStream::from_std(waiting)?;
                    waiting.readable().await?;
                    let ready = OwnedFd::from(waiting.into_std()?);
                    self.0 = Some(std::net::TcpListener::from(ready));
                }
                accepted => {
                    self.0 = Some(listener);
                    let (stream, client) = accepted?;
                    stream.set_nonblocking(true)?;
                    return Ok((TcpStream::from_std(stream)?, client));
                }
            }
        }
    }
}
