//! A client of the official server, which speaks the protocol of `loro-protocol` 0.1: it has no
//! batch ids and no acknowledgements. We therefore use the protocol crate that the server
//! re-exports.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use futures_util::SinkExt;
use loro_websocket_server::protocol::bytes::BytesWriter;
use loro_websocket_server::protocol::{BatchId, CrdtType, ProtocolMessage, decode, encode};
use tokio_tungstenite::tungstenite::Message;

use crate::connection::{self, JoinOptions, Joined, Socket};

/// The longest wait for the state after a join. If the state does not fit into one message, the
/// server sends neither the state nor an error.
const STATE_WITHIN: Duration = Duration::from_secs(5);

/// The payload of one fragment, in bytes. With its envelope it stays below a message's 256 KiB.
const FRAGMENT_BYTES: usize = 200 * 1024;

/// Joins a room, and returns once the state is here.
pub(crate) async fn join(address: SocketAddr, room: &str, options: JoinOptions) -> Result<Joined> {
    let mut socket = connection::open(address, "/", options.read_buffer).await?;
    send(
        &mut socket,
        &ProtocolMessage::JoinRequest {
            crdt: CrdtType::Loro,
            room_id: room.to_owned(),
            auth: Vec::new(),
            version: Vec::new(),
        },
    )
    .await?;
    let state = async {
        loop {
            match receive(&mut socket).await? {
                ProtocolMessage::DocUpdate { updates, .. } => return Ok(updates),
                ProtocolMessage::JoinError { message, .. } => bail!("refused: {message}"),
                _ => {}
            }
        }
    };
    let updates = tokio::time::timeout(STATE_WITHIN, state)
        .await
        .context("joined, but no state came")??;
    let blobs = updates.into_iter().map(Bytes::from).collect();
    Ok(Joined { socket, blobs })
}

/// Encodes one update as a frame.
pub(crate) fn frame(room: &str, update: &[u8]) -> Result<Bytes> {
    let message = ProtocolMessage::DocUpdate {
        crdt: CrdtType::Loro,
        room_id: room.to_owned(),
        updates: vec![update.to_vec()],
    };
    Ok(encode(&message).map_err(|error| anyhow!(error))?.into())
}

/// Sends one update of any size, in fragments.
///
/// # Errors
/// If the connection ends.
pub(crate) async fn send_fragments(socket: &mut Socket, room: &str, update: &[u8]) -> Result<()> {
    let mut payload = BytesWriter::new();
    payload.push_uleb128(1);
    payload.push_var_bytes(update);
    let payload = payload.finalize();
    let (crdt, room_id, batch_id) = (CrdtType::Loro, room.to_owned(), BatchId([1; 8]));
    send(
        socket,
        &ProtocolMessage::DocUpdateFragmentHeader {
            crdt,
            room_id: room_id.clone(),
            batch_id,
            fragment_count: payload.len().div_ceil(FRAGMENT_BYTES) as u64,
            total_size_bytes: payload.len() as u64,
        },
    )
    .await?;
    for (index, fragment) in payload.chunks(FRAGMENT_BYTES).enumerate() {
        let fragment = ProtocolMessage::DocUpdateFragment {
            crdt,
            room_id: room_id.clone(),
            batch_id,
            index: index as u64,
            fragment: fragment.to_vec(),
        };
        send(socket, &fragment).await?;
    }
    Ok(())
}

async fn send(socket: &mut Socket, message: &ProtocolMessage) -> Result<()> {
    let bytes = encode(message).map_err(|error| anyhow!(error))?;
    Ok(socket.send(Message::binary(bytes)).await?)
}

async fn receive(socket: &mut Socket) -> Result<ProtocolMessage> {
    loop {
        if let Message::Binary(bytes) = connection::next(socket).await? {
            return decode(&bytes).map_err(|error| anyhow!(error));
        }
    }
}
