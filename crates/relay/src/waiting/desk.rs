//! The desk, which holds requests that wait.

use crate::edge::body::Body;
use crate::edge::caps::{Caps, Place};
use crate::edge::limits::Limits;
use crate::edge::problem::response;
use crate::edge::proxy::{Asked, Proxy};
use crate::edge::visitor::Visitor;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::waiting::wait::Wait;
use crate::waiting::waiters::{Subject, Waiter, Waiters};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use problem::Problem;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// The number of waiting requests that may ask the app at once. One task's end may wake them all, and more of them at
/// once would keep the app from the edits of other clients.
const ASKING: usize = 8;

/// The time after which a request asks again if the app has no place for it. It doubles with each try.
const PAUSE: Duration = Duration::from_millis(50);

/// The time that a request tries again in this way. After that the client gets the app's answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The part of all places that may be of one address, or of one user: one in this many.
const SHARE: usize = 2;

/// Answers requests that wait.
pub(crate) struct Desk {
    pub(super) settings: Arc<Settings>,
    pub(super) metrics: Arc<Metrics>,
    limits: Arc<Limits>,
    pub(super) proxy: Arc<Proxy>,
    pub(super) waiters: Arc<Waiters>,
    places: Caps,
    asking: Arc<Semaphore>,
    pub(super) draining: CancellationToken,
}

/// The app's answer that a task has not changed.
struct Unchanged {
    /// The tag of what the client, or this request, knows.
    known: HeaderValue,
}

impl Desk {
    /// A desk whose requests ask through `proxy`, and learn of changes through `waiters`, until `draining`.
    pub(crate) fn new(
        limits: Arc<Limits>,
        proxy: Arc<Proxy>,
        waiters: Arc<Waiters>,
        draining: CancellationToken,
    ) -> Self {
        let most = proxy.settings.max_waiters;
        let share = most.div_ceil(SHARE);
        Self {
            // A stranger holds a place only until the app has answered, or is let in.
            places: Caps::new(most, most, share, share),
            settings: proxy.settings.clone(),
            metrics: proxy.metrics.clone(),
            limits,
            proxy,
            waiters,
            asking: Arc::new(Semaphore::new(ASKING)),
            draining,
        }
    }

    /// Answers a request that waits.
    pub(crate) async fn answer(
        &self,
        visitor: &Visitor,
        request: Request<Incoming>,
        wait: Wait,
    ) -> Response<Body> {
        let answer = match self.place(visitor, &request) {
            Ok(_place) => self.hold(visitor, request, wait).await,
            Err(problem) => Err(problem),
        };
        answer.unwrap_or_else(|problem| response(&problem))
    }

    pub(super) fn place<B>(
        &self,
        visitor: &Visitor,
        request: &Request<B>,
    ) -> Result<Place, Problem> {
        let network = self.limits.network(visitor.peer, request.headers());
        let caller = self
            .limits
            .caller(network, request.headers(), request.uri());
        let place = self.places.try_take(network, caller);
        place.inspect_err(|_| self.metrics.turned_away_total.add(1))
    }

    async fn hold(
        &self,
        visitor: &Visitor,
        request: Request<Incoming>,
        wait: Wait,
    ) -> Result<Response<Body>, Problem> {
        let deadline = Instant::now() + wait.time;
        let waiter = self.waiters.enter(Subject::Task(wait.task));
        let head = request.into_parts().0;
        let own = head.headers.get(header::IF_NONE_MATCH).cloned();
        let first = self.ask(visitor, &head, own.as_ref()).await?;
        let Some(unchanged) = unchanged(&first.0, own.as_ref(), &waiter) else {
            return self.finish(first).await;
        };
        let (asked, turn) = first;
        self.proxy.discard(asked).await;
        // While it waits, it holds nothing that others need.
        drop(turn);
        let known = &unchanged.known;
        while Instant::now() < deadline && !self.draining.is_cancelled() {
            // The app checks again whether the client may ask.
            let again = Instant::now() + self.settings.recheck_interval;
            tokio::select! {
                () = waiter.changed() => {}
                () = sleep_until(deadline) => break,
                () = sleep_until(again) => {}
                () = self.draining.cancelled() => break,
            }
            let answer = self.ask(visitor, &head, Some(known)).await?;
            if answer.0.response.status() != StatusCode::NOT_MODIFIED
                || mark(&answer.0, &waiter).is_none()
            {
                return self.finish(answer).await;
            }
        }
        let last = self.ask(visitor, &head, own.as_ref()).await?;
        self.finish(last).await
    }

    /// Asks the app about the task, on behalf of the client, which knows this tag. A client that has waited for long is
    /// not turned away because the app is full for a moment.
    pub(super) async fn ask(
        &self,
        visitor: &Visitor,
        head: &Parts,
        known: Option<&HeaderValue>,
    ) -> Result<(Asked, Option<OwnedSemaphorePermit>), Problem> {
        // The semaphore is never closed.
        let turn = self.asking.clone().acquire_owned().await.ok();
        let mut head = head.clone();
        match known {
            Some(known) => head.headers.insert(header::IF_NONE_MATCH, known.clone()),
            None => head.headers.remove(header::IF_NONE_MATCH),
        };
        let end = Instant::now() + PATIENCE;
        let mut pause = PAUSE;
        loop {
            let asked = self.proxy.ask(visitor, head.clone()).await?;
            let is_full = asked.response.status() == StatusCode::SERVICE_UNAVAILABLE;
            if !is_full || Instant::now() + pause > end {
                return Ok((asked, turn));
            }
            self.proxy.discard(asked).await;
            sleep(pause).await;
            pause *= 2;
        }
    }

    pub(super) async fn finish(
        &self,
        (asked, turn): (Asked, Option<OwnedSemaphorePermit>),
    ) -> Result<Response<Body>, Problem> {
        self.proxy.finish(asked, turn).await
    }
}

/// Reads from the first answer what the client waits to see changed. `None` if it need not wait: the task is not as the
/// client knows it, or is finished.
fn unchanged(asked: &Asked, own: Option<&HeaderValue>, waiter: &Waiter) -> Option<Unchanged> {
    let tag = asked.response.headers().get(header::ETAG);
    let known = match (asked.response.status(), own) {
        (StatusCode::NOT_MODIFIED, Some(own)) => own,
        (StatusCode::OK, None) => tag?,
        _ => return None,
    };
    mark(asked, waiter)?;
    Some(Unchanged {
        known: known.clone(),
    })
}

/// The mark of a task that is not finished. The waiter keeps it.
pub(super) fn mark<'a>(asked: &'a Asked, waiter: &Waiter) -> Option<&'a str> {
    let mark = asked.mark.as_deref()?;
    waiter.saw(mark);
    Some(mark)
}
