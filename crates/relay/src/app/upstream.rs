//! HTTP/1.1 connections to the app, kept alive.

use crate::edge::proxy::{Body, full};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// More idle connections than this are closed.
const MAX_IDLE: usize = 64;

/// A connection that was idle for longer is not used again: hosts close one after 30 s and more, and
/// what lies between may forget one without a word.
const REUSE_WITHIN: Duration = Duration::from_secs(15);

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// No connection.
    #[error("cannot connect to the app: {0}")]
    Connect(#[from] io::Error),
    /// The connection broke, or what came was not HTTP.
    #[error("the app's answer broke off: {0}")]
    Http(#[from] hyper::Error),
}

/// Where the app is, and the connections to it that wait for a request.
pub(crate) struct Upstream {
    /// `HOST:PORT`, for connecting and for the `Host` header of internal requests.
    pub(crate) authority: String,
    idle: Mutex<Vec<Idle>>,
}

/// A connection of the pool, and since when it is there.
struct Idle {
    sender: SendRequest<Body>,
    since: Instant,
}

impl Upstream {
    /// An app at `http://HOST[:PORT]`.
    ///
    /// # Errors
    /// With words for the operator, when the address is no such thing.
    pub(crate) fn new(url: &str) -> Result<Self, String> {
        let bad = || format!("{url:?} is no address of an app: use http://HOST:PORT");
        let uri: Uri = url.parse().map_err(|_| bad())?;
        if uri.scheme_str() != Some("http") || uri.path() != "/" || uri.query().is_some() {
            return Err(bad());
        }
        let host = uri.host().ok_or_else(bad)?;
        Ok(Self {
            authority: format!("{host}:{}", uri.port_u16().unwrap_or(80)),
            idle: Mutex::default(),
        })
    }

    /// Sends a request over a kept connection, or a new one. Resolves with the answer's head;
    /// dropping the future or the answer's body cancels the request.
    pub(crate) async fn send(
        &self,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        while let Some(mut sender) = self.take_idle() {
            let again = repeated(&request);
            match sender.try_send_request(request).await {
                Ok(response) => {
                    self.keep(sender);
                    return Ok(response);
                }
                // A connection that the app had closed meanwhile, or closed just then.
                Err(mut error) => match error.take_message().or(again) {
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error().into()),
                },
            }
        }
        let stream = self.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        self.keep(sender);
        Ok(response)
    }

    /// A connection of the caller's own.
    pub(crate) async fn dedicated(&self) -> Result<Dedicated, UpstreamError> {
        let stream = self.connect().await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Dedicated {
            sender,
            connection: Some(Box::pin(connection)),
            idle_since: Instant::now(),
        })
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let stream = timeout(CONNECT_TIMEOUT, resolve_and_connect(&self.authority))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        // Not every platform has it; then small requests are slower, and that is all.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection whose last answer has been read. Those that the app closed, or that nobody
    /// needed for a while, are let go.
    fn take_idle(&self) -> Option<SendRequest<Body>> {
        let mut idle = self.idle();
        idle.retain(|Idle { sender, since }| {
            !(sender.is_closed() || sender.is_ready() && since.elapsed() >= REUSE_WITHIN)
        });
        let ready = idle.iter().rposition(|idle| idle.sender.is_ready())?;
        Some(idle.swap_remove(ready).sender)
    }

    /// Puts a connection back at once; it is taken again when its answer's body has been read.
    fn keep(&self, sender: SendRequest<Body>) {
        let mut idle = self.idle();
        if idle.len() >= MAX_IDLE {
            idle.remove(0);
        }
        let since = Instant::now();
        idle.push(Idle { sender, since });
    }
}

/// The same request once more, if doing it twice does no harm (RFC 9110, section 9.2.2).
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

/// WASI has no threads to resolve names on; its own resolver is asked directly.
#[cfg(target_arch = "wasm32")]
async fn resolve_and_connect(authority: &str) -> io::Result<TcpStream> {
    let addresses: Vec<_> = std::net::ToSocketAddrs::to_socket_addrs(authority)?.collect();
    TcpStream::connect(&addresses[..]).await
}

/// A connection that one task has for itself and drives itself: a request costs no wake-up of
/// another task.
pub(crate) struct Dedicated {
    sender: SendRequest<Full<Bytes>>,
    /// `None` once the app has closed it.
    connection: Option<Pin<Box<Driver>>>,
    idle_since: Instant,
}

/// What moves the bytes of a connection for as long as it is polled.
type Driver = Connection<TokioIo<TcpStream>, Full<Bytes>>;

impl Dedicated {
    /// Whether the next request may go over this connection: the app has not closed it, and it was
    /// not idle for too long. Between two requests nothing drives the connection, so it is asked
    /// here.
    pub(crate) fn is_usable(&mut self) -> bool {
        let Some(connection) = self.connection.as_mut() else {
            return false;
        };
        self.idle_since.elapsed() < REUSE_WITHIN && connection.as_mut().now_or_never().is_none()
    }

    /// Sends one request and reads the whole answer. Fails at once if the connection ends before
    /// the answer does. After an error, or when the future was dropped, the connection is of no
    /// more use.
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
                        tracing::debug!(%error, "connection to the app");
                    }
                    // Only if it is dropped does the exchange learn that it waits in vain.
                    *connection = None;
                }
            }
        };
        self.idle_since = Instant::now();
        answer
    }
}

/// Reads a body to its end; one that is larger breaks off.
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
