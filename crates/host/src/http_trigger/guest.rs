//! The call of a guest: `wasi:http/incoming-handler`.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tokio::sync::oneshot;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{Error, WasiBody, WasiHttpView};

use super::answered::Answered;
use super::router::Match;
use crate::guest::capacity::Busy;
use crate::guest::lane::Lane;
use crate::guest::limits::Shortage;
use crate::guest::{Guest, Program};

/// A component that answers requests.
pub(crate) struct Handler {
    program: Arc<Program>,
    proxy: ProxyPre<Guest>,
}

/// The headers that describe its route to a guest, as Spin sets them.
pub(crate) fn spin_headers(
    uri: &Uri,
    given: &HeaderMap,
    found: &Match<'_>,
    client: SocketAddr,
) -> HeaderMap {
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

impl Handler {
    /// Finds the export of a component.
    pub(crate) fn new(program: Arc<Program>) -> Result<Self> {
        let proxy = ProxyPre::new(program.pre().clone()).map_err(|error| {
            anyhow!(
                "component {:?} has an HTTP trigger but {error:#}",
                program.id
            )
        })?;
        Ok(Self { program, proxy })
    }

    /// Answers a request with a fresh instance of a lane. The instance runs in a task of its own: after it has sent its
    /// answer, or the client has hung up, it goes on until it returns or its limits stop it.
    pub(crate) async fn run<B>(&self, lane: Lane, request: Request<B>) -> Response<WasiBody>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Error>,
    {
        let program = &self.program;
        let mut store = match program.store(lane).await {
            Ok(store) => store,
            Err(busy) => {
                let lane = lane.name();
                tracing::warn!(component = program.id, lane, "a request is refused: {busy}");
                return later(busy);
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
        let meter = Arc::clone(&store.data().meter);
        let (program, proxy) = (Arc::clone(program), self.proxy.clone());
        self.program.spawn(lane, async move {
            let meter = Arc::clone(&store.data().meter);
            let call = async {
                let instance = proxy.instantiate_async(&mut store).await?;
                instance
                    .wasi_http_incoming_handler()
                    .call_handle(&mut store, request, out)
                    .await
            };
            // A failure was logged, and the client gets an error because no answer was set.
            program.run(meter, call).await.ok();
            // The task that sends the answer waits for this thread. It goes first, because taking down an instance takes
            // a while.
            tokio::task::yield_now().await;
            drop(store);
        });
        match receiver.await {
            // The request may succeed once other instances have ended.
            Err(_) if meter.shortage() == Some(Shortage::Budget) => later(Busy::Memory),
            Ok(Ok(response)) if lane.counts_between_answers() => {
                response.map(|body| Answered::new(body, meter).boxed_unsync())
            }
            Ok(Ok(response)) => response,
            Ok(Err(code)) => {
                tracing::warn!(
                    component = self.program.id,
                    "the handler answered an error: {code:?}"
                );
                plain(StatusCode::INTERNAL_SERVER_ERROR, "internal server error")
            }
            Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "internal server error"),
        }
    }
}

/// The answer to a request for which there is no room now.
fn later(busy: Busy) -> Response<WasiBody> {
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, busy.words());
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// An answer of this host itself.
pub(crate) fn plain(status: StatusCode, text: &'static str) -> Response<WasiBody> {
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
