//! A client's WebSocket connection, which both dialects share: the same library with the same
//! settings for either server.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// A client's connection.
pub(crate) type Socket = WebSocketStream<TcpStream>;

/// The options of a join.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JoinOptions {
    /// Says whether the client asks our server for its events (`?events=1`). The official server has none.
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
    /// The state, as the server sent it.
    pub blobs: Vec<Bytes>,
}

/// Connects a WebSocket.
///
/// # Errors
/// If the server refuses.
pub(crate) async fn open(address: SocketAddr, path: &str, read_buffer: usize) -> Result<Socket> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default().read_buffer_size(read_buffer);
    let url = format!("ws://{address}{path}");
    let (socket, _) =
        tokio_tungstenite::client_async_with_config(url, stream, Some(config)).await?;
    Ok(socket)
}

/// Receives the next message.
///
/// # Errors
/// If the connection has ended.
pub(crate) async fn next(socket: &mut Socket) -> Result<Message> {
    match socket.next().await {
        Some(Ok(Message::Close(frame))) => bail!("closed by the server: {frame:?}"),
        Some(message) => message.context("receive"),
        None => bail!("the connection has ended"),
    }
}
