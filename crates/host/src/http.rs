//! The HTTP trigger: listens, routes, and runs a fresh instance for each request.
//!
//! An instance runs in a task of its own: it goes on when its answer was sent, and when the client
//! hung up, until it returns or its limits stop it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{Error, WasiBody, WasiHttpView};

use crate::guest::{Guest, Program};
use crate::routes::{Match, Router};

/// How long a client may take to send a request's headers.
const HEADERS: Duration = Duration::from_secs(30);
/// How long open requests get to finish when the server stops.
const DRAIN: Duration = Duration::from_secs(10);
/// Paths that Spin answers itself.
const WELL_KNOWN: &str = "/.well-known/spin/";

/// A component that answers requests.
pub struct Handler {
    /// The component.
    pub program: Arc<Program>,
    /// Its export.
    pub proxy: ProxyPre<Guest>,
}

/// The application as an HTTP server.
pub struct App {
    router: Router,
    handlers: HashMap<String, Handler>,
}

impl App {
    /// An application with these routes; `handlers` has every component with an HTTP trigger.
    pub fn new(router: Router, handlers: HashMap<String, Handler>) -> Self {
        Self { router, handlers }
    }

    /// Serves until `stop` turns true, then lets open requests finish.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            match accepted {
                Ok((stream, client)) => self.connection(stream, client, &graceful),
                Err(error) => {
                    tracing::warn!("could not accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(listener);
        if tokio::time::timeout(DRAIN, graceful.shutdown())
            .await
            .is_err()
        {
            tracing::warn!("requests were still open after {DRAIN:?}");
        }
    }

    fn connection(
        self: &Arc<Self>,
        stream: TcpStream,
        client: SocketAddr,
        graceful: &GracefulShutdown,
    ) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("no TCP_NODELAY: {error}");
        }
        let app = Arc::clone(self);
        let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
            let app = Arc::clone(&app);
            async move { Ok::<_, std::convert::Infallible>(app.answer(request, client).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%client, "connection ended: {error}");
            }
        });
    }

    /// Routes a request to its component and runs that.
    pub async fn answer<B>(&self, mut request: Request<B>, client: SocketAddr) -> Response<WasiBody>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Error>,
    {
        let path = request.uri().path();
        if let Some(well_known) = path.strip_prefix(WELL_KNOWN) {
            return match well_known {
                "health" => plain(StatusCode::OK, "OK"),
                _ => plain(StatusCode::NOT_FOUND, ""),
            };
        }
        let Some(found) = self.router.find(path) else {
            return plain(StatusCode::NOT_FOUND, "");
        };
        let Some(handler) = self.handlers.get(found.component) else {
            return plain(StatusCode::NOT_FOUND, "");
        };
        let headers = spin_headers(request.uri(), request.headers(), &found, client);
        request.headers_mut().remove(header::CONNECTION);
        request.headers_mut().extend(headers);
        run(handler, request).await
    }

    /// A request from one component to another; `None` when there is no such component.
    pub async fn chain(
        &self,
        component: &str,
        mut request: Request<WasiBody>,
    ) -> Option<Response<WasiBody>> {
        let handler = self.handlers.get(component)?;
        let route = crate::routes::Route::parse("/...").ok()?;
        let rest = request.uri().path().to_owned();
        let found = Match {
            component,
            route: &route,
            rest,
            named: Vec::new(),
        };
        let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
        let headers = spin_headers(request.uri(), request.headers(), &found, nobody);
        request.headers_mut().extend(headers);
        Some(run(handler, request).await)
    }
}

/// The headers by which Spin tells a guest about its route.
fn spin_headers(uri: &Uri, given: &HeaderMap, found: &Match<'_>, client: SocketAddr) -> HeaderMap {
    let host = given.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host
        .or_else(|| uri.authority().map(|authority| authority.as_str()))
        .unwrap_or("localhost");
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let full_url = format!("http://{host}{path}");
    let client = client.to_string();
    let mut headers = HeaderMap::with_capacity(8 + found.named.len());
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    for (name, value) in [
        ("spin-path-info", found.rest.as_str()),
        ("spin-full-url", &full_url),
        ("spin-matched-route", &found.route.raw),
        ("spin-base-path", "/"),
        ("spin-raw-component-route", &found.route.raw),
        ("spin-component-route", found.route.prefix()),
        ("spin-client-addr", &client),
    ] {
        set(HeaderName::from_static(name), value);
    }
    for (name, value) in &found.named {
        if let Ok(name) = format!("spin-path-match-{}", name.to_ascii_lowercase()).parse() {
            set(name, value);
        }
    }
    headers
}

async fn run<B>(handler: &Handler, request: Request<B>) -> Response<WasiBody>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Error>,
{
    let program = &handler.program;
    let mut store = match program.store().await {
        Ok(store) => store,
        Err(busy) => {
            tracing::warn!(component = program.id, "a request is refused: {busy}");
            let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, "all instances are busy");
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            return response;
        }
    };
    let (sender, receiver) = oneshot::channel();
    let mut http = store.data_mut().http();
    let prepared = http
        .new_incoming_request(Scheme::Http, request)
        .and_then(|request| Ok((request, http.new_response_outparam(sender)?)));
    let (request, out) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            tracing::debug!(component = program.id, "a request is refused: {error:#}");
            return plain(StatusCode::BAD_REQUEST, "the request has no host");
        }
    };
    let (program, proxy) = (Arc::clone(program), handler.proxy.clone());
    tokio::spawn(async move {
        let meter = Arc::clone(&store.data().meter);
        let call = async {
            let instance = proxy.instantiate_async(&mut store).await?;
            instance
                .wasi_http_incoming_handler()
                .call_handle(&mut store, request, out)
                .await
        };
        // A failure was logged; the client sees it by the answer that never comes.
        program.run(meter, call).await.ok();
        // The task that sends the answer waits for this thread: it goes first, for taking down an
        // instance takes a while.
        tokio::task::yield_now().await;
        drop(store);
    });
    match receiver.await {
        Ok(Ok(response)) => response,
        Ok(Err(code)) => {
            tracing::warn!(
                component = handler.program.id,
                "the handler answered an error: {code:?}"
            );
            plain(StatusCode::INTERNAL_SERVER_ERROR, "internal server error")
        }
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "internal server error"),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<WasiBody> {
    let body = Full::new(Bytes::from_static(text.as_bytes()))
        .map_err(Error::from)
        .boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if !text.is_empty() {
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    response
}
