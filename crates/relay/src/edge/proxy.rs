//! The way to the app for every public request that is not a WebSocket. Its body is read before the app is asked, whole or, if
//! it is a [large upload](super::large_uploads), part by part; the answer is streamed.

use crate::app::pubsub::PubSub;
use crate::app::upstream::{Upstream, UpstreamError, read_body};
use crate::edge::answers::Answers;
use crate::edge::body::{Body, full};
use crate::edge::caps::Caps;
use crate::edge::file_key::{self, Key};
use crate::edge::files::{self, File, Files, MAX_FILE, Turn};
use crate::edge::headers::{bad_target, remove_hop_by_hop, set_forwarded, set_target};
use crate::edge::large_uploads;
use crate::edge::limits::Limits;
use crate::edge::problem::{app_timeout, app_unreachable, response};
use crate::edge::refused_pages::RefusedPages;
use crate::edge::uploads::Uploads;
use crate::edge::visitor::Visitor;
use crate::metrics::Metrics;
use crate::room::effects::Fetch;
use crate::room::rooms::Rooms;
use crate::settings::Settings;
use crate::waiting::wait::{PREFER, at_once};
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, Version};
use hyper::body::{Body as _, Incoming};
use problem::Problem;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// The header in which the app names the rev of an update that was posted.
const REV: &str = "x-loro-rev";

/// The header in which the app names the principal that sent the request.
const PRINCIPAL: &str = "x-loro-internal-principal";

/// The header in which the app says why it refused a page.
pub(crate) const REFUSED_PAGE: &str = "x-loro-internal-refused-page";

/// The part of the requests under way that may come from clients whose credentials are not known to hold: one in this
/// many.
const STRANGERS: usize = 2;

/// The most bytes that are read of an answer whose body is not passed on.
const DISCARDED: usize = 256 * 1024;

/// Passes requests on to the app.
pub(crate) struct Proxy {
    pub(crate) settings: Arc<Settings>,
    pub(crate) metrics: Arc<Metrics>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) limits: Arc<Limits>,
    rooms: Arc<Rooms>,
    pubsub: Arc<PubSub>,
    pub(super) caps: Caps,
    pub(super) uploads: Uploads,
    answers: Answers,
    files: Files,
    refused_pages: Arc<RefusedPages>,
}

/// The head of the app's answer, and its body on its way.
pub(crate) struct Asked {
    pub(crate) response: Response<Incoming>,
    /// The mark of a task that is not finished.
    pub(crate) mark: Option<String>,
    /// The place in a stream of events after those in the body ([`wire::TASK_EVENTS`]).
    pub(crate) events: Option<String>,
}

impl Proxy {
    /// A proxy for the app behind `upstream`. `rooms` learn of updates that are posted.
    pub(crate) fn new(
        upstream: Arc<Upstream>,
        limits: Arc<Limits>,
        rooms: Arc<Rooms>,
        refused_pages: Arc<RefusedPages>,
    ) -> Self {
        let settings = &rooms.settings;
        let uploads = Uploads::new(settings.max_body);
        Self {
            refused_pages,
            caps: Caps::new(
                settings.max_requests,
                settings.max_requests.div_ceil(STRANGERS),
                settings.requests_per_address,
                settings.requests_per_user,
            ),
            settings: settings.clone(),
            metrics: rooms.metrics.clone(),
            pubsub: rooms.pubsub.clone(),
            upstream,
            limits,
            rooms,
            uploads,
            answers: Answers::new(),
            files: Files::default(),
        }
    }

    /// Passes a request on, and its answer back.
    pub(crate) async fn forward(
        &self,
        visitor: &Visitor,
        request: Request<Incoming>,
    ) -> Response<Body> {
        self.try_forward(visitor, request)
            .await
            .unwrap_or_else(|problem| response(&problem))
    }

    async fn try_forward(
        &self,
        visitor: &Visitor,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Problem> {
        self.metrics.proxied_total.add(1);
        let posted_to = (request.method() == Method::POST)
            .then(|| request.uri().path().strip_prefix("/sync/"))
            .flatten()
            .map(str::to_owned);
        let large = large_uploads::length(&request, self.settings.max_body);
        if let Some(length) = large {
            return self
                .send_in_parts(visitor, request.into_parts(), length)
                .await;
        }
        // The relay refuses it here, because a client may miss the answer of an app that answers before it has read the
        // whole body.
        if request.body().size_hint().lower() > self.settings.max_body as u64 {
            return Err(Problem::too_large(self.settings.max_body));
        }
        let (mut head, body) = request.into_parts();
        file_key::simplify(&mut head);
        let key = Key::of(&head);
        if let Some(file) = key.as_ref().and_then(|key| self.files.get(key)) {
            self.metrics.files_total.add(1);
            return Ok(file.answer(&head));
        }
        // The body is read before the place is taken, because a client may be slow.
        let network = self.limits.network(visitor.peer, &head.headers);
        let caller = self.limits.caller(network, &head.headers, &head.uri);
        let upload = self.uploads.read(network, caller.is_stranger(), body);
        let upload = upload.await?;
        let turn = match &key {
            Some(key) => match self.files.turn(key).await {
                Turn::Kept(file) => {
                    self.metrics.files_total.add(1);
                    return Ok(file.answer(&head));
                }
                Turn::Ask(turn) => turn,
            },
            None => None,
        };
        // The app may have named the client's principal meanwhile.
        let caller = self.limits.caller(network, &head.headers, &head.uri);
        let place = self.caps.take(network, caller).await;
        let place = place.inspect_err(|_| self.metrics.turned_away_total.add(1))?;
        // The answer to HEAD has no body that could be kept.
        let asked_for = key
            .filter(|_| head.method == Method::GET)
            .map(|key| (key, head.clone()));
        let body = full(upload.body.clone());
        let asked = self.exchange(visitor, head, body).await?;
        drop(upload);
        if let Some(project) = posted_to
            && asked.response.status().is_success()
        {
            self.see_rev(&project, asked.response.headers()).await;
        }
        if let Some((key, head)) = asked_for
            && let (status, headers) = (asked.response.status(), asked.response.headers())
            && let Some(lifetime) = files::lifetime(status, headers)
            && asked
                .response
                .body()
                .size_hint()
                .exact()
                .is_some_and(|length| length <= MAX_FILE as u64)
        {
            let file = self.keep(key, asked.response, lifetime).await?;
            return Ok(file.answer(&head));
        }
        drop(turn);
        self.finish(asked, place).await
    }

    /// Keeps a file of the page. A file that another request has read meanwhile is not read again.
    async fn keep(
        &self,
        key: Key,
        response: Response<Incoming>,
        lifetime: Duration,
    ) -> Result<Arc<File>, Problem> {
        if let Some(file) = self.files.renew(&key, response.headers(), lifetime) {
            return Ok(file);
        }
        let (head, body) = response.into_parts();
        let body = read_body(body, MAX_FILE).await.map_err(broken_off)?;
        Ok(self.files.keep(key, head.headers, body, lifetime))
    }

    /// Asks the app, on behalf of a client, with a request that has no body.
    ///
    /// # Errors
    /// If the app does not answer.
    pub(crate) async fn ask(&self, visitor: &Visitor, head: Parts) -> Result<Asked, Problem> {
        self.metrics.proxied_total.add(1);
        self.exchange(visitor, head, full("")).await
    }

    /// Reads an answer of which only the head matters, so that its connection can be used again.
    pub(crate) async fn discard(&self, asked: Asked) {
        // If it is large, the connection is closed instead.
        let _ = read_body(asked.response.into_body(), DISCARDED).await;
    }

    /// Passes the app's answer on to the client. `place` is what the request holds until the answer is read.
    ///
    /// # Errors
    /// If the answer breaks off at its beginning.
    pub(crate) async fn finish(
        &self,
        asked: Asked,
        place: impl Send + Sync + 'static,
    ) -> Result<Response<Body>, Problem> {
        let (head, body) = asked.response.into_parts();
        let body = self
            .answers
            .take_over(body, place)
            .await
            .map_err(broken_off)?;
        Ok(Response::from_parts(head, body))
    }

    /// Sends a request to the app, and learns from its answer who the client is.
    pub(super) async fn exchange(
        &self,
        visitor: &Visitor,
        head: Parts,
        body: Body,
    ) -> Result<Asked, Problem> {
        let credential = self.limits.credential(&head.headers, &head.uri);
        let request = Request::from_parts(self.outgoing(visitor.peer, head)?, body);
        let mut response = self.send(request).await?;
        let headers = response.headers_mut();
        let told = [PRINCIPAL, wire::TASK_MARK, wire::TASK_EVENTS, REFUSED_PAGE].map(|name| {
            let value = headers.remove(name)?;
            value.to_str().map(str::to_owned).ok()
        });
        let [principal, mark, events, refused] = told;
        if let Some(principal) = principal {
            visitor.arrival.let_in();
            // This request has already run; the limit applies from the next one.
            let _ = self.limits.record_principal(credential, &principal);
        }
        if let Some(words) = refused {
            self.refused_pages.log(&words);
        }
        remove_hop_by_hop(headers);
        *response.version_mut() = Version::HTTP_11;
        Ok(Asked {
            response,
            mark,
            events,
        })
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Problem> {
        let patience = self.settings.proxy_timeout;
        let error = match timeout(patience, self.upstream.send(request)).await {
            Ok(Ok(response)) => return Ok(response),
            Ok(Err(error)) => error,
            Err(_) => {
                self.metrics.proxy_errors_total.add(1);
                return Err(app_timeout());
            }
        };
        self.metrics.proxy_errors_total.add(1);
        match &error {
            UpstreamError::Connect(_) => tracing::warn!(%error, "a request was not answered"),
            UpstreamError::Http(_) => tracing::debug!(%error, "a request was not answered"),
        }
        Err(app_unreachable())
    }

    /// Notes in the project's room that an update was posted, so that its sockets need not wait for the next comparison
    /// of heads.
    async fn see_rev(&self, project: &str, headers: &HeaderMap) {
        let rev = headers
            .get(REV)
            .and_then(|rev| rev.to_str().ok())
            .and_then(|rev| rev.parse().ok());
        if let Some(rev) = rev {
            // With Redis the update itself is on its way.
            let fetch = if self.pubsub.is_connected() {
                Fetch::IfLate
            } else {
                Fetch::Now
            };
            self.rooms.note(project, rev, fetch).await;
        }
    }

    /// The head of a request as the app gets it.
    pub(super) fn outgoing(&self, client: IpAddr, mut head: Parts) -> Result<Parts, Problem> {
        set_target(&mut head)?;
        // Every request that is passed on comes through here, so none waits at the app.
        if let Some(target) = at_once(&head.uri) {
            head.uri = target.parse().map_err(|_| bad_target())?;
        }
        head.headers.remove(PREFER);
        head.version = Version::HTTP_11;
        remove_hop_by_hop(&mut head.headers);
        // An empty `Host` counts as none.
        if head
            .headers
            .get(header::HOST)
            .is_some_and(HeaderValue::is_empty)
        {
            head.headers.remove(header::HOST);
        }
        set_forwarded(&mut head.headers, client, self.settings.trust_forwarded);
        if !head.headers.contains_key(header::HOST) {
            // A client of HTTP/1.0 may send none, but the app needs one. It is added after `X-Forwarded-Host` is set,
            // because it is not a name under which a client reached the server.
            if let Ok(host) = HeaderValue::from_str(&self.upstream.authority) {
                head.headers.insert(header::HOST, host);
            }
        }
        Ok(head)
    }
}

/// The app's answer broke off.
fn broken_off(error: UpstreamError) -> Problem {
    tracing::debug!(%error, "an answer was not passed on");
    app_unreachable()
}
