//! The opening handshake of a WebSocket (RFC 6455, section 4.2).

use crate::app::client::App;
use crate::edge::address;
use crate::edge::arrivals::{Arrivals, Full};
use crate::edge::body::{Body, full};
use crate::edge::limits::Limits;
use crate::edge::problem::{
    Refusal, app_unreachable, described, draining, too_many_connections, too_many_requests,
    upgrade_required,
};
use crate::edge::proxy::REFUSED_PAGE;
use crate::edge::refused_pages::RefusedPages;
use crate::edge::stream::Stream;
use crate::edge::visitor::Visitor;
use crate::metrics::Metrics;
use crate::room::access::{self, Admitted, Refused};
use crate::room::grant::Grant;
use crate::settings::Settings;
use crate::socket::connection::Connection;
use crate::socket::opening::Opening;
use crate::socket::raw::{self, Announced};
use crate::socket::shared::Shared;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header,
};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use problem::Problem;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The paths that take an upgrade, written like the app's routes.
pub const UPGRADES: [&str; 1] = ["/sync/{project}"];

/// The path of the raw protocol, before the project.
pub(crate) const RAW_PATH: &str = "/sync/";

/// Returns whether the client asks for a WebSocket.
pub(crate) fn is_asked_for(headers: &HeaderMap) -> bool {
    has_token(headers, header::UPGRADE, "websocket")
}

fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(token))
}

/// Answers requests to upgrade.
pub(crate) struct Upgrades {
    settings: Arc<Settings>,
    metrics: Arc<Metrics>,
    app: Arc<App>,
    limits: Arc<Limits>,
    arrivals: Arc<Arrivals>,
    refused_pages: Arc<RefusedPages>,
    /// The permits for WebSockets, one for each.
    seats: Arc<Semaphore>,
    shared: Arc<Shared>,
    draining: CancellationToken,
    tasks: TaskTracker,
}

impl Upgrades {
    /// Makes upgrades whose connections run in `tasks` and use what is `shared`, until `draining`.
    pub(crate) fn new(
        app: Arc<App>,
        limits: Arc<Limits>,
        arrivals: Arc<Arrivals>,
        refused_pages: Arc<RefusedPages>,
        shared: Arc<Shared>,
        draining: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        let settings = &shared.settings;
        Self {
            seats: Arc::new(Semaphore::new(settings.max_connections)),
            settings: settings.clone(),
            metrics: shared.metrics.clone(),
            app,
            limits,
            arrivals,
            refused_pages,
            shared,
            draining,
            tasks,
        }
    }

    /// Answers a request to upgrade to the raw protocol. The WebSocket then lives in a task of its own.
    pub(crate) async fn answer(
        &self,
        visitor: &Arc<Visitor>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        self.upgrade(visitor, request)
            .await
            .unwrap_or_else(Refusal::into_response)
    }

    async fn upgrade(
        &self,
        visitor: &Arc<Visitor>,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        let accept = accept_key(&request)?;
        let project = request.uri().path().strip_prefix(RAW_PATH).unwrap_or("");
        if !wire::is_project_id(project) {
            return Err(Problem::bad_project_id().into());
        }
        let project: Arc<str> = project.into();
        let mut query =
            raw::Query::parse(request.uri().query().unwrap_or("")).map_err(Problem::bad_request)?;
        if self.draining.is_cancelled() {
            return Err(draining().into());
        }
        let Ok(seat) = self.seats.clone().try_acquire_owned() else {
            return Err(self.full());
        };
        let client = address::client(
            visitor.peer,
            request.headers(),
            self.settings.trust_forwarded,
        );
        let named = self.arrivals.named(client).map_err(|Full| self.full())?;
        let token = query.token.take();
        let grant = self.admit(client, &request, &project, token).await?;
        visitor.arrival.let_in();
        drop(named);
        let upgrade = hyper::upgrade::on(&mut request);
        visitor.upgrading.begin();
        self.tasks.spawn(serve(
            self.settings.clone(),
            upgrade,
            (seat, visitor.clone()),
            self.shared.clone(),
            project,
            query,
            grant,
        ));
        let mut response = Response::new(full(""));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        Ok(response)
    }

    fn full(&self) -> Refusal {
        self.metrics.refused_total.add(1);
        too_many_connections().into()
    }

    /// Asks the app whether the client may come in, and applies the user's limit.
    async fn admit(
        &self,
        client: IpAddr,
        request: &Request<Incoming>,
        project: &str,
        token: Option<String>,
    ) -> Result<Grant, Refusal> {
        let (headers, trust_forwarded) = (request.headers(), self.settings.trust_forwarded);
        let check = access::check(project, headers, token, client, trust_forwarded);
        let Admitted { grant, principal } =
            access::admit(&self.app, check, self.settings.app_patience)
                .await
                .map_err(|refused| self.refusal(refused))?;
        let credential = self.limits.credential(headers, request.uri());
        if let Err(wait) = self.limits.record_principal(credential, &principal) {
            self.metrics.limited_total.add(1);
            return Err(too_many_requests(wait).into());
        }
        Ok(grant)
    }

    /// The answer to a client that may not come in: the app's own, if it gave one.
    fn refusal(&self, refused: Refused) -> Refusal {
        let Refused::Denied {
            status,
            problem,
            header,
        } = refused
        else {
            return app_unreachable().into();
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
        let mut response = described(status, problem);
        match header.as_deref() {
            Some([name, words]) if name == REFUSED_PAGE => self.refused_pages.log(words),
            Some([name, value]) => {
                if let (Ok(name), Ok(value)) =
                    (name.parse::<HeaderName>(), HeaderValue::from_str(value))
                {
                    response.headers_mut().insert(name, value);
                }
            }
            _ => {}
        }
        Refusal::new(response)
    }
}

/// Waits for the upgrade, and serves the WebSocket until it ends. After that its `places` are free.
#[allow(
    clippy::manual_async_fn,
    reason = "an async fn would keep its arguments twice, for as long as the WebSocket lives"
)]
fn serve(
    settings: Arc<Settings>,
    upgrade: OnUpgrade,
    places: (OwnedSemaphorePermit, Arc<Visitor>),
    shared: Arc<Shared>,
    project: Arc<str>,
    query: raw::Query,
    grant: Grant,
) -> impl Future<Output = ()> {
    async move {
        let _places = places;
        let Ok(Ok(upgraded)) = timeout(settings.header_timeout, upgrade).await else {
            return;
        };
        let Ok(parts) = upgraded.downcast::<TokioIo<Stream>>() else {
            tracing::error!("an upgraded connection is not a client's stream");
            return;
        };
        let early = parts.read_buf.to_vec();
        // It is a slice of the HTTP server's buffer, and would keep that for as long as the WebSocket lives.
        drop(parts.read_buf);
        let (stream, answer) = parts.io.into_inner().into_parts();
        let opening = Opening {
            answer,
            early,
            awaits_version: query.version == Announced::InFrame,
        };
        let connection = Connection::new(shared, project, stream, opening, query.events, grant);
        connection.run(query.version).await;
    }
}

/// Checks the handshake, and computes the answer to the client's key.
fn accept_key<B>(request: &Request<B>) -> Result<HeaderValue, Problem> {
    let headers = request.headers();
    if request.method() != Method::GET {
        return Err(Problem::method_not_allowed(&["GET"]));
    }
    if request.version() != Version::HTTP_11 || !has_token(headers, header::CONNECTION, "upgrade") {
        return Err(Problem::bad_request(
            "An upgrade needs HTTP/1.1 and `Connection: Upgrade`.",
        ));
    }
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err(upgrade_required());
    }
    let bad_key = || Problem::bad_request("`Sec-WebSocket-Key` must be 16 bytes in base64.");
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .map(HeaderValue::as_bytes)
        .filter(|key| STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16))
        .ok_or_else(bad_key)?;
    HeaderValue::from_str(&derive_accept_key(key)).map_err(|_| bad_key())
}
