//! The stream of a WebSocket as tungstenite sees it.

use crate::socket::socket::Socket;
use bytes::Bytes;
use std::io::{self, Read, Write};
use tokio::net::tcp::OwnedReadHalf;

/// Reads from the stream, and writes to the end of the socket's queue. tungstenite writes whole frames, each in one
/// call.
pub(crate) struct Pipe<'a> {
    stream: &'a OwnedReadHalf,
    socket: &'a Socket,
    /// The number of bytes that were read.
    pub(crate) read: usize,
}

impl<'a> Pipe<'a> {
    /// Joins the two halves of a connection.
    pub(crate) fn new(stream: &'a OwnedReadHalf, socket: &'a Socket) -> Self {
        Self {
            stream,
            socket,
            read: 0,
        }
    }
}

impl Read for Pipe<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.try_read(buffer)?;
        self.read += read;
        Ok(read)
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.push_control(Bytes::copy_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
