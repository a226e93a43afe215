//! A client of the official server. That speaks the protocol as of `loro-protocol` 0.1, without
//! batch ids and acknowledgements, so we take the crate that it brings with it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use futures_util::SinkExt;
use loro_websocket_server::protocol::bytes::BytesWriter;
use loro_websocket_server::protocol::{BatchId, CrdtType, ProtocolMessage, decode, encode};
use tokio_tungstenite::tungstenite::Message;

use crate::client::{self, JoinOptions, Joined, Socket};

/// How long to wait for the state after a join. The server sends none where it does not fit
/// into one message, and says nothing.
const STATE_WITHIN: Duration = Duration::from_secs(5);

/// The payload of one fragment, in bytes: below the 256 KiB of a message, with its envelope.
const FRAGMENT_BYTES: usize = 200 * 1024;

/// Joins a room: done with the state.
pub(crate) async fn join(address: SocketAddr, room: &str, options: JoinOptions) -> Result<Joined> {
    let mut socket = client::open(address, "/", options.read_buffer).await?;
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

/// The frame that carries one update.
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
/// When the connection ends.
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
        if let Message::Binary(bytes) = client::next(socket).await? {
            return decode(&bytes).map_err(|error| anyhow!(error));
        }
    }
}
