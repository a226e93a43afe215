//! A client of server-sent events.

use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::wait::soon;

/// A stream of events. Dropping it closes the connection.
pub struct Events {
    body: Incoming,
    read: String,
    /// The id of the last event, from which the stream can be resumed.
    pub last: Option<String>,
    connection: JoinHandle<()>,
}

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The id.
    pub id: String,
    /// The name.
    pub name: String,
    /// The data.
    pub data: Value,
}

impl Events {
    /// Opens a stream, resumed after the event with the id `last`.
    ///
    /// # Errors
    /// The status, if it is not 200.
    pub async fn open(
        address: &str,
        path: &str,
        headers: &[(&str, &str)],
        last: Option<&str>,
    ) -> Result<Self, StatusCode> {
        let stream = TcpStream::connect(address).await.unwrap();
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.unwrap();
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        let mut request = Request::get(path).header(header::HOST, address);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let answer = soon("a stream of events", sender.send_request(request)).await;
        let answer = answer.unwrap();
        if answer.status() != StatusCode::OK {
            return Err(answer.status());
        }
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/event-stream");
        Ok(Self {
            body: answer.into_body(),
            read: String::new(),
            last: last.map(str::to_owned),
            connection,
        })
    }

    /// The next event; `None` at the end of the stream, or if it breaks off.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.read.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.read = rest;
                let field = |name: &str| {
                    let mut lines = block.lines();
                    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                };
                if let Some(id) = field("id") {
                    self.last = Some(id.to_owned());
                }
                if let Some(data) = field("data") {
                    return Some(Event {
                        id: self.last.clone().unwrap_or_default(),
                        name: field("event").unwrap_or("message").to_owned(),
                        data: serde_json::from_str(data).unwrap(),
                    });
                }
            }
            let frame = self.body.frame().await?.ok()?;
            if let Ok(piece) = frame.into_data() {
                self.read += std::str::from_utf8(&piece).unwrap();
            }
        }
    }

    /// The next event, which must come soon.
    pub async fn heard(&mut self) -> Event {
        let next = soon("an event", self.next()).await;
        next.expect("the stream has ended")
    }

    /// Reads until an event of this name about this task, and returns it.
    pub async fn until(&mut self, task: &str, name: &str) -> Event {
        let what = format!("{name} of {task}");
        let reading = async {
            loop {
                let event = self.next().await.expect("the stream has ended");
                if event.name == name && event.data["task_id"] == task {
                    return event;
                }
            }
        };
        soon(&what, reading).await
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
