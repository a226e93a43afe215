//! A client of the raw protocol, with its own document.

use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::HeaderName;
use loro::{ExportMode, LoroDoc, VersionVector};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::wait::{soon, until};

type Socket = WebSocketStream<TcpStream>;

/// A received frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// A Loro blob.
    Blob(Bytes),
    /// An event.
    Event(Value),
    /// A text frame that is not JSON, such as `pong`.
    Text(String),
}

/// The way in which a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// A close frame with this code; 1005 if the frame had none.
    Code(u16),
    /// The loss of the connection, without a close frame.
    Lost,
}

#[derive(Default)]
struct Seen {
    heard: Vec<Heard>,
    /// The error of the last blob that could not be imported.
    failed: Option<String>,
    closed: Option<Closed>,
}

/// A connected client. Dropping it cuts the connection.
pub struct Client {
    doc: Arc<Mutex<LoroDoc>>,
    seen: Arc<Mutex<Seen>>,
    sink: tokio::sync::Mutex<SplitSink<Socket, Message>>,
    reader: JoinHandle<()>,
}

/// Opens a WebSocket, and reads nothing. `path` may have a query.
///
/// # Errors
/// If the server is away, or refuses the upgrade.
pub async fn open(address: &str, path: &str) -> Result<Socket, Error> {
    open_with(address, path, &[]).await
}

/// Opens a WebSocket with headers, such as cookies.
///
/// # Errors
/// If the server is away, or refuses the upgrade.
pub async fn open_with(
    address: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Socket, Error> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    upgrade(stream, address, path, headers).await
}

/// Opens a WebSocket on a connected stream.
///
/// # Errors
/// If the server refuses the upgrade.
pub async fn open_on(stream: TcpStream, address: &str, path: &str) -> Result<Socket, Error> {
    upgrade(stream, address, path, &[]).await
}

async fn upgrade(
    stream: TcpStream,
    address: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Socket, Error> {
    let config = WebSocketConfig::default()
        .max_frame_size(None)
        .max_message_size(None);
    let mut request = format!("ws://{address}{path}").into_client_request()?;
    for (name, value) in headers {
        let name = name.parse::<HeaderName>().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let opening = tokio_tungstenite::client_async_with_config(request, stream, Some(config));
    Ok(soon("the upgrade", opening).await?.0)
}

impl Client {
    /// Joins a room with an empty document and without events.
    pub async fn join(address: &str, project: &str) -> Self {
        Self::connect(address, &format!("/sync/{project}"), LoroDoc::new()).await
    }

    /// Joins a room with events (`?events=1`), with an empty document.
    pub async fn join_with_events(address: &str, project: &str) -> Self {
        Self::connect(
            address,
            &format!("/sync/{project}?events=1"),
            LoroDoc::new(),
        )
        .await
    }

    /// Joins a room again with events and a document. The server sends the updates that the document lacks, and the
    /// client then sends those that the server lacks.
    pub async fn rejoin(address: &str, project: &str, doc: LoroDoc) -> Self {
        let version = URL_SAFE_NO_PAD.encode(doc.oplog_vv().encode());
        let path = format!("/sync/{project}?events=1&version={version}");
        let client = Self::connect(address, &path, doc).await;
        let joined = client.event("joined").await;
        let server = URL_SAFE_NO_PAD
            .decode(joined["version"].as_str().unwrap())
            .unwrap();
        let server = VersionVector::decode(&server).unwrap();
        let missing = {
            let doc = client.doc();
            (!server.includes_vv(&doc.oplog_vv()))
                .then(|| doc.export(ExportMode::updates(&server)).unwrap())
        };
        if let Some(missing) = missing {
            client.send(missing).await;
        }
        client
    }

    /// Joins at any path and query with a document.
    pub async fn connect(address: &str, path: &str, doc: LoroDoc) -> Self {
        Self::connect_with(address, path, &[], doc).await
    }

    /// Joins at any path and query with headers, such as cookies.
    pub async fn connect_with(
        address: &str,
        path: &str,
        headers: &[(&str, &str)],
        doc: LoroDoc,
    ) -> Self {
        let socket = open_with(address, path, headers)
            .await
            .unwrap_or_else(|error| panic!("the upgrade of {address}{path} failed: {error}"));
        let (sink, stream) = socket.split();
        let doc = Arc::new(Mutex::new(doc));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let reader = tokio::spawn(read(stream, doc.clone(), seen.clone()));
        Self {
            doc,
            seen,
            sink: tokio::sync::Mutex::new(sink),
            reader,
        }
    }

    /// Locks its document. The guard must not be held over an `await`.
    pub fn doc(&self) -> MutexGuard<'_, LoroDoc> {
        self.doc.lock().unwrap()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    /// Edits its document, and returns the update.
    pub fn change(&self, edit: impl FnOnce(&LoroDoc)) -> Vec<u8> {
        change(&self.doc(), edit)
    }

    /// Edits its document and sends the update.
    pub async fn edit(&self, edit: impl FnOnce(&LoroDoc)) {
        let update = self.change(edit);
        self.send(update).await;
    }

    /// Types at the end of the text `text`, and sends the update.
    pub async fn typed(&self, words: &str) {
        self.edit(|doc| {
            let text = doc.get_text("text");
            text.insert(text.len_unicode(), words).unwrap();
        })
        .await;
    }

    /// Sends a binary frame.
    pub async fn send(&self, blob: impl Into<Bytes>) {
        let sent = self.try_send(Message::Binary(blob.into())).await;
        if let Err(error) = sent {
            panic!("a frame could not be sent: {error}; {:?}", self.closed());
        }
    }

    /// Sends any frame.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn try_send(&self, message: Message) -> Result<(), Error> {
        let mut sink = self.sink.lock().await;
        soon("the server takes a frame", sink.send(message)).await
    }

    /// The text `text` of its document.
    pub fn text(&self) -> String {
        self.doc().get_text("text").to_string()
    }

    /// Returns every frame so far, in order.
    pub fn heard(&self) -> Vec<Heard> {
        self.seen().heard.clone()
    }

    /// The number of Loro blobs so far.
    pub fn blobs(&self) -> usize {
        let seen = self.seen();
        let blobs = seen
            .heard
            .iter()
            .filter(|heard| matches!(heard, Heard::Blob(_)));
        blobs.count()
    }

    /// The events of this type so far.
    pub fn events(&self, kind: &str) -> Vec<Value> {
        let seen = self.seen();
        let events = seen.heard.iter().filter_map(|heard| match heard {
            Heard::Event(event) if event["type"] == kind => Some(event.clone()),
            _ => None,
        });
        events.collect()
    }

    /// Waits for the first event of this type.
    pub async fn event(&self, kind: &str) -> Value {
        self.until(&format!("an event {kind:?}"), |client| {
            !client.events(kind).is_empty()
        })
        .await;
        self.events(kind).remove(0)
    }

    /// Waits until the server has stored or refused the first `frames` binary frames of this client, and returns the
    /// newest rev among them. Needs events.
    pub async fn saved(&self, frames: u64) -> u64 {
        self.until(&format!("{frames} frames are saved"), |client| {
            client.decided() >= frames
        })
        .await;
        let events = self.events("saved");
        events
            .iter()
            .filter_map(|event| event["rev"].as_u64())
            .max()
            .unwrap_or(0)
    }

    /// The number of this client's binary frames that the server has stored or refused. Needs events.
    pub fn decided(&self) -> u64 {
        let events = self.events("saved");
        events
            .last()
            .and_then(|event| event["frames"].as_u64())
            .unwrap_or(0)
    }

    /// Returns the way in which the connection ended, if it has ended.
    pub fn closed(&self) -> Option<Closed> {
        self.seen().closed.clone()
    }

    /// Waits for the end of the connection.
    pub async fn end(&self) -> Closed {
        until("the connection ends", async || self.closed().is_some()).await;
        self.closed().unwrap()
    }

    /// Waits until a condition holds for this client.
    ///
    /// # Panics
    /// If it does not hold in time, and at once if the connection ends or a blob cannot be imported.
    pub async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        until(what, async || {
            if condition(self) {
                return true;
            }
            self.assert_fine(what);
            false
        })
        .await;
    }

    /// Checks that the connection is open and that every blob could be imported.
    pub fn assert_fine(&self, what: &str) {
        let seen = self.seen();
        assert_eq!(seen.failed, None, "while waiting: {what}");
        assert_eq!(seen.closed, None, "while waiting: {what}");
    }

    /// Leaves with a closing handshake, and returns the document.
    pub async fn leave(self) -> LoroDoc {
        // The server may have closed first.
        let _ = self.try_send(Message::Close(None)).await;
        self.end().await;
        self.doc().clone()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
        if std::thread::panicking() {
            let heard = self.heard();
            let last = heard
                .iter()
                .rev()
                .find(|heard| !matches!(heard, Heard::Blob(_)));
            eprintln!(
                "--- a client had {} blobs, last other frame {last:?}, closed {:?}",
                self.blobs(),
                self.closed()
            );
        }
    }
}

/// Edits a document, and returns the update with this edit alone.
pub fn change(doc: &LoroDoc, edit: impl FnOnce(&LoroDoc)) -> Vec<u8> {
    let before = doc.oplog_vv();
    edit(doc);
    doc.commit();
    doc.export(ExportMode::updates(&before)).unwrap()
}

async fn read(mut stream: SplitStream<Socket>, doc: Arc<Mutex<LoroDoc>>, seen: Arc<Mutex<Seen>>) {
    let closed = loop {
        let heard = match stream.next().await {
            Some(Ok(Message::Binary(blob))) => {
                let imported = doc.lock().unwrap().import(&blob);
                if let Err(error) = imported {
                    seen.lock().unwrap().failed = Some(error.to_string());
                }
                Heard::Blob(blob)
            }
            Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                Ok(event) => Heard::Event(event),
                Err(_) => Heard::Text(text.to_string()),
            },
            Some(Ok(Message::Close(frame))) => {
                let code = frame.map_or(1005, |frame| frame.code.into());
                seen.lock().unwrap().closed = Some(Closed::Code(code));
                // The next read sends the reply to the close frame.
                while let Some(Ok(_)) = stream.next().await {}
                return;
            }
            Some(Ok(_)) => continue,
            Some(Err(_)) | None => break Closed::Lost,
        };
        seen.lock().unwrap().heard.push(heard);
    };
    seen.lock().unwrap().closed.get_or_insert(closed);
}

/// Waits until these clients have the same document.
pub async fn converged(what: &str, clients: &[&Client]) {
    until(&format!("{what}: the documents are the same"), async || {
        for client in clients {
            client.assert_fine(what);
        }
        let versions: Vec<VersionVector> = clients
            .iter()
            .map(|client| client.doc().oplog_vv())
            .collect();
        versions.windows(2).all(|pair| pair[0] == pair[1])
    })
    .await;
    let values: Vec<_> = clients
        .iter()
        .map(|client| client.doc().get_deep_value())
        .collect();
    assert!(
        values.windows(2).all(|pair| pair[0] == pair[1]),
        "{what}: the versions are the same, the values differ"
    );
}
