//! The HTTP/1.1 connections to the app, which are kept alive.

use crate::edge::body::{Body, full};
use crate::metrics::Metric;
use crate::settings::SettingError;
use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::io;
use std::pin::Pin;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// The time that connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The most idle connections. Beyond it one of the oldest is closed.
const MAX_IDLE: usize = 64;

/// A connection that was idle for longer is not used again, because hosts close it after 30 s or more, and a router on
/// the way may forget it without notice.
const REUSE_WITHIN: Duration = Duration::from_secs(15);

/// The reason why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// The app cannot be connected to.
    #[error("cannot connect to the app: {0}")]
    Connect(#[from] io::Error),
    /// The connection broke, or its bytes were not HTTP.
    #[error("the app's answer broke off: {0}")]
    Http(#[from] hyper::Error),
}

/// The address of the app, and the connections to it that wait for a request.
pub(crate) struct Upstream {
    /// The `HOST:PORT` to which the relay connects, and which it sends as the `Host` of internal requests.
    pub(crate) authority: String,
    idle: Mutex<Vec<Idle>>,
    /// The number of requests that were sent; all that go by one line count as one.
    pub(crate) requests: Metric,
}

/// A connection of the pool, and the time since which it is there.
struct Idle {
    sender: SendRequest<Body>,
    since: Instant,
}

impl Upstream {
    /// An app at `http://HOST[:PORT]`.
    ///
    /// # Errors
    /// If the address has another form.
    pub(crate) fn new(url: &str) -> Result<Self, SettingError> {
        let bad = || SettingError::App(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| bad())?;
        if uri.scheme_str() != Some("http") || uri.path() != "/" || uri.query().is_some() {
            return Err(bad());
        }
        let host = uri.host().ok_or_else(bad)?;
        Ok(Self {
            authority: format!("{host}:{}", uri.port_u16().unwrap_or(80)),
            idle: Mutex::default(),
            requests: Metric::default(),
        })
    }

    /// Sends a request over a kept connection, or over a new one. Resolves with the answer's head. The caller cancels
    /// the request by dropping the future or the answer's body.
    pub(crate) async fn send(
        &self,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        self.requests.add(1);
        while let Some(mut sender) = self.take_idle() {
            let again = repeated(&request);
            match sender.try_send_request(request).await {
                Ok(response) => {
                    self.keep(sender);
                    return Ok(response);
                }
                // The app had closed the connection meanwhile, or closed it just then.
                Err(mut error) => match error.take_message().or(again) {
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error().into()),
                },
            }
        }
        let stream = self.connect().await?;
        let (mut sender, connection) = handshake(stream).await?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        self.keep(sender);
        Ok(response)
    }

    /// Opens a connection for the caller alone.
    pub(crate) async fn dedicated(&self) -> Result<Dedicated, UpstreamError> {
        let stream = self.connect().await?;
        let (sender, connection) = handshake(stream).await?;
        Ok(Dedicated {
            sender,
            connection: Some(Box::pin(connection)),
            idle_since: Instant::now(),
        })
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> io::Result<TcpStream> {
        let stream = timeout(CONNECT_TIMEOUT, resolve_and_connect(&self.authority))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        // Best effort: WASI does not support TCP_NODELAY, so small requests are slower there.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    /// Takes a connection whose last answer has been read. Those that the app has closed, or that were idle for a
    /// while, are dropped.
    fn take_idle(&self) -> Option<SendRequest<Body>> {
        let mut idle = self.idle.lock();
        idle.retain(|Idle { sender, since }| {
            !(sender.is_closed() || sender.is_ready() && since.elapsed() >= REUSE_WITHIN)
        });
        let ready = idle.iter().rposition(|idle| idle.sender.is_ready())?;
        Some(idle.swap_remove(ready).sender)
    }

    /// Puts a connection back at once. It is taken again only after its answer's body has been read.
    fn keep(&self, sender: SendRequest<Body>) {
        let mut idle = self.idle.lock();
        if idle.len() >= MAX_IDLE {
            idle.remove(0);
        }
        let since = Instant::now();
        idle.push(Idle { sender, since });
    }
}

/// Begins HTTP/1.1 on a connection. On WASI head and body are copied together, because without TCP_NODELAY a second write
/// waits for the acknowledgement of the first.
pub(crate) async fn handshake<B>(
    stream: TcpStream,
) -> hyper::Result<(SendRequest<B>, Connection<TokioIo<TcpStream>, B>)>
where
    B: hyper::body::Body + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    http1::Builder::new()
        .writev(cfg!(not(target_arch = "wasm32")))
        .handshake(TokioIo::new(stream))
        .await
}

/// Copies a request, if sending it twice does no harm (RFC 9110, section 9.2.2).
fn repeated(request: &Request<Body>) -> Option<Request<Body>> {
    use hyper::body::Body as _;
    let is_safe = request.method().is_safe() && request.body().is_end_stream();
    is_safe.then(|| {
        let mut again = Request::new(full(Bytes::new()));
        again.method_mut().clone_from(request.method());
        again.uri_mut().clone_from(request.uri());
        again.headers_mut().clone_from(request.headers());
        again
    })
}

#[cfg(not(target_arch = "wasm32"))]
async fn resolve_and_connect(authority: &str) -> io::Result<TcpStream> {
    TcpStream::connect(authority).await
}

/// Asks the resolver of WASI directly, because WASI has no threads on which tokio could resolve names.
#[cfg(target_arch = "wasm32")]
async fn resolve_and_connect(authority: &str) -> io::Result<TcpStream> {
    let addresses: Vec<_> = std::net::ToSocketAddrs::to_socket_addrs(authority)?.collect();
    TcpStream::connect(&addresses[..]).await
}

/// A connection that one task has for itself and drives itself, so a request wakes up no other task.
pub(crate) struct Dedicated {
    sender: SendRequest<Full<Bytes>>,
    /// The connection; `None` once the app has closed it.
    connection: Option<Pin<Box<Driver>>>,
    idle_since: Instant,
}

/// Moves the bytes of a connection for as long as it is polled.
type Driver = Connection<TokioIo<TcpStream>, Full<Bytes>>;

impl Dedicated {
    /// Returns whether the next request may go over this connection: the app has not closed it, and it was not idle for
    /// too long. Nothing drives the connection between two requests, so it is polled here.
    pub(crate) fn is_usable(&mut self) -> bool {
        let Some(connection) = self.connection.as_mut() else {
            return false;
        };
        self.idle_since.elapsed() < REUSE_WITHIN && connection.as_mut().now_or_never().is_none()
    }

    /// Sends one request and reads the whole answer, of at most `max_bytes`. Fails at once if the connection ends
    /// before the answer does. After an error, or after the future was dropped, the connection must not be used again.
    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        max_bytes: usize,
    ) -> Result<Response<Bytes>, UpstreamError> {
        let Self {
            sender, connection, ..
        } = self;
        let exchange = async {
            sender.ready().await?;
            let response = sender.send_request(request).await?;
            let (head, body) = response.into_parts();
            let body = read_body(body, max_bytes).await?;
            Ok(Response::from_parts(head, body))
        };
        tokio::pin!(exchange);
        let answer = loop {
            let Some(driven) = connection.as_mut() else {
                // Either the whole answer has arrived, or none will.
                break exchange.await;
            };
            tokio::select! {
                biased;
                answer = &mut exchange => break answer,
                closed = driven => {
                    if let Err(error) = closed {
                        tracing::debug!(%error, "a connection to the app failed");
                    }
                    // The exchange learns that no answer will come only when the connection is dropped.
                    *connection = None;
                }
            }
        };
        self.idle_since = Instant::now();
        answer
    }
}

/// Reads a body to its end.
///
/// # Errors
/// If the body breaks off, or has more than `max_bytes`.
pub(crate) async fn read_body(
    mut body: Incoming,
    max_bytes: usize,
) -> Result<Bytes, UpstreamError> {
    use http_body_util::BodyExt;
    use hyper::body::Body as _;
    let too_large = || io::Error::new(io::ErrorKind::InvalidData, "the answer is too large");
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if expected > max_bytes {
        return Err(too_large().into());
    }
    let mut first = Bytes::new();
    let mut whole: Option<bytes::BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        match &mut whole {
            None if first.is_empty() => first = data,
            None => {
                let mut buffer = bytes::BytesMut::with_capacity(expected);
                buffer.extend_from_slice(&first);
                buffer.extend_from_slice(&data);
                whole = Some(buffer);
            }
            Some(buffer) => buffer.extend_from_slice(&data),
        }
        if whole.as_ref().map_or(first.len(), |buffer| buffer.len()) > max_bytes {
            return Err(too_large().into());
        }
    }
    Ok(whole.map_or(first, bytes::BytesMut::freeze))
}
