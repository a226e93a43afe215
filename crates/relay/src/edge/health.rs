//! `GET /health`, answered for all from what the app said within the last second: many who ask cost the app one
//! question.

use crate::Relay;
use crate::app::upstream::read_body;
use crate::edge::problem::Problem;
use crate::edge::proxy::{self, Body, full};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// How old an answer may be.
const FRESH: Duration = Duration::from_secs(1);

/// How long the app may take. Then it is not healthy.
const PATIENCE: Duration = Duration::from_secs(5);

/// The largest body of an answer.
const MAX_BYTES: usize = 64 * 1024;

/// What the app said last. The lock is held while it is asked: so there is one question at a time, and its answer is
/// there for those who waited meanwhile.
#[derive(Default)]
pub(crate) struct Health(Arc<Mutex<Option<Known>>>);

struct Known {
    told: Instant,
    answer: Result<Answer, Problem>,
}

#[derive(Clone)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// Whether a request is one that this answers.
pub(crate) fn is_asked_for(request: &Request<hyper::body::Incoming>) -> bool {
    request.uri().path() == "/health" && [Method::GET, Method::HEAD].contains(request.method())
}

/// Answers a GET or a HEAD.
pub(crate) async fn answer(relay: &Arc<Relay>, method: &Method) -> Response<Body> {
    let answer = match known(relay).await {
        Ok(answer) => answer,
        Err(problem) => return problem.into(),
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

async fn known(relay: &Arc<Relay>) -> Result<Answer, Problem> {
    let mut known = relay.health.0.clone().lock_owned().await;
    if let Some(known) = known.as_ref().filter(|known| known.told.elapsed() < FRESH) {
        return known.answer.clone();
    }
    // In a task of its own, so that a client that hangs up does not leave the question to the next one.
    let relay = relay.clone();
    let asking = tokio::spawn(async move {
        let answer = timeout(PATIENCE, ask(&relay)).await;
        let answer = answer.unwrap_or_else(|_| Err(Problem::app_timeout()));
        *known = Some(Known {
            told: Instant::now(),
            answer: answer.clone(),
        });
        answer
    });
    asking
        .await
        .unwrap_or_else(|_| Err(Problem::app_unreachable()))
}

async fn ask(relay: &Relay) -> Result<Answer, Problem> {
    let unreachable = |error: crate::app::upstream::UpstreamError| {
        tracing::debug!(%error, "the app did not tell how it is");
        Problem::app_unreachable()
    };
    let request = Request::get("/health")
        .header(header::HOST, &relay.upstream.authority)
        .body(full(""))
        .map_err(|_| Problem::app_unreachable())?;
    let response = relay.upstream.send(request).await.map_err(unreachable)?;
    let (mut head, body) = response.into_parts();
    let body = read_body(body, MAX_BYTES).await.map_err(unreachable)?;
    proxy::remove_hop_by_hop(&mut head.headers);
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body,
    })
}
