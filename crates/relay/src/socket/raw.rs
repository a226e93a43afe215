//! What is particular to the raw protocol (`GET /sync/{project}`): its query and its text frames.
//!
//! Binary frames are Loro blobs, both ways. Text frames from the server are JSON: errors always,
//! the other events for clients that asked for them with `?events=1`.

use crate::socket::frame::Frame;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

/// What a client may say in its query.
#[derive(Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(crate) struct Query {
    /// `?version=`: what the client already has, as an encoded Loro version vector.
    pub(crate) version: Option<Vec<u8>>,
    /// `?events=1`.
    pub(crate) events: bool,
    /// `?token=`: a bearer token, from clients that cannot set a header. Never to be logged.
    pub(crate) token: Option<String>,
}

impl Query {
    /// Reads the query of an upgrade request. Parameters of others are skipped.
    ///
    /// # Errors
    /// With words for the client, when the version is not base64url.
    pub(crate) fn parse(query: &str) -> Result<Self, String> {
        let mut parsed = Self {
            token: token(query),
            ..Self::default()
        };
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "version" if !value.is_empty() => {
                    let value = value.replace("%3D", "").replace("%3d", "");
                    let version = URL_SAFE_NO_PAD
                        .decode(value.trim_end_matches('='))
                        .map_err(|_| "version is not base64url".to_owned())?;
                    parsed.version = Some(version);
                }
                "events" => parsed.events = value == "1",
                _ => {}
            }
        }
        Ok(parsed)
    }
}

/// The bearer token of a query, from clients that cannot set a header.
pub(crate) fn token(query: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let (_, token) = pairs.find(|(name, _)| name == "token")?;
    (!token.is_empty()).then(|| token.into_owned())
}

/// A frame was refused, or made no sense. `frame` counts the connection's binary frames from 1.
pub(crate) fn error(code: &str, message: &str, frame: Option<u64>) -> Frame {
    let mut event = json!({"type": "error", "code": code, "message": message});
    if let (Some(frame), Some(event)) = (frame, event.as_object_mut()) {
        event.insert("frame".into(), frame.into());
    }
    Frame::text(&event.to_string())
}

/// The state follows.
pub(crate) fn joined(rev: u64, version: &[u8]) -> Frame {
    let version = URL_SAFE_NO_PAD.encode(version);
    Frame::text(&json!({"type": "joined", "rev": rev, "version": version}).to_string())
}

/// That was the state.
pub(crate) fn synced() -> Frame {
    Frame::text(r#"{"type":"synced"}"#)
}

/// All binary frames of the connection up to the `frames`-th are decided; `rev` is the newest of
/// those that were stored just now, 0 if none was.
pub(crate) fn saved(frames: u64, rev: u64) -> Frame {
    Frame::text(&json!({"type": "saved", "frames": frames, "rev": rev}).to_string())
}

/// So many sockets are in the room, over all relays.
pub(crate) fn peers(count: u64) -> Frame {
    Frame::text(&json!({"type": "peers", "count": count}).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let of = |version: Option<&[u8]>, events| Query {
            version: version.map(<[u8]>::to_vec),
            events,
            token: None,
        };
        for (query, expected) in [
            ("", Some(of(None, false))),
            ("events=1", Some(of(None, true))),
            ("events=0&x=y", Some(of(None, false))),
            ("version=AQID&events=1", Some(of(Some(&[1, 2, 3]), true))),
            ("version=AQ%3D%3D", Some(of(Some(&[1]), false))),
            ("version=", Some(of(None, false))),
            ("version=*", None),
            ("version=A+/B", None),
            (
                "token=lst%5Fa_b",
                Some(Query {
                    token: Some("lst_a_b".into()),
                    ..Query::default()
                }),
            ),
        ] {
            assert_eq!(Query::parse(query).ok(), expected, "{query}");
        }
    }

    #[test]
    fn text_frames() {
        for (frame, expected) in [
            (
                error("invalid_update", "no \"Loro\"", Some(3)),
                r#"{"code":"invalid_update","frame":3,"message":"no \"Loro\"","type":"error"}"#,
            ),
            (
                joined(7, &[1, 2, 3]),
                r#"{"rev":7,"type":"joined","version":"AQID"}"#,
            ),
            (saved(2, 9), r#"{"frames":2,"rev":9,"type":"saved"}"#),
            (peers(4), r#"{"count":4,"type":"peers"}"#),
        ] {
            assert_eq!(std::str::from_utf8(frame.payload()).unwrap(), expected);
        }
    }
}
