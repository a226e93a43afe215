//! Outgoing WebSocket frames: encoded once, sent to many.

use bytes::{BufMut, Bytes, BytesMut};

/// Payloads up to this size are copied behind their header, so that a frame is one piece and keeps
/// nothing else alive; larger ones stay where they are.
const COPY_LIMIT: usize = 16 * 1024;

const FINAL_TEXT: u8 = 0x81;
const FINAL_BINARY: u8 = 0x82;

/// An empty ping, as it goes over the wire.
pub(crate) const PING: &[u8] = &[0x89, 0x00];

/// One unmasked, unfragmented frame (RFC 6455, section 5.2) as it goes to any number of sockets.
/// A clone costs two reference counts.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// The header, and the payload where that is small.
    pub(crate) first: Bytes,
    /// The payload where that is large, else empty.
    pub(crate) rest: Bytes,
    header: u8,
}

impl From<wire::ByteVec> for Frame {
    /// A Loro blob as the app told it.
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

    /// What the frame carries.
    pub(crate) fn payload(&self) -> &[u8] {
        if self.rest.is_empty() {
            &self.first[usize::from(self.header)..]
        } else {
            &self.rest
        }
    }

    /// The frame's bytes on the wire.
    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use tokio_tungstenite::tungstenite::protocol::frame::FrameSocket;

    /// What is written here is what a client reads.
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
