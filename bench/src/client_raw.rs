//! A client of our raw protocol.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio_tungstenite::tungstenite::Message;

use crate::connection::{self, JoinOptions, Joined, Socket};

/// The events that the server sends with `?events=1`, as far as the bench needs them.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Event {
    /// The state has been sent.
    Synced,
    /// The server has stored or refused the client's first `frames` binary frames.
    Saved {
        /// The number of these frames.
        frames: u64,
    },
    /// The server refused a frame.
    Error {
        /// The code of the reason.
        code: String,
    },
    /// An event of any other type.
    #[serde(other)]
    Other,
}

/// Reads an event. A text that is not an event becomes [`Event::Other`].
pub(crate) fn event(text: &str) -> Event {
    serde_json::from_str(text).unwrap_or(Event::Other)
}

/// Waits until the server says that this client's first `all` frames are on disk.
///
/// # Errors
/// If the server refuses a frame, or takes more than 15 s.
pub(crate) async fn saved(socket: &mut Socket, all: u64) -> Result<()> {
    let saved = async {
        loop {
            if let Message::Text(text) = connection::next(socket).await? {
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

/// Joins a room, and returns after the first blob or, with events, once the state is complete.
pub(crate) async fn join(address: SocketAddr, room: &str, options: JoinOptions) -> Result<Joined> {
    let query = if options.events { "?events=1" } else { "" };
    let path = format!("/sync/{room}{query}");
    let mut socket = connection::open(address, &path, options.read_buffer).await?;
    let mut blobs = Vec::new();
    loop {
        match connection::next(&mut socket).await? {
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
    fn events_are_read_and_other_texts_are_not() {
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
