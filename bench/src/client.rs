//! One client path for both servers: the same WebSocket library with the same settings. Only
//! what stands in the frames differs.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::{client_official, client_raw};

/// A client's connection.
pub(crate) type Socket = WebSocketStream<TcpStream>;

/// How a client and a server speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Ours: a binary frame is a Loro blob.
    Raw,
    /// loro-protocol, in the version that the official server speaks.
    Official,
}

/// How to join.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JoinOptions {
    /// Ask our server for its events (`?events=1`). The official one has none.
    pub events: bool,
    /// The client's read buffer, in bytes.
    pub read_buffer: usize,
}

impl Default for JoinOptions {
    fn default() -> Self {
        Self {
            events: false,
            read_buffer: 32 * 1024,
        }
    }
}

/// A client that is in a room and has its state.
#[derive(Debug)]
pub(crate) struct Joined {
    /// The connection.
    pub socket: Socket,
    /// The state, as it came.
    pub blobs: Vec<Bytes>,
}

impl Dialect {
    /// Connects, joins a room and receives its state.
    ///
    /// # Errors
    /// When the server refuses, or sends no state.
    pub(crate) async fn join(
        self,
        address: SocketAddr,
        room: &str,
        options: JoinOptions,
    ) -> Result<Joined> {
        match self {
            Self::Raw => client_raw::join(address, room, options).await,
            Self::Official => client_official::join(address, room, options).await,
        }
    }

    /// The frame that carries one update.
    ///
    /// # Errors
    /// When the update is too large for a frame.
    pub(crate) fn frame(self, room: &str, update: &[u8]) -> Result<Bytes> {
        match self {
            Self::Raw => Ok(Bytes::copy_from_slice(update)),
            Self::Official => client_official::frame(room, update),
        }
    }
}

/// Connects a WebSocket.
///
/// # Errors
/// When the server refuses.
pub(crate) async fn open(address: SocketAddr, path: &str, read_buffer: usize) -> Result<Socket> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default().read_buffer_size(read_buffer);
    let url = format!("ws://{address}{path}");
    let (socket, _) =
        tokio_tungstenite::client_async_with_config(url, stream, Some(config)).await?;
    Ok(socket)
}

/// The next message.
///
/// # Errors
/// When the connection has ended.
pub(crate) async fn next(socket: &mut Socket) -> Result<Message> {
    match socket.next().await {
        Some(Ok(Message::Close(frame))) => bail!("closed by the server: {frame:?}"),
        Some(message) => message.context("receive"),
        None => bail!("the connection has ended"),
    }
}
