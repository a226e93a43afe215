//! The bytes that the kernel keeps for a client before it sends them.
//!
//! Without a bound the kernel takes some MiB for each client, even for one that reads nothing: a thousand downloads
//! would be copied into it at once, and hold up all others for as long as that takes. The bound concerns only what
//! isn't on its way yet, so a fast client far away is as fast as without.

use tokio::net::TcpStream;

/// The bytes for a client of plain HTTP, whose answer is at hand whenever the kernel takes more.
#[cfg(target_os = "linux")]
const OF_HTTP: u32 = 128 * 1024;

/// Bounds these bytes, as far as the system can.
#[cfg(target_os = "linux")]
pub(crate) fn bound(stream: &TcpStream) {
    set(stream, OF_HTTP);
}

/// Takes the bound away, because a WebSocket is bounded by what the relay queues for it.
#[cfg(target_os = "linux")]
pub(crate) fn unbound(stream: &TcpStream) {
    set(stream, u32::MAX);
}

#[cfg(target_os = "linux")]
fn set(stream: &TcpStream, bytes: u32) {
    if let Err(error) = socket2::SockRef::from(stream).set_tcp_notsent_lowat(bytes) {
        tracing::debug!(%error, "the buffer that the kernel has for a client cannot be bounded");
    }
}

/// Does nothing, because other systems, and WASI, have no such bound that the relay could set.
#[cfg(not(target_os = "linux"))]
pub(crate) fn bound(_stream: &TcpStream) {}

/// Does nothing, because other systems, and WASI, have no such bound that the relay could set.
#[cfg(not(target_os = "linux"))]
pub(crate) fn unbound(_stream: &TcpStream) {}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use std::io::Write;
    use tokio::net::TcpListener;

    /// Writes until the kernel takes no more, and returns how many bytes it took.
    async fn taken(is_bounded: bool) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = tokio::net::TcpSocket::new_v4().unwrap();
        client.set_recv_buffer_size(4096).unwrap();
        let address = listener.local_addr().unwrap();
        let _client = client.connect(address).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        if is_bounded {
            bound(&server);
        }
        let mut server = server.into_std().unwrap();
        let mut taken = 0;
        while let Ok(written) = server.write(&[0; 64 * 1024]) {
            taken += written;
        }
        taken
    }

    #[tokio::test]
    async fn the_kernel_takes_little_for_a_client_that_reads_nothing() {
        let (bounded, unbounded) = (taken(true).await, taken(false).await);
        assert!(bounded < 512 * 1024, "{bounded}");
        assert!(unbounded > bounded, "{unbounded} after {bounded}");
    }
}
