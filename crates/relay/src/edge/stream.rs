//! The stream of a client while HTTP is spoken on it.

use crate::edge::unsent;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// A mark that says whether the next bytes to write are the answer to an upgrade, which is to go out together with the
/// first frames of the WebSocket. Shared by a stream and the part that answers upgrades.
#[derive(Clone, Default)]
pub(crate) struct Upgrading(Arc<AtomicBool>);

impl Upgrading {
    /// Makes the stream keep what is written from now on.
    pub(crate) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A stream that fails if its client takes no byte for too long, and that keeps the answer to an upgrade.
pub(crate) struct Stream {
    tcp: TcpStream,
    /// The time that the client may read nothing while there are bytes to write.
    patience: Duration,
    /// Runs while the kernel takes no bytes.
    stalled: Option<Pin<Box<Sleep>>>,
    upgrading: Upgrading,
    kept: Vec<u8>,
}

impl Stream {
    /// Takes over a connection.
    pub(crate) fn new(tcp: TcpStream, patience: Duration, upgrading: Upgrading) -> Self {
        unsent::bound(&tcp);
        Self {
            tcp,
            patience,
            stalled: None,
            upgrading,
            kept: Vec::new(),
        }
    }

    /// The connection, and the answer to its upgrade, which is yet to be written.
    pub(crate) fn into_parts(self) -> (TcpStream, Vec<u8>) {
        unsent::unbound(&self.tcp);
        (self.tcp, self.kept)
    }

    /// Writes, or keeps what is to be written.
    fn write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        write: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if self.upgrading.0.load(Ordering::Relaxed) {
            let before = self.kept.len();
            slices
                .iter()
                .for_each(|slice| self.kept.extend_from_slice(slice));
            return Poll::Ready(Ok(self.kept.len() - before));
        }
        if let Poll::Ready(written) = write(Pin::new(&mut self.tcp), cx) {
            self.stalled = None;
            return Poll::Ready(written);
        }
        let patience = self.patience;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, &[IoSlice::new(bytes)], |tcp, cx| {
            tcp.poll_write(cx, bytes)
        })
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, slices, |tcp, cx| tcp.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair(patience: Duration) -> (Stream, TcpStream, Upgrading) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let upgrading = Upgrading::default();
        (
            Stream::new(server, patience, upgrading.clone()),
            client,
            upgrading,
        )
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (mut stream, client, _) = pair(Duration::from_millis(50)).await;
        let error = stream.write_all(&vec![0; 64 << 20]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(client);
    }

    #[tokio::test]
    async fn the_answer_to_an_upgrade_is_kept() {
        let (mut stream, mut client, upgrading) = pair(Duration::from_secs(5)).await;
        stream.write_all(b"one").await.unwrap();
        upgrading.begin();
        stream.write_all(b"two").await.unwrap();
        let (tcp, kept) = stream.into_parts();
        assert_eq!(kept, b"two");
        drop(tcp);
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"one");
    }
}
