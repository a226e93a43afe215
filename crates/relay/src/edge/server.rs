//! Accepts connections, and sends each request where it belongs.

use crate::app::{committer, pubsub};
use crate::edge::internal::{TooDeep, is_internal, is_operator};
use crate::edge::listener::Listener;
use crate::edge::problem::Problem;
use crate::edge::proxy::{self, Body, full};
use crate::edge::{health, limits, upgrade};
use crate::room::{access, rooms};
use crate::socket::socket::Close;
use crate::{Error, Relay, Settings};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Connections beyond those of WebSockets, for plain requests.
const PLAIN_CONNECTIONS: usize = 1024;

/// Refused connections that are being told so at once; more are dropped.
const REFUSALS: usize = 64;

/// The most header fields of a request.
const MAX_HEADERS: usize = 128;

/// How long to wait when the system is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Runs a relay on `listener` until `shutdown` resolves, or an operator posts to
/// `/internal/drain`; then drains, and returns.
///
/// Draining takes no new connection and reads no further update, stores what was taken (for at
/// most [`Settings::drain_timeout`]), and closes every WebSocket with 1001.
///
/// # Errors
/// At once, when a setting makes no sense. Later only when a part of the relay failed that it
/// cannot do without.
pub async fn serve(
    listener: TcpListener,
    settings: Settings,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let (relay, inbox) = Relay::new(settings)?;
    let relay = Arc::new(relay);
    let listener = Listener::new(listener).map_err(Error::Listener)?;
    // Dropping the set ends them.
    let mut tasks = JoinSet::new();
    tasks.spawn(committer::run(relay.clone()));
    tasks.spawn(rooms::compare_heads(relay.clone()));
    tasks.spawn(rooms::sweep(relay.clone()));
    tasks.spawn(rooms::tick(relay.clone()));
    tasks.spawn(access::recheck(relay.clone()));
    tasks.spawn(rooms::count_peers(relay.clone()));
    if let Some(inbox) = inbox {
        tasks.spawn(pubsub::run(relay.clone(), inbox));
    }
    let served = tokio::select! {
        () = accept(&relay, listener) => Ok(()),
        () = shutdown => Ok(()),
        () = relay.shutdown.asked() => Ok(()),
        _ = tasks.join_next() => Err(Error::PartFailed),
    };
    drain(&relay).await;
    tasks.shutdown().await;
    served
}

async fn drain(relay: &Relay) {
    tracing::info!(
        connections = relay.metrics.connections.get(),
        "draining the relay"
    );
    relay.shutdown.begin();
    if timeout(relay.settings.drain_timeout, relay.committer.settle())
        .await
        .is_err()
    {
        tracing::warn!(
            updates = relay.metrics.pending_updates.get(),
            "updates were not stored before the drain ended"
        );
    }
    relay.rooms.close_all(Close::DRAIN);
    // A closing handshake ends by itself; this is for plain requests.
    let patience = relay.settings.close_timeout + Duration::from_secs(1);
    if timeout(patience, relay.shutdown.all_gone()).await.is_err() {
        tracing::warn!("connections were dropped");
    }
}

/// Goes on until it is dropped, and the listener with it.
async fn accept(relay: &Arc<Relay>, mut listener: Listener) {
    let slots = Arc::new(Semaphore::new(
        relay.settings.max_connections + PLAIN_CONNECTIONS,
    ));
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
        // Not every platform has it.
        let _ = stream.set_nodelay(true);
        match slots.clone().try_acquire_owned() {
            Ok(slot) => {
                let relay = relay.clone();
                tokio::spawn(async move {
                    Box::pin(handle_connection(relay, stream, client.ip())).await;
                    drop(slot);
                });
            }
            Err(_) => {
                relay.metrics.refused_total.add(1);
                if let Ok(turn) = refusals.clone().try_acquire_owned() {
                    tokio::spawn(async move {
                        let _ = timeout(Duration::from_secs(2), refuse(stream)).await;
                        drop(turn);
                    });
                }
            }
        }
    }
}

/// Says 503 and waits for the client to have read it.
async fn refuse(mut stream: TcpStream) -> std::io::Result<()> {
    let mut scrap = [0; 4096];
    // The request, or its beginning: a client may not expect an answer before it has asked.
    let _ = stream.read(&mut scrap).await?;
    stream
        .write_all(&Problem::too_many_connections().as_http())
        .await?;
    stream.shutdown().await?;
    while stream.read(&mut scrap).await? > 0 {}
    Ok(())
}

async fn handle_connection(relay: Arc<Relay>, stream: TcpStream, client: IpAddr) {
    let _alive = relay.alive();
    let service = service_fn(|request| {
        let relay = relay.clone();
        async move { Ok::<_, Infallible>(handle(&relay, client, request).await) }
    });
    let connection = http1::Builder::new()
        // On WASI it waits until the kernel takes more, and with it the whole relay.
        .writev(cfg!(not(target_arch = "wasm32")))
        .timer(TokioTimer::new())
        .header_read_timeout(relay.settings.header_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(relay.settings.max_header_bytes.max(8192))
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = relay.shutdown.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%client, %error, "a connection failed");
    }
}

/// Where each request belongs.
async fn handle(relay: &Arc<Relay>, client: IpAddr, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    match is_internal(path) {
        Ok(false) => {}
        Ok(true) => {
            return match path {
                "/internal/drain" => on_request(relay, &request, || relay.shutdown.ask()),
                "/internal/recheck" => on_request(relay, &request, || relay.doubt.raise_for_all()),
                _ => Problem::not_found().into(),
            };
        }
        Err(TooDeep) => {
            return Problem::bad_request("the path is percent-encoded too often").into();
        }
    }
    if path == "/metrics" {
        return metrics(relay, &request);
    }
    if let Err(wait) = within_limits(relay, client, &request) {
        relay.metrics.limited_total.add(1);
        return Problem::too_many_requests(wait).into();
    }
    if health::is_asked_for(&request) {
        return health::answer(relay, request.method()).await;
    }
    if path.starts_with(upgrade::RAW_PATH) && upgrade::is_asked_for(request.headers()) {
        return upgrade::raw(relay, request).await;
    }
    proxy::forward(relay, client, request).await
}

/// Whether whoever asks may ask so often. Who that is, is known only where the app has told it lately.
fn within_limits(relay: &Relay, peer: IpAddr, request: &Request<Incoming>) -> Result<(), Duration> {
    let (headers, uri) = (request.headers(), request.uri());
    if health::is_asked_for(request) {
        return Ok(());
    }
    let client = limits::client(peer, headers, relay.settings.trust_forwarded);
    relay.limits.take_address(client)?;
    let principal = relay
        .limits
        .credential(headers, uri.query())
        .and_then(|credential| relay.limits.principal_of(credential));
    match principal {
        Some(principal) => relay.limits.take_user(&principal),
        None => Ok(()),
    }
}

/// Does what an operator asks for.
fn on_request(relay: &Relay, request: &Request<Incoming>, act: impl FnOnce()) -> Response<Body> {
    if !is_operator(request.headers(), &relay.settings.internal_token) {
        return Problem::unauthorized().into();
    }
    if request.method() != Method::POST {
        return Problem::method_not_allowed("POST").into();
    }
    act();
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

fn metrics(relay: &Relay, request: &Request<Incoming>) -> Response<Body> {
    let token = &relay.settings.internal_token;
    if !token.is_empty() && !is_operator(request.headers(), token) {
        return Problem::unauthorized().into();
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return Problem::method_not_allowed("GET, HEAD").into();
    }
    let mut response = Response::new(full(relay.metrics.render()));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4"),
    );
    response
}
