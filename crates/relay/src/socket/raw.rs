//! The raw protocol (`GET /sync/{project}`): its query and its text frames.
//!
//! Binary frames are Loro blobs in both directions. Text frames from the server are JSON: every client gets errors, and
//! a client that asked for events with `?events=1` gets the others too.

use crate::room::reads;
use crate::socket::frame::{Frame, Outbound};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::json;
use std::slice;

/// The query of an upgrade request.
#[derive(Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(crate) struct Query {
    /// `?version=`: what the client already has.
    pub(crate) version: Announced,
    /// `?events=1`.
    pub(crate) events: bool,
    /// `?token=`: a bearer token, from a client that cannot set a header. It must never be logged.
    pub(crate) token: Option<String>,
}

/// The ways in which a client announces the version of the document that it already has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Announced {
    /// The version is in the URL, as an encoded Loro version vector; `None` if the client has nothing.
    Here(Option<Bytes>),
    /// The version is in the first binary frame, because a version with many peers is too long for a URL.
    InFrame,
}

impl Default for Announced {
    fn default() -> Self {
        Self::Here(None)
    }
}

impl Query {
    /// Reads the query and skips parameters that are not the relay's.
    ///
    /// # Errors
    /// A sentence for the client if the version is not base64url.
    pub(crate) fn parse(query: &str) -> Result<Self, String> {
        let mut parsed = Self {
            token: token(query),
            ..Self::default()
        };
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                // It is not base64url, so it cannot be a version.
                "version" if value == "frame" => parsed.version = Announced::InFrame,
                "version" if !value.is_empty() => {
                    let value = value.replace("%3D", "").replace("%3d", "");
                    let version = URL_SAFE_NO_PAD
                        .decode(value.trim_end_matches('='))
                        .map_err(|_| "`version` is not base64url.".to_owned())?;
                    parsed.version = Announced::Here(reads::version(version.into()));
                }
                "events" => parsed.events = value == "1",
                _ => {}
            }
        }
        Ok(parsed)
    }
}

/// Reads the bearer token of a query.
pub(crate) fn token(query: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let (_, token) = pairs.find(|(name, _)| name == "token")?;
    (!token.is_empty()).then(|| token.into_owned())
}

/// A text frame from the server.
pub(crate) struct Event(Frame);

impl Outbound for Event {
    fn frames(&self) -> &[Frame] {
        slice::from_ref(&self.0)
    }
}

/// Makes the answer to the text `ping`.
pub(crate) fn pong() -> Event {
    Event(Frame::text("pong"))
}

/// Makes the event that a client's frame was refused. `frame` counts the connection's binary frames from 1.
pub(crate) fn error(code: &str, message: &str, frame: Option<u64>) -> Event {
    let mut event = json!({"type": "error", "code": code, "message": message});
    if let (Some(frame), Some(event)) = (frame, event.as_object_mut()) {
        event.insert("frame".into(), frame.into());
    }
    json_event(&event)
}

/// Makes the event that this many updates of the document cannot be applied.
pub(crate) fn quarantined(updates: u64) -> Event {
    let what = match updates {
        1 => "An update of this document cannot be applied and was".to_owned(),
        updates => format!("{updates} updates of this document cannot be applied and were"),
    };
    let words =
        format!("{what} moved aside. The project's owner can look at it, restore it or delete it.");
    error("quarantined", &words, None)
}

/// Makes the event that announces the state, which follows.
pub(crate) fn joined(rev: u64, version: &[u8]) -> Event {
    let version = URL_SAFE_NO_PAD.encode(version);
    json_event(&json!({"type": "joined", "rev": rev, "version": version}))
}

/// Makes the event that the state is complete.
pub(crate) fn synced() -> Event {
    Event(Frame::text(r#"{"type":"synced"}"#))
}

/// Makes the event that the connection's first `frames` binary frames are decided. `rev` is the newest rev among those
/// that were stored since the last such event, 0 if there is none.
pub(crate) fn saved(frames: u64, rev: u64) -> Event {
    json_event(&json!({"type": "saved", "frames": frames, "rev": rev}))
}

/// Makes the event that names the connection's updates, each by the number of its frame, that are stored but wait for an
/// operation that the server lacks.
pub(crate) fn pending(updates: &[(u64, wire::Waiting)]) -> Event {
    let updates = updates.iter().map(|(frame, waiting)| {
        // The peer id is text, because a number of JavaScript does not hold every one.
        let missing = json!({"peer": waiting.peer.to_string(), "counter": waiting.counter});
        json!({"frame": frame, "waits_for": missing})
    });
    let updates: Vec<_> = updates.collect();
    json_event(&json!({"type": "pending", "updates": updates}))
}

/// Makes the event that says how many sockets are in the room, over all relays.
pub(crate) fn peers(count: u64) -> Event {
    json_event(&json!({"type": "peers", "count": count}))
}

fn json_event(event: &serde_json::Value) -> Event {
    Event(Frame::text(&event.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let of = |version: Option<&'static [u8]>, events| Query {
            version: Announced::Here(version.map(Bytes::from_static)),
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
            ("version=AA", Some(of(None, false))),
            (
                "version=frame&events=1",
                Some(Query {
                    version: Announced::InFrame,
                    events: true,
                    token: None,
                }),
            ),
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
        for (event, expected) in [
            (
                error("invalid_update", "no \"Loro\"", Some(3)),
                r#"{"code":"invalid_update","frame":3,"message":"no \"Loro\"","type":"error"}"#,
            ),
            (
                joined(7, &[1, 2, 3]),
                r#"{"rev":7,"type":"joined","version":"AQID"}"#,
            ),
            (saved(2, 9), r#"{"frames":2,"rev":9,"type":"saved"}"#),
            (
                pending(&[(
                    3,
                    wire::Waiting {
                        rev: 9,
                        peer: u64::MAX,
                        counter: 17,
                    },
                )]),
                r#"{"type":"pending","updates":[{"frame":3,"waits_for":{"counter":17,"peer":"18446744073709551615"}}]}"#,
            ),
            (peers(4), r#"{"count":4,"type":"peers"}"#),
        ] {
            assert_eq!(std::str::from_utf8(event.0.payload()).unwrap(), expected);
        }
    }
}
