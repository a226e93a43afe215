//! The answer to `GET /health`, from what the app said within the last second, so any number of requests cost the app
//! one question.

use crate::app::upstream::{Upstream, UpstreamError, read_body};
use crate::edge::body::{Body, full};
use crate::edge::headers::remove_hop_by_hop;
use crate::edge::problem::{app_silent, response};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use problem::Problem;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// The age that an answer may have.
const FRESH: Duration = Duration::from_secs(1);

/// The time that the app may take. After that it is not healthy.
const PATIENCE: Duration = Duration::from_secs(5);

/// The largest body of an answer, in bytes.
const MAX_BYTES: usize = 64 * 1024;

/// The app's health.
pub(crate) struct Health {
    upstream: Arc<Upstream>,
    /// The app's newest answer. The lock is held while the app is asked, so there is one question at a time, and its
    /// answer serves all requests that waited meanwhile.
    known: Arc<Mutex<Option<Known>>>,
    /// The time at which the app last said that it is healthy.
    good: Arc<parking_lot::Mutex<Option<Instant>>>,
}

struct Known {
    answered_at: Instant,
    answer: Result<Answer, Problem>,
}

#[derive(Clone)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// Returns whether a request asks for the app's health.
pub(crate) fn is_asked_for<B>(request: &Request<B>) -> bool {
    request.uri().path() == "/health" && [Method::GET, Method::HEAD].contains(request.method())
}

impl Health {
    /// The health of the app behind `upstream`.
    pub(crate) fn new(upstream: Arc<Upstream>) -> Self {
        Self {
            upstream,
            known: Arc::default(),
            good: Arc::default(),
        }
    }

    /// Returns the time at which the app last said that it is healthy. If its last answer is more than a second old,
    /// asks the app first, and waits for the answer for at most `wait`.
    pub(crate) async fn last_good(&self, wait: Duration) -> Option<Instant> {
        // An answer that comes later counts for the next question.
        let _ = timeout(wait, self.known()).await;
        *self.good.lock()
    }

    /// Returns whether the app is being asked just now.
    #[cfg(test)]
    pub(crate) fn is_asking(&self) -> bool {
        self.known.try_lock().is_err()
    }

    /// Answers a GET or a HEAD.
    pub(crate) async fn answer(&self, method: &Method) -> Response<Body> {
        let answer = match self.known().await {
            Ok(answer) => answer,
            Err(problem) => return response(&problem),
        };
        let length = answer.body.len();
        let body = match *method {
            Method::HEAD => Bytes::new(),
            _ => answer.body,
        };
        let mut response = Response::new(full(body));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length.into());
        response
    }

    async fn known(&self) -> Result<Answer, Problem> {
        let mut known = self.known.clone().lock_owned().await;
        if let Some(known) = known
            .as_ref()
            .filter(|known| known.answered_at.elapsed() < FRESH)
        {
            return known.answer.clone();
        }
        // A task of its own, so that the question goes on if the client that caused it hangs up.
        let (upstream, good) = (self.upstream.clone(), self.good.clone());
        let asking = tokio::spawn(async move {
            let answer = timeout(PATIENCE, ask(&upstream)).await;
            let answer = answer.unwrap_or_else(|_| Err(app_silent()));
            if answer
                .as_ref()
                .is_ok_and(|answer| answer.status == StatusCode::OK)
            {
                *good.lock() = Some(Instant::now());
            }
            *known = Some(Known {
                answered_at: Instant::now(),
                answer: answer.clone(),
            });
            answer
        });
        asking.await.unwrap_or_else(|_| Err(app_silent()))
    }
}

async fn ask(upstream: &Upstream) -> Result<Answer, Problem> {
    let unreachable = |error: UpstreamError| {
        tracing::debug!(%error, "the app did not report its health");
        app_silent()
    };
    let request = Request::get("/health")
        .header(header::HOST, &upstream.authority)
        .body(full(""))
        .map_err(|_| app_silent())?;
    let response = upstream.send(request).await.map_err(unreachable)?;
    let (mut head, body) = response.into_parts();
    let body = read_body(body, MAX_BYTES).await.map_err(unreachable)?;
    remove_hop_by_hop(&mut head.headers);
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body,
    })
}
