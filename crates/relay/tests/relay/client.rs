//! A WebSocket client for tests.

use crate::within;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

/// The most frames that a test reads before the one that it waits for.
const FRAMES: usize = 1000;

pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<TcpStream>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr, path: &str) -> Self {
        match Self::try_connect(address, path).await {
            Ok(client) => client,
            Err(error) => panic!("{path}: {error}"),
        }
    }

    pub(crate) async fn try_connect(address: SocketAddr, path: &str) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await.unwrap();
        let request = format!("ws://{address}{path}");
        let handshake = tokio_tungstenite::client_async(request, stream);
        let (socket, _) = within("the handshake", handshake).await?;
        Ok(Self { socket })
    }

    pub(crate) async fn send(&mut self, message: Message) {
        within("sending", self.socket.send(message)).await.unwrap();
    }

    pub(crate) async fn update(&mut self, payload: impl Into<Vec<u8>>) {
        self.send(Message::Binary(payload.into().into())).await;
    }

    /// Waits for the next frame that is not a ping or a pong.
    pub(crate) async fn next(&mut self) -> Option<Result<Message, Error>> {
        loop {
            match within("a frame", self.socket.next()).await {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => return other,
            }
        }
    }

    pub(crate) async fn binary(&mut self) -> Vec<u8> {
        match self.next().await {
            Some(Ok(Message::Binary(payload))) => payload.to_vec(),
            other => panic!("no binary frame but {other:?}"),
        }
    }

    pub(crate) async fn text(&mut self) -> String {
        match self.next().await {
            Some(Ok(Message::Text(text))) => text.to_string(),
            other => panic!("no text frame but {other:?}"),
        }
    }

    pub(crate) async fn event(&mut self) -> Value {
        serde_json::from_str(&self.text().await).unwrap()
    }

    /// The next frame, if it is an event.
    pub(crate) async fn event_or_blob(&mut self) -> Option<Value> {
        match self.next().await {
            Some(Ok(Message::Text(text))) => Some(serde_json::from_str(&text).unwrap()),
            Some(Ok(_)) => None,
            other => panic!("no frame but {other:?}"),
        }
    }

    /// The next event of this type.
    pub(crate) async fn next_event(&mut self, kind: &str) -> Value {
        for _ in 0..FRAMES {
            if let Some(event) = self.event_or_blob().await
                && event["type"] == kind
            {
                return event;
            }
        }
        panic!("no {kind} among {FRAMES} frames");
    }

    /// Waits until the client is notified that this many of its frames are saved.
    pub(crate) async fn saved(&mut self, frames: u64) {
        for _ in 0..FRAMES {
            if self.next_event("saved").await["frames"] == frames {
                return;
            }
        }
        panic!("never were {frames} frames saved");
    }

    /// Reads until the server closes the connection, and returns its close code.
    pub(crate) async fn close_code(&mut self) -> u16 {
        loop {
            match self.next().await {
                Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                Some(Ok(Message::Binary(_) | Message::Text(_))) => {}
                other => panic!("no close frame but {other:?}"),
            }
        }
    }
}
