//! The bodies of HTTP messages.

use bytes::{Bytes, BytesMut};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use std::error::Error;

/// A body on its way, in either direction.
pub(crate) type Body = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// The size of the pieces of a large body, in bytes.
const PIECE: usize = 64 * 1024;

/// A body that is already in memory.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body that many clients get from the same memory, in pieces: the HTTP server may copy a piece, and copies the next
/// only after its client has taken it. The message must have a `Content-Length`.
pub(crate) fn shared(bytes: Bytes) -> Body {
    if bytes.len() <= PIECE {
        return full(bytes);
    }
    let mut rest = bytes;
    let pieces = std::iter::from_fn(move || {
        let length = rest.len().min(PIECE);
        (length > 0).then(|| Ok(Frame::data(rest.split_to(length))))
    });
    StreamBody::new(futures_util::stream::iter(pieces)).boxed_unsync()
}

/// Reads a whole body; `None` if it breaks off, or has more bytes than `most`.
pub(crate) async fn read_whole(mut body: Body, most: usize) -> Option<Bytes> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(piece) = frame.ok()?.into_data() {
            if whole.len() + piece.len() > most {
                return None;
            }
            whole.extend_from_slice(&piece);
        }
    }
    Some(whole.freeze())
}
