//! The server: accepts connections, and sends each request to the part that answers it.

use crate::edge::body::Body;
use crate::edge::health::{self, Health};
use crate::edge::internal::Internal;
use crate::edge::limits::Limits;
use crate::edge::listener::Listener;
use crate::edge::paths::is_internal;
use crate::edge::problem::{as_http, response, too_many_connections, too_many_requests};
use crate::edge::proxy::Proxy;
use crate::edge::upgrade::{self, Upgrades};
use crate::metrics::Metrics;
use crate::settings::Settings;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use problem::Problem;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The number of connections for plain requests, beyond those of WebSockets.
const PLAIN_CONNECTIONS: usize = 1024;

/// The number of refused connections that are told so at once. More are dropped.
const REFUSALS: usize = 64;

/// The most header fields of a request.
const MAX_HEADERS: usize = 128;

/// How long to wait after the system ran out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a refused connection may take to read that it is refused.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(2);

/// The smallest buffer that hyper takes, in bytes.
const MIN_BUFFER: usize = 8192;

/// Serves HTTP.
pub(crate) struct Server {
    pub(crate) settings: Arc<Settings>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) health: Health,
    pub(crate) internal: Internal,
    pub(crate) upgrades: Upgrades,
    pub(crate) proxy: Proxy,
    /// Cancelled when the relay drains.
    pub(crate) draining: CancellationToken,
    /// The tasks of all connections.
    pub(crate) tasks: TaskTracker,
}

impl Server {
    /// Accepts connections until it is dropped, and the listener with it.
    pub(crate) async fn accept(self: &Arc<Self>, mut listener: Listener) {
        let slots = self.settings.max_connections + PLAIN_CONNECTIONS;
        let slots = Arc::new(Semaphore::new(slots));
        let refusals = Arc::new(Semaphore::new(REFUSALS));
        loop {
            let (stream, client) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Best effort: WASI does not support TCP_NODELAY.
            let _ = stream.set_nodelay(true);
            if let Ok(slot) = slots.clone().try_acquire_owned() {
                let server = self.clone();
                self.tasks.spawn(async move {
                    Box::pin(server.serve(stream, client.ip())).await;
                    drop(slot);
                });
                continue;
            }
            self.metrics.refused_total.add(1);
            if let Ok(turn) = refusals.clone().try_acquire_owned() {
                tokio::spawn(async move {
                    let _ = timeout(REFUSAL_PATIENCE, refuse(stream)).await;
                    drop(turn);
                });
            }
        }
    }

    /// Serves one connection until it ends or is upgraded.
    async fn serve(self: Arc<Self>, stream: TcpStream, client: IpAddr) {
        let service = service_fn(|request| {
            let server = self.clone();
            async move { Ok::<_, Infallible>(server.answer(client, request).await) }
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
            tracing::debug!(%client, %error, "a connection failed");
        }
    }

    /// Sends a request to the part that answers it.
    async fn answer(&self, client: IpAddr, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        match is_internal(path) {
            Ok(false) => {}
            Ok(true) => return self.internal.answer(&request),
            Err(error) => return response(&Problem::bad_request(format!("{error}."))),
        }
        if path == "/metrics" {
            return self.internal.metrics(&request);
        }
        // Load balancers ask often, and it costs the app little.
        if health::is_asked_for(&request) {
            return self.health.answer(request.method()).await;
        }
        if let Err(wait) = self.limits.take(client, request.headers(), request.uri()) {
            self.metrics.limited_total.add(1);
            return response(&too_many_requests(wait));
        }
        if path.starts_with(upgrade::RAW_PATH) && upgrade::is_asked_for(request.headers()) {
            return self.upgrades.answer(client, request).await;
        }
        self.proxy.forward(client, request).await
    }
}

/// Says 503, and waits until the client has read it.
async fn refuse(mut stream: TcpStream) -> std::io::Result<()> {
    let mut scrap = [0; 4096];
    // The request or its beginning is read first, because a client may expect no answer before it has asked.
    let _ = stream.read(&mut scrap).await?;
    stream.write_all(&as_http(&too_many_connections())).await?;
    stream.shutdown().await?;
    while stream.read(&mut scrap).await? > 0 {}
    Ok(())
}
