//! The requests that post a task and wait for its end, which the relay holds.

use crate::app::upstream::read_body;
use crate::edge::body::{Body, full, read_whole};
use crate::edge::problem::{app_unreachable, response};
use crate::edge::visitor::Visitor;
use crate::waiting::desk::{Desk, mark};
use crate::waiting::wait::WaitForEnd;
use crate::waiting::waiters::Subject;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep_until};

/// The most bytes of a task in the answer to the client that has posted it.
const MAX_TASK: usize = 1024 * 1024;

/// The header that says that the client's preference was heeded (RFC 7240).
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

impl Desk {
    /// Posts a task for a client, and answers when the task has ended or the time is up. If the relay cannot learn of the
    /// end, the client still gets the answer to its post.
    pub(crate) async fn post(
        &self,
        visitor: &Visitor,
        request: Request<Incoming>,
        wait: WaitForEnd,
    ) -> Response<Body> {
        let _place = match self.place(visitor, &request) {
            Ok(place) => place,
            Err(problem) => return response(&problem),
        };
        let deadline = Instant::now() + wait.time;
        let question = question(&request);
        let posted = self.proxy.forward(visitor, request).await;
        let Some(question) = question.filter(|_| posted.status() == StatusCode::CREATED) else {
            return posted;
        };
        let (mut head, body) = posted.into_parts();
        let location = head.headers.get(header::LOCATION);
        let location = location.and_then(|location| location.to_str().ok());
        let task = location.and_then(task_at).map(str::to_owned);
        // The answer to a post is small, and whole.
        let Some(posted) = read_whole(body, MAX_TASK).await else {
            return response(&app_unreachable());
        };
        let ended = match task {
            Some(task) => self.until_ended(visitor, question, &task, deadline).await,
            None => None,
        };
        if wait.is_preference
            && let Ok(applied) = HeaderValue::from_str(&format!("wait={}", wait.time.as_secs()))
        {
            head.headers.insert(PREFERENCE_APPLIED, applied);
        }
        head.headers.remove(header::CONTENT_LENGTH);
        let told = ended.and_then(|ended| joined(&posted, &ended));
        Response::from_parts(head, full(told.unwrap_or(posted)))
    }

    /// Waits until this task has ended, and reads it; `None` if it cannot be read.
    async fn until_ended(
        &self,
        visitor: &Visitor,
        mut question: Parts,
        task: &str,
        deadline: Instant,
    ) -> Option<Bytes> {
        let waiter = self.waiters.enter(Subject::Task(task.to_owned()));
        question.uri = with_path(&question.uri, &format!("/tasks/{task}"))?;
        loop {
            let (asked, turn) = self.ask(visitor, &question, None).await.ok()?;
            if asked.response.status() != StatusCode::OK {
                self.proxy.discard(asked).await;
                return None;
            }
            let is_open = mark(&asked, &waiter).is_some();
            let body = read_body(asked.response.into_body(), MAX_TASK).await.ok()?;
            drop(turn);
            if !is_open || Instant::now() >= deadline || self.draining.is_cancelled() {
                return Some(body);
            }
            // The app checks again whether the client may ask.
            let again = Instant::now() + self.settings.recheck_interval;
            tokio::select! {
                () = waiter.changed() => {}
                () = sleep_until(deadline.min(again)) => {}
                () = self.draining.cancelled() => {}
            }
        }
    }
}

/// The head of a question about the task that this request posts, with the credentials of its client.
fn question<B>(request: &Request<B>) -> Option<Parts> {
    let mut question = Request::builder()
        .method(Method::GET)
        .uri(request.uri().clone())
        .body(())
        .ok()?;
    *question.headers_mut() = request.headers().clone();
    for of_the_body in [
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::TRANSFER_ENCODING,
    ] {
        question.headers_mut().remove(of_the_body);
    }
    Some(question.into_parts().0)
}

/// The id of the task at this location, which is below a path if a proxy serves the server there.
fn task_at(location: &str) -> Option<&str> {
    let (_, task) = location.rsplit_once("/tasks/")?;
    Some(task)
}

/// The same target at another path.
fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    match uri.query() {
        Some(query) => format!("{path}?{query}").parse().ok(),
        None => path.parse().ok(),
    }
}

/// The answer to the client's post, with the task as it is now.
fn joined(posted: &[u8], task: &[u8]) -> Option<Bytes> {
    let mut told: Map<String, Value> = serde_json::from_slice(posted).ok()?;
    let task: Map<String, Value> = serde_json::from_slice(task).ok()?;
    told.extend(task);
    Some(Value::Object(told).to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_the_task_and_what_only_the_post_knows() {
        let posted = br#"{"task_id":"t","status":"pending","callback_secret":"s"}"#;
        let told = joined(posted, br#"{"task_id":"t","status":"completed"}"#).unwrap();
        let told: Value = serde_json::from_slice(&told).unwrap();
        let expected = serde_json::json!({
            "task_id": "t", "status": "completed", "callback_secret": "s"
        });
        assert_eq!(told, expected);
        assert_eq!(joined(posted, b"nonsense"), None);
    }

    #[test]
    fn the_app_is_asked_for_the_task_by_the_same_client() {
        let request = Request::post("/tasks?token=t")
            .header("content-length", "7")
            .header("cookie", "a=b");
        let question = question(&request.body(()).unwrap()).unwrap();
        assert_eq!(question.method, Method::GET);
        assert_eq!(question.headers.len(), 1);
        for location in ["/tasks/x", "/canvas/tasks/x"] {
            assert_eq!(task_at(location), Some("x"));
        }
        let uri = with_path(&question.uri, "/tasks/x").unwrap();
        assert_eq!(uri, "/tasks/x?token=t");
    }
}
