//! A client of our raw protocol.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{self, JoinOptions, Joined, Socket};

/// What the server tells with `?events=1`, as far as the bench needs it.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Event {
    /// The state has been sent.
    Synced,
    /// The client's first `frames` binary frames are decided.
    Saved {
        /// How many.
        frames: u64,
    },
    /// A frame was refused.
    Error {
        /// Why.
        code: String,
    },
    /// Something else.
    #[serde(other)]
    Other,
}

/// Reads an event. What is none is [`Event::Other`].
pub(crate) fn event(text: &str) -> Event {
    serde_json::from_str(text).unwrap_or(Event::Other)
}

/// Waits until the server says that this client's first `all` frames are on disk.
///
/// # Errors
/// When one is refused, or it takes more than 15 s.
pub(crate) async fn saved(socket: &mut Socket, all: u64) -> Result<()> {
    let saved = async {
        loop {
            if let Message::Text(text) = client::next(socket).await? {
                match event(&text) {
                    Event::Saved { frames } if frames >= all => return Ok(()),
                    Event::Error { code } => bail!("an update was refused: {code}"),
                    _ => {}
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(15), saved)
        .await
        .context("not saved within 15 s")?
}

/// Joins a room: done with the first blob, or, with events, when the state is complete.
pub(crate) async fn join(address: SocketAddr, room: &str, options: JoinOptions) -> Result<Joined> {
    let query = if options.events { "?events=1" } else { "" };
    let path = format!("/sync/{room}{query}");
    let mut socket = client::open(address, &path, options.read_buffer).await?;
    let mut blobs = Vec::new();
    loop {
        match client::next(&mut socket).await? {
            Message::Binary(blob) => {
                blobs.push(blob);
                if !options.events {
                    break;
                }
            }
            Message::Text(text) if matches!(event(&text), Event::Synced) => break,
            _ => {}
        }
    }
    Ok(Joined { socket, blobs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events() {
        assert!(matches!(event(r#"{"type":"synced"}"#), Event::Synced));
        assert!(matches!(
            event(r#"{"type":"saved","frames":7,"rev":9}"#),
            Event::Saved { frames: 7 }
        ));
        assert!(matches!(
            event(r#"{"type":"peers","count":2}"#),
            Event::Other
        ));
        assert!(matches!(event("pong"), Event::Other));
    }
}
