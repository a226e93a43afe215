//! The encoding of all messages.

use minicbor::{CborLen, Decode, Encode};

pub use minicbor::bytes::{ByteSlice, ByteVec};

/// The media type of every message.
pub const CONTENT_TYPE: &str = "application/cbor";

/// A body that is not the expected message.
#[derive(Debug)]
pub struct DecodeError(minicbor::decode::Error);

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not the expected CBOR: {}", self.0)
    }
}

impl std::error::Error for DecodeError {}

/// Encodes a message.
pub fn encode<T: Encode<()> + CborLen<()>>(message: &T) -> Vec<u8> {
    // The exact capacity keeps a state of some MiB from being copied each time that the buffer grows.
    let mut out = Vec::with_capacity(minicbor::len(message));
    // Writing into a Vec cannot fail.
    let _ = minicbor::encode(message, &mut out);
    out
}

/// Decodes a message.
///
/// # Errors
/// If the bytes are not CBOR, or not this message.
pub fn decode<'b, T: Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, DecodeError> {
    minicbor::decode(bytes).map_err(DecodeError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AppendRequest, Heads, Notice, Outcome, Update};

    #[test]
    fn messages_survive_the_wire() {
        let request = AppendRequest {
            origin: "relay".into(),
            updates: vec![Update {
                project: "p".into(),
                payload: vec![1, 2, 3].into(),
                serial: None,
            }],
            defers: None,
        };
        assert_eq!(decode::<AppendRequest>(&encode(&request)).unwrap(), request);
        let notice = Notice::Updates {
            origin: "relay".into(),
            first_rev: 7,
            last_rev: 8,
            payloads: vec![vec![9].into(), vec![].into()],
        };
        assert_eq!(decode::<Notice>(&encode(&notice)).unwrap(), notice);
    }

    #[test]
    fn nonsense_is_an_error() {
        for bytes in [&b""[..], b"\xff", b"hello", &[0x82, 0x00]] {
            let error = decode::<AppendRequest>(bytes).unwrap_err();
            assert!(error.to_string().contains("CBOR"), "{error}");
        }
    }

    /// An outcome of an earlier release has fewer fields.
    #[test]
    fn a_missing_optional_field_is_none() {
        #[derive(Encode, CborLen)]
        enum Earlier {
            #[n(0)]
            Stored {
                #[n(0)]
                rev: u64,
            },
            #[n(1)]
            Refused {
                #[n(0)]
                reason: String,
            },
        }
        let stored = decode(&encode(&Earlier::Stored { rev: 3 })).unwrap();
        let expected = Outcome::Stored {
            rev: 3,
            waits: None,
        };
        assert_eq!(expected, stored);
        let reason = "no".to_owned();
        let refused = decode(&encode(&Earlier::Refused {
            reason: reason.clone(),
        }));
        let expected = Outcome::Refused { reason, code: None };
        assert_eq!(expected, refused.unwrap());
    }

    /// A field that a later release adds is skipped by this one.
    #[test]
    fn an_unknown_field_is_skipped() {
        #[derive(Encode, CborLen)]
        struct Later {
            #[n(0)]
            revs: Vec<u64>,
            #[n(7)]
            more: String,
        }
        let later = Later {
            revs: vec![3],
            more: "new".into(),
        };
        assert_eq!(decode::<Heads>(&encode(&later)).unwrap().revs, [3]);
    }
}
