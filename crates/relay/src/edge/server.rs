//! The server: accepts connections, and sends each request to the part that answers it.

use crate::edge::arrivals::Arrivals;
use crate::edge::body::Body;
use crate::edge::health::{self, Health};
use crate::edge::internal::Internal;
use crate::edge::limits::Limits;
use crate::edge::listener::Listener;
use crate::edge::paths::is_internal;
use crate::edge::problem::{as_http, response, too_many_connections, too_many_requests};
use crate::edge::proxy::Proxy;
use crate::edge::ready::{self, Ready};
use crate::edge::stream::{Stream, Upgrading};
use crate::edge::upgrade::{self, Upgrades};
use crate::edge::visitor::Visitor;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::waiting::desk::Desk;
use crate::waiting::wait::{Wait, WaitForEnd, streamed};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use problem::Problem;
use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The number of refused connections for whose requests the relay waits at once, so that it can answer them. Beyond this
/// number, a connection gets an answer only if its request has already arrived.
pub(crate) const REFUSALS: usize = 64;

/// The most header fields of a request.
const MAX_HEADERS: usize = 128;

/// The time to wait after the system ran out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The time that a refused connection may take to read that it is refused.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(2);

/// The smallest buffer that hyper takes, in bytes.
const MIN_BUFFER: usize = 8192;

/// Serves HTTP.
pub(crate) struct Server {
    pub(crate) settings: Arc<Settings>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) health: Arc<Health>,
    pub(crate) ready: Ready,
    pub(crate) internal: Internal,
    pub(crate) upgrades: Upgrades,
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) arrivals: Arc<Arrivals>,
    /// The permits for refused connections that get an answer, one for each.
    pub(crate) refusals: Arc<Semaphore>,
    /// The token that is cancelled when the relay drains.
    pub(crate) draining: CancellationToken,
    /// The tasks of all connections.
    pub(crate) tasks: TaskTracker,
}

impl Server {
    /// Accepts connections until this future is dropped, and the listener with it.
    pub(crate) async fn accept(self: &Arc<Self>, mut listener: Listener) {
        loop {
            let (stream, client) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Best effort: WASI does not support TCP_NODELAY, so what belongs together is written together.
            let _ = stream.set_nodelay(true);
            let Some(slot) = self.arrivals.slot() else {
                self.refuse(stream);
                continue;
            };
            let server = self.clone();
            self.tasks.spawn(async move {
                Box::pin(server.receive(stream, client.ip(), slot)).await;
            });
        }
    }

    /// Serves a connection, once it has its place.
    async fn receive(self: Arc<Self>, stream: TcpStream, peer: IpAddr, slot: OwnedSemaphorePermit) {
        let Some(arrival) = self.arrivals.arrive(slot, peer).await else {
            self.refuse(stream);
            return;
        };
        let visitor = Visitor {
            peer,
            arrival,
            upgrading: Upgrading::default(),
        };
        self.serve(stream, Arc::new(visitor)).await;
    }

    /// Refuses a connection, and waits until the client can read the answer. If many are being refused, it does not wait.
    fn refuse(&self, stream: TcpStream) {
        self.metrics.refused_total.add(1);
        if let Ok(turn) = self.refusals.clone().try_acquire_owned() {
            tokio::spawn(async move {
                let _ = timeout(REFUSAL_PATIENCE, refuse(stream)).await;
                drop(turn);
            });
        } else {
            // If this fails, the client is gone, or its request has not arrived.
            let _ = refuse_at_once(stream);
        }
    }

    /// Serves one connection until it ends or is upgraded.
    async fn serve(self: Arc<Self>, stream: TcpStream, visitor: Arc<Visitor>) {
        let stream = Stream::new(
            stream,
            self.settings.write_timeout,
            visitor.upgrading.clone(),
        );
        let peer = visitor.peer;
        let service = service_fn(|request| {
            let (server, visitor) = (self.clone(), visitor.clone());
            async move { Ok::<_, Infallible>(server.answer(&visitor, request).await) }
        });
        let connection = http1::Builder::new()
            // On WASI a vectored write waits until the kernel takes more, and the whole relay waits with it.
            .writev(cfg!(not(target_arch = "wasm32")))
            .timer(TokioTimer::new())
            .header_read_timeout(self.settings.header_timeout)
            .max_headers(MAX_HEADERS)
            .max_buf_size(self.settings.max_header_bytes.max(MIN_BUFFER))
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = self.draining.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(%peer, %error, "a connection failed");
        }
    }

    /// Sends a request to the part that answers it.
    async fn answer(&self, visitor: &Arc<Visitor>, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        match is_internal(path) {
            Ok(false) => {}
            Ok(true) => return self.internal.answer(&request),
            Err(error) => return response(&Problem::bad_request(format!("{error}."))),
        }
        if path == "/metrics" {
            return self.internal.metrics(&request).await;
        }
        // Load balancers ask often, and it costs the app little.
        if health::is_asked_for(&request) {
            return self.health.answer(request.method()).await;
        }
        if ready::is_asked_for(&request) {
            return self.ready.answer(request.method()).await;
        }
        if let Err(wait) = self
            .limits
            .take(visitor.peer, request.headers(), request.uri())
        {
            self.metrics.limited_total.add(1);
            return response(&too_many_requests(wait));
        }
        if path.starts_with(upgrade::RAW_PATH) && upgrade::is_asked_for(request.headers()) {
            return self.upgrades.answer(visitor, request).await;
        }
        if let Some(wait) = Wait::of(&request) {
            return self.desk.answer(visitor, request, wait).await;
        }
        if let Some(subject) = streamed(&request) {
            return self.desk.stream(visitor, request, subject).await;
        }
        if let Some(wait) = WaitForEnd::of(&request) {
            return self.desk.post(visitor, request, wait).await;
        }
        self.proxy.forward(visitor, request).await
    }
}

/// Answers 503 to a client whose request has arrived, and closes the connection. Its first 4 KiB are read, because an
/// unread byte would make the kernel reset the connection before the client sees the answer.
fn refuse_at_once(stream: TcpStream) -> std::io::Result<()> {
    let mut stream = stream.into_std()?;
    if stream.read(&mut [0; 4096])? > 0 {
        stream.write_all(&as_http(&too_many_connections()))?;
    }
    Ok(())
}

/// Answers 503, and waits until the client has read that.
async fn refuse(mut stream: TcpStream) -> std::io::Result<()> {
    let mut scrap = [0; 4096];
    // The request or its beginning is read first, because a client may expect no answer before it has asked.
    let _ = stream.read(&mut scrap).await?;
    stream.write_all(&as_http(&too_many_connections())).await?;
    stream.shutdown().await?;
    while stream.read(&mut scrap).await? > 0 {}
    Ok(())
}
