//! A line: one request to the app that carries many, one after the other.

use crate::app::error::AppError;
use crate::app::states::MAX_STATE;
use crate::app::upstream::{Upstream, UpstreamError, handshake};
use crate::settings::Settings;
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use wire::{ByteSlice, LineAnswer, LineReader, LineRequest};

/// The time that the first answer may take. Some proxies keep bodies or answers back until they are whole, and then it
/// never comes.
const PROOF: Duration = Duration::from_secs(1);

/// The time before the app ends a line in which no more requests are sent on it, so that none is under way at the end.
const MARGIN: Duration = Duration::from_secs(1);

/// Opens lines.
#[derive(Clone)]
pub(crate) struct Opener {
    upstream: Arc<Upstream>,
    authorization: Option<HeaderValue>,
    bounds: Bounds,
}

/// The bounds of a line. The app has its own, which may be narrower.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    time: Duration,
    bytes: usize,
    requests: usize,
}

impl Opener {
    /// Opens lines to `upstream`, within the bounds of the settings.
    pub(crate) fn new(
        upstream: Arc<Upstream>,
        authorization: Option<HeaderValue>,
        settings: &Settings,
    ) -> Self {
        Self {
            upstream,
            authorization,
            bounds: Bounds {
                time: settings.line_time.min(wire::LINE_TIME - MARGIN),
                bytes: settings.line_bytes,
                requests: settings.line_requests,
            },
        }
    }

    /// Returns whether the settings allow lines, and a request of this many bytes is a small part of one.
    pub(crate) fn suits(&self, request: usize) -> bool {
        self.bounds.requests > 0 && request <= self.bounds.bytes / 4
    }

    /// Opens a line, and sends one request on it.
    ///
    /// # Errors
    /// If that takes longer than a second, or fails.
    pub(crate) async fn open(self) -> Result<Line, AppError> {
        timeout(PROOF, self.try_open())
            .await
            .map_err(|_| AppError::Timeout(PROOF))?
    }

    async fn try_open(self) -> Result<Line, AppError> {
        let opened = Instant::now();
        let stream = self
            .upstream
            .connect()
            .await
            .map_err(UpstreamError::Connect)?;
        let opened_connection = handshake(stream).await;
        let (mut sender, connection) = opened_connection.map_err(UpstreamError::Http)?;
        let mut connection = Driver(Some(Box::pin(connection)));
        let (requests, body) = mpsc::channel(1);
        let mut request = Request::builder()
            .method(Method::POST)
            .uri("/internal/line")
            .header(header::HOST, &self.upstream.authority)
            .header(header::CONTENT_TYPE, wire::CONTENT_TYPE)
            .header(wire::VERSION_HEADER, wire::VERSION)
            .body(Requests(body))
            .map_err(|error| AppError::Garbage(error.to_string()))?;
        if let Some(authorization) = self.authorization {
            let headers = request.headers_mut();
            headers.insert(header::AUTHORIZATION, authorization);
        }
        // Some hosts answer only once the body has begun, so the first request goes out at once. To answer it, the app
        // opens its database.
        let proof = encode(&Method::GET, "/health", &[]);
        self.upstream.requests.add(1);
        let _ = requests.try_send(proof);
        let head = connection.drive(sender.send_request(request)).await;
        let head = head.map_err(UpstreamError::Http)?;
        if head.status() != StatusCode::OK {
            return Err(AppError::Status(head.status()));
        }
        let mut line = Line {
            requests,
            answers: head.into_body(),
            // No answer is larger than a state.
            reader: LineReader::new(MAX_STATE),
            connection,
            _sender: sender,
            bounds: self.bounds,
            opened,
            sent: 0,
            received: 0,
            asked: 0,
            has_ended: false,
        };
        let answer = line.answer().await?;
        match answer.status {
            StatusCode::OK => Ok(line),
            status => Err(AppError::Status(status)),
        }
    }
}

/// An open line. The task that asks drives the connection itself, so an answer wakes up no other task.
pub(crate) struct Line {
    requests: mpsc::Sender<Bytes>,
    answers: Incoming,
    reader: LineReader,
    connection: Driver,
    /// The connection ends when this is dropped.
    _sender: SendRequest<Requests>,
    bounds: Bounds,
    opened: Instant,
    /// The bytes that were sent.
    sent: usize,
    /// The bytes that were received.
    received: usize,
    /// The number of requests that were answered, without the first, which proves that the line works.
    asked: usize,
    /// Says whether the app has ended the line, or an answer did not come.
    has_ended: bool,
}

/// An answer on a line.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) media_type: String,
    pub(crate) body: Bytes,
}

/// The part of a line that is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wear {
    /// The line is used up to less than three quarters.
    Fresh,
    /// The next line should be opened.
    Worn,
    /// The line is used up: no further request may be sent.
    Spent,
}

impl Line {
    /// Returns how much of the line is used up by the requests so far and one of this many bytes.
    pub(crate) fn wear(&mut self, request: usize) -> Wear {
        let (bounds, bytes) = (self.bounds, (self.sent + request).max(self.received));
        let age = self.opened.elapsed();
        if self.has_ended
            || age >= bounds.time
            || bytes > bounds.bytes
            || self.asked >= bounds.requests
            || self.connection.has_closed()
        {
            Wear::Spent
        } else if age >= bounds.time * 3 / 4
            || bytes >= bounds.bytes / 4 * 3
            || self.asked >= bounds.requests / 4 * 3
        {
            Wear::Worn
        } else {
            Wear::Fresh
        }
    }

    /// Returns whether the line has carried nothing but the proof that it works.
    pub(crate) fn is_unused(&self) -> bool {
        self.asked == 0
    }

    /// Sends an encoded request and waits for its answer. After an error, or after the future was dropped, the line
    /// has ended.
    ///
    /// # Errors
    /// If the line ends before the answer has come whole.
    pub(crate) async fn ask(&mut self, request: Bytes) -> Result<Answer, AppError> {
        let was_ended = std::mem::replace(&mut self.has_ended, true);
        let bytes = request.len();
        if was_ended || self.requests.try_send(request).is_err() {
            return Err(AppError::Unreachable("the line has ended".into()));
        }
        self.sent += bytes;
        let answer = self.answer().await?;
        self.asked += 1;
        Ok(answer)
    }

    async fn answer(&mut self) -> Result<Answer, AppError> {
        let message = loop {
            match self.reader.next_message() {
                Ok(Some(message)) => break Bytes::from(message),
                Ok(None) => {}
                Err(wire::TooLong) => return Err(AppError::Garbage("a long message".into())),
            }
            let frame = self.connection.drive(self.answers.frame()).await;
            let frame = frame.ok_or_else(|| AppError::Unreachable("the line ended".into()))?;
            if let Ok(data) = frame.map_err(UpstreamError::Http)?.into_data() {
                self.received += data.len();
                self.reader.push(&data);
            }
        };
        let answer: LineAnswer<&ByteSlice> =
            wire::decode(&message).map_err(|error| AppError::Garbage(error.to_string()))?;
        self.has_ended = answer.is_last;
        let status = StatusCode::from_u16(answer.status);
        Ok(Answer {
            status: status.map_err(|error| AppError::Garbage(error.to_string()))?,
            media_type: answer.media_type,
            body: message.slice_ref(answer.body),
        })
    }
}

/// Encodes a request for a line.
pub(crate) fn encode(method: &Method, target: &str, body: &[u8]) -> Bytes {
    let request = LineRequest {
        method: method.to_string(),
        target: target.to_owned(),
        body: <&ByteSlice>::from(body),
    };
    wire::encode_framed(&request).into()
}

type LineConnection = Connection<TokioIo<TcpStream>, Requests>;

/// Moves the bytes of a connection for as long as it is polled; `None` once it has ended.
struct Driver(Option<Pin<Box<LineConnection>>>);

impl Driver {
    /// Waits for `future`, and drives the connection meanwhile.
    async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        tokio::pin!(future);
        loop {
            let Some(connection) = self.0.as_mut() else {
                // Either the answer has arrived, or the future learns now that it will not.
                return future.await;
            };
            tokio::select! {
                biased;
                output = &mut future => return output,
                closed = connection => {
                    if let Err(error) = closed {
                        tracing::debug!(%error, "the connection of a line to the app failed");
                    }
                    self.0 = None;
                }
            }
        }
    }

    /// Returns whether the app has closed the connection. Nothing drives it between two requests, so it is polled here.
    fn has_closed(&mut self) -> bool {
        if let Some(connection) = self.0.as_mut()
            && connection.as_mut().now_or_never().is_some()
        {
            self.0 = None;
        }
        self.0.is_none()
    }
}

/// The body of a line: the requests, as they come.
struct Requests(mpsc::Receiver<Bytes>);

impl Body for Requests {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.0.poll_recv(context);
        next.map(|request| request.map(|request| Ok(Frame::data(request))))
    }
}
