//! The part that the whole app shares: one HTTP server for all routes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use wasmtime_wasi_http::{Error, WasiBody};

use super::at_most::AtMost;
use super::guest::{Handler, plain, spin_headers};
use super::internal_token::InternalTokens;
use super::manifest::HttpTrigger;
use super::router::Router;
use crate::guest::lane::Lane;
use crate::other_host::HostLimits;
use crate::outbound_http::shared::{Answer, Application};

/// The time that a client may take to send a request's headers.
const HEADERS: Duration = Duration::from_secs(30);
/// The time that open requests get to finish when the server stops.
const DRAIN: Duration = Duration::from_secs(10);
/// The beginning of the paths that Spin answers itself.
const WELL_KNOWN: &str = "/.well-known/spin/";

/// The most bytes of a body that is read although it is too large, so that its sender reads the answer.
const DISCARDED: usize = 64 << 20;

/// Reads a body to its end, or up to a number of bytes.
async fn discard<B>(body: B, most: usize)
where
    B: Body<Data = Bytes>,
{
    let mut body = std::pin::pin!(body);
    let mut left = most;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// The application as an HTTP server.
pub(crate) struct App {
    router: Router,
    handlers: HashMap<String, Handler>,
    tokens: InternalTokens,
    /// The limits of another host, if this one keeps them.
    limits: Option<&'static HostLimits>,
}

impl App {
    /// An application with the routes of `triggers`; `handlers` has each of their components. Requests with one of
    /// `tokens` have a lane of their own.
    pub(crate) fn new(
        triggers: &[HttpTrigger],
        handlers: HashMap<String, Handler>,
        tokens: InternalTokens,
    ) -> Result<Self, String> {
        let router = Router::build(triggers)?;
        Ok(Self {
            router,
            handlers,
            tokens,
            limits: None,
        })
    }

    /// Keeps the limits of another host.
    pub(crate) fn within(self, limits: Option<&'static HostLimits>) -> Self {
        Self { limits, ..self }
    }

    /// Serves until `stop` turns true, then lets open requests finish.
    pub(crate) async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        mut stop: watch::Receiver<bool>,
    ) -> Result<()> {
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            match accepted {
                Ok((stream, client)) => self.connection(stream, client, &graceful),
                Err(error) => {
                    tracing::warn!("a connection could not be accepted: {error}");
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
        Ok(())
    }

    fn connection(
        self: &Arc<Self>,
        stream: TcpStream,
        client: SocketAddr,
        graceful: &GracefulShutdown,
    ) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("TCP_NODELAY cannot be set: {error}");
        }
        let app = Arc::clone(self);
        let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
            let app = Arc::clone(&app);
            async move {
                let is_authorized = app.tokens.are_in(request.headers());
                let lane = Lane::of_request(request.uri().path(), is_authorized);
                Ok::<_, std::convert::Infallible>(app.answer(lane, request, client).await)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%client, "a connection ended: {error}");
            }
        });
    }

    /// Routes a request to its component and runs an instance of a lane for it.
    async fn answer<B>(
        &self,
        lane: Lane,
        mut request: Request<B>,
        client: SocketAddr,
    ) -> Response<WasiBody>
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
        let Some(limits) = self.limits else {
            return handler.run(lane, request).await;
        };
        if request.body().size_hint().lower() > limits.body as u64 {
            discard(request.into_body(), DISCARDED).await;
            return plain(StatusCode::PAYLOAD_TOO_LARGE, limits.body_words);
        }
        let request = request.map(|body| AtMost::new(body, limits.body));
        handler.run(lane, request).await
    }
}

impl Application for App {
    fn answer_own(
        self: Arc<Self>,
        request: Request<WasiBody>,
        client: SocketAddr,
    ) -> Answer<'static> {
        let lane = Lane::of_own_request(request.uri().path());
        Box::pin(async move { self.answer(lane, request, client).await })
    }
}
