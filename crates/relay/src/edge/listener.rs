//! The listening socket.

use std::io;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// A listening socket that accepts connections.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) struct Listener(tokio::net::TcpListener);

#[cfg(not(target_arch = "wasm32"))]
impl Listener {
    /// Takes over a socket that listens.
    ///
    /// # Errors
    /// None, on this platform.
    pub(crate) fn new(listener: tokio::net::TcpListener) -> io::Result<Self> {
        Ok(Self(listener))
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// If that connection failed, or the system is out of descriptors.
    pub(crate) async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }
}

/// A listening socket that accepts connections on WASI. On WASI mio's accept ends in an `fcntl` that the libc of Rust
/// 1.95 does not know for sockets, so every connection would be dropped with "Invalid argument". The standard library
/// accepts without it. To wait, the listening socket is given to tokio as if it were a stream, because tokio can wait
/// until a stream is ready.
#[cfg(target_arch = "wasm32")]
pub(crate) struct Listener(Option<std::net::TcpListener>);

#[cfg(target_arch = "wasm32")]
impl Listener {
    /// Takes over a socket that listens.
    ///
    /// # Errors
    /// If the runtime does not release it.
    pub(crate) fn new(listener: tokio::net::TcpListener) -> io::Result<Self> {
        let listener = listener.into_std()?;
        listener.set_nonblocking(true)?;
        Ok(Self(Some(listener)))
    }

    /// Waits for the next connection. A caller that stops waiting loses the socket, so it must stop only when the relay
    /// drains.
    ///
    /// # Errors
    /// If that connection failed, or the system is out of descriptors.
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
