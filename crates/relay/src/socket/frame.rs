//! The outgoing WebSocket frames: each is encoded once and sent to many sockets.

use bytes::{BufMut, Bytes, BytesMut};

/// A payload up to this size, in bytes, is copied behind its header, so that the frame is one piece and keeps nothing
/// else alive. A larger one is not copied.
const COPY_LIMIT: usize = 16 * 1024;

const FINAL_TEXT: u8 = 0x81;
const FINAL_BINARY: u8 = 0x82;

/// An empty ping, as it goes over the wire.
pub(crate) const PING: &[u8] = &[0x89, 0x00];

/// An unmasked, unfragmented frame (RFC 6455, section 5.2). A clone costs two reference counts.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// The header, and the payload if it is small.
    pub(crate) first: Bytes,
    /// The payload if it is large, else empty.
    pub(crate) rest: Bytes,
    header: u8,
}

/// An item that a socket's queue takes: an event of the protocol, or something that the app has on disk. Only the two
/// files that make those implement it, so a frame that came from a client cannot go to another one before it is stored.
pub(crate) trait Outbound {
    /// The frames of the item, in their order.
    fn frames(&self) -> &[Frame];
}

impl From<wire::ByteVec> for Frame {
    /// Encodes a Loro blob from the app.
    fn from(blob: wire::ByteVec) -> Self {
        Self::binary(Vec::from(blob).into())
    }
}

impl Frame {
    /// A binary frame.
    pub(crate) fn binary(payload: Bytes) -> Self {
        Self::new(FINAL_BINARY, payload)
    }

    /// A text frame.
    pub(crate) fn text(text: &str) -> Self {
        Self::new(FINAL_TEXT, Bytes::copy_from_slice(text.as_bytes()))
    }

    fn new(opcode: u8, payload: Bytes) -> Self {
        let mut first = BytesMut::with_capacity(
            10 + if payload.len() <= COPY_LIMIT {
                payload.len()
            } else {
                0
            },
        );
        first.put_u8(opcode);
        match payload.len() {
            length @ 0..=125 => first.put_u8(length as u8),
            length @ 126..=0xffff => {
                first.put_u8(126);
                first.put_u16(length as u16);
            }
            length => {
                first.put_u8(127);
                first.put_u64(length as u64);
            }
        }
        let header = first.len() as u8;
        let rest = if payload.len() <= COPY_LIMIT {
            first.put_slice(&payload);
            Bytes::new()
        } else {
            payload
        };
        Self {
            first: first.freeze(),
            rest,
            header,
        }
    }

    /// The bytes that the frame carries.
    pub(crate) fn payload(&self) -> &[u8] {
        if self.rest.is_empty() {
            &self.first[usize::from(self.header)..]
        } else {
            &self.rest
        }
    }

    /// The number of bytes that the frame has on the wire.
    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use tokio_tungstenite::tungstenite::protocol::frame::FrameSocket;

    /// A client reads what was written here.
    #[test]
    fn frames_read_back() {
        for length in [
            0,
            1,
            125,
            126,
            0xffff,
            0x1_0000,
            COPY_LIMIT,
            COPY_LIMIT + 1,
            300_000,
        ] {
            let payload: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let frame = Frame::binary(payload.clone().into());
            assert_eq!(frame.payload(), payload, "{length}");
            let wire = [&frame.first[..], &frame.rest].concat();
            assert_eq!(wire.len(), frame.len());
            let read = FrameSocket::new(Cursor::new(wire))
                .read(None)
                .unwrap()
                .unwrap();
            assert!(read.header().is_final);
            assert_eq!(read.into_payload(), payload, "{length}");
        }
        let text = Frame::text("ä");
        assert_eq!(&text.first[..], [0x81, 2, 0xc3, 0xa4]);
    }
}
