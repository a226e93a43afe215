//! The line: one HTTP request whose body and answer both stream, and carry many requests one after the other.
//!
//! The relay writes a [`LineRequest`] into the body, reads its [`LineAnswer`] from the answer, and only then
//! writes the next. Each message follows its length, four bytes with the most significant first.

use std::time::Duration;

use minicbor::{CborLen, Decode, Encode};

use crate::{ByteVec, MAX_APPEND_BYTES};

/// The longest time that a line is open: 20 s, because managed hosts end a handler after 30 s.
pub const LINE_TIME: Duration = Duration::from_secs(20);

/// The most bytes of a line in each direction: 8 MiB, because managed hosts limit bodies to 10 MB. A single
/// message may exceed it, and is then the last one.
pub const LINE_BYTES: usize = 8 * 1024 * 1024;

/// The most requests on one line.
pub const LINE_REQUESTS: usize = 4096;

/// The largest request on a line, in bytes: the largest body with 4 KiB for its envelope.
pub const MAX_LINE_REQUEST: usize = MAX_APPEND_BYTES + 4096;

/// The bytes of a length.
const PREFIX: usize = 4;

/// A request on a line.
#[derive(Debug, Clone, PartialEq, Encode, Decode, CborLen)]
pub struct LineRequest<B> {
    /// The method.
    #[n(0)]
    pub method: String,
    /// The path, with its query.
    #[n(1)]
    pub target: String,
    /// The body.
    #[n(2)]
    pub body: B,
}

/// The answer to a [`LineRequest`].
#[derive(Debug, Clone, PartialEq, Encode, Decode, CborLen)]
pub struct LineAnswer<B> {
    /// The HTTP status.
    #[n(0)]
    pub status: u16,
    /// The media type of the body; empty if the answer has none.
    #[n(1)]
    pub media_type: String,
    /// The body.
    #[n(2)]
    pub body: B,
    /// Says whether the line ends with this answer.
    #[n(3)]
    pub is_last: bool,
}

/// Encodes a message together with its length.
pub fn encode_framed<T: Encode<()> + CborLen<()>>(message: &T) -> Vec<u8> {
    let length = minicbor::len(message);
    // The length is written first, so that a message of some MiB need not be copied behind it.
    let mut framed = Vec::with_capacity(PREFIX + length);
    framed.extend_from_slice(&prefix(length));
    // Writing into a Vec cannot fail.
    let _ = minicbor::encode(message, &mut framed);
    framed
}

fn prefix(length: usize) -> [u8; PREFIX] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

impl LineAnswer<ByteVec> {
    /// Encodes the answer together with its length, in three chunks of which the second is the body, so that a body of
    /// some MiB is not copied.
    pub fn into_chunks(mut self) -> [Vec<u8>; 3] {
        let body = Vec::from(std::mem::replace(&mut self.body, Vec::new().into()));
        let mut head = encode_framed(&self);
        // The last two bytes are an empty body and `is_last`.
        let last = head.split_off(head.len().saturating_sub(1));
        head.pop();
        head.extend_from_slice(&head_of_bytes(body.len()));
        let length = head.len() + body.len() + last.len() - PREFIX;
        if let Some(first) = head.first_chunk_mut() {
            *first = prefix(length);
        }
        [head, body, last]
    }
}

/// Encodes the head of a byte string of this length (RFC 8949, section 3): its type, and the length in four bytes.
/// Every reader accepts four bytes for a short length, too.
fn head_of_bytes(length: usize) -> [u8; 5] {
    let [a, b, c, d] = prefix(length);
    [0x5a, a, b, c, d]
}

/// A message exceeds the limit of its reader.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

/// Cuts what arrives into messages.
#[derive(Debug)]
pub struct LineReader {
    limit: usize,
    /// The length of the next message, if it has arrived.
    length: Option<usize>,
    arrived: Vec<u8>,
}

impl LineReader {
    /// A reader that takes messages of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            length: None,
            arrived: Vec::new(),
        }
    }

    /// Takes the bytes that arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.arrived.extend_from_slice(bytes);
    }

    /// The next message without its length, if it has arrived whole.
    ///
    /// # Errors
    /// If it is longer than the limit. The reader is of no use after that.
    pub fn next_message(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let Some(length) = self.length()? else {
            return Ok(None);
        };
        if self.arrived.len() < length {
            // The message is not copied again and again while it grows.
            self.arrived.reserve(length - self.arrived.len());
            return Ok(None);
        }
        self.length = None;
        let rest = self.arrived.split_off(length);
        Ok(Some(std::mem::replace(&mut self.arrived, rest)))
    }

    /// Takes the length of the next message off as soon as it has arrived, because then few bytes behind it are moved.
    fn length(&mut self) -> Result<Option<usize>, TooLong> {
        if self.length.is_none()
            && let Some(prefix) = self.arrived.first_chunk::<PREFIX>()
        {
            let length = usize::try_from(u32::from_be_bytes(*prefix)).map_err(|_| TooLong)?;
            if length > self.limit {
                return Err(TooLong);
            }
            self.arrived.drain(..PREFIX);
            self.length = Some(length);
        }
        Ok(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;

    fn request(body: &[u8]) -> LineRequest<ByteVec> {
        LineRequest {
            method: "POST".into(),
            target: "/internal/append".into(),
            body: body.to_vec().into(),
        }
    }

    #[test]
    fn messages_are_cut_wherever_the_bytes_break() {
        let requests = [request(b""), request(&[7; 300]), request(b"x")];
        let bytes: Vec<u8> = requests.iter().flat_map(encode_framed).collect();
        for step in [1, 3, 4, 5, 100, bytes.len()] {
            let mut reader = LineReader::new(1000);
            let mut read: Vec<LineRequest<ByteVec>> = Vec::new();
            for chunk in bytes.chunks(step) {
                reader.push(chunk);
                while let Some(message) = reader.next_message().unwrap() {
                    read.push(decode(&message).unwrap());
                }
            }
            assert_eq!(read, requests, "{step}");
        }
    }

    #[test]
    fn the_chunks_of_an_answer_are_the_answer() {
        for length in [0, 1, 23, 24, 255, 256, 65_535, 65_536, 100_000] {
            for is_last in [false, true] {
                let answer = LineAnswer {
                    status: 200,
                    media_type: "application/cbor".into(),
                    body: vec![7; length].into(),
                    is_last,
                };
                let chunks = answer.clone().into_chunks();
                assert_eq!(chunks[1].len(), length);
                let mut reader = LineReader::new(usize::MAX);
                chunks.iter().for_each(|chunk| reader.push(chunk));
                let message = reader.next_message().unwrap().unwrap();
                assert_eq!(decode::<LineAnswer<ByteVec>>(&message).unwrap(), answer);
                assert_eq!(reader.next_message(), Ok(None));
            }
        }
    }

    #[test]
    fn a_message_ends_at_the_limit() {
        let message = encode_framed(&request(b"xyz"));
        let length = message.len() - PREFIX;
        for (limit, whole) in [
            (length, Ok(true)),
            (length - 1, Err(TooLong)),
            (0, Err(TooLong)),
        ] {
            let mut reader = LineReader::new(limit);
            reader.push(&message);
            let next = reader.next_message().map(|next| next.is_some());
            assert_eq!(next, whole, "{limit}");
        }
        let mut reader = LineReader::new(1000);
        reader.push(&u32::MAX.to_be_bytes());
        assert_eq!(reader.next_message(), Err(TooLong));
    }
}
