//! The question of a request that waits.

use crate::waiting::waiters::Subject;
use http::{HeaderName, Method, Request, Uri};
use percent_encoding::percent_decode_str;
use std::time::Duration;

/// The header in which a client says how long it would wait (RFC 7240).
pub(crate) const PREFER: HeaderName = HeaderName::from_static("prefer");

/// The parameter in which a client says so.
const WAIT: &str = "wait";

/// The longest id of a task, in characters.
const MAX_ID: usize = 128;

/// A task, and how long a client waits for it to change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) task: String,
    pub(crate) time: Duration,
}

impl Wait {
    /// The wait that a request asks for; `None` if it asks for none, or for one that the app must refuse.
    pub(crate) fn of<B>(request: &Request<B>) -> Option<Self> {
        let task = id(request.uri().path().strip_prefix("/tasks/")?)?;
        let time = asked_time(request.uri())??;
        (request.method() == Method::GET).then_some(Self { task, time })
    }
}

/// The id that a part of a path names, which the app percent-decodes; `None` if it is not an id.
fn id(part: &str) -> Option<String> {
    let is_of_ids = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let text = percent_decode_str(part).decode_utf8().ok()?;
    ((1..=MAX_ID).contains(&text.len()) && text.bytes().all(is_of_ids)).then(|| text.into_owned())
}

/// The subject of a request for a stream of events; `None` if the request asks for none.
pub(crate) fn streamed<B>(request: &Request<B>) -> Option<Subject> {
    let path = request.uri().path().strip_suffix("/events")?;
    let subject = if let Some(task) = path.strip_prefix("/tasks/") {
        id(task).map(Subject::Task)
    } else {
        let project = path.strip_prefix("/projects/")?.strip_suffix("/tasks")?;
        id(project).map(Subject::Project)
    };
    subject.filter(|_| request.method() == Method::GET)
}

/// The wait of a client that posts a task for the end of that task.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WaitForEnd {
    pub(crate) time: Duration,
    /// Says whether the client asked by a header `Prefer`, so that the answer says that it was heeded.
    pub(crate) is_preference: bool,
}

impl WaitForEnd {
    /// The wait that a request for a new task asks for; `None` if it asks for none, or for one that the app must refuse.
    pub(crate) fn of<B>(request: &Request<B>) -> Option<Self> {
        if request.method() != Method::POST || request.uri().path() != "/tasks" {
            return None;
        }
        if let Some(time) = asked_time(request.uri()) {
            return time.map(|time| Self {
                time,
                is_preference: false,
            });
        }
        let headers = request.headers().get_all(PREFER);
        let mut preferred = headers
            .iter()
            .filter_map(|value| std::str::from_utf8(value.as_bytes()).ok());
        preferred
            .find_map(wire::preferred_wait)
            .map(|seconds| Self {
                time: Duration::from_secs(seconds),
                is_preference: true,
            })
    }
}

/// The time in the first parameter `wait`, read as the app reads it; `None` if there is none, and `Some(None)` if the
/// relay does not hold a request for that time.
fn asked_time(uri: &Uri) -> Option<Option<Duration>> {
    let query = uri.query().unwrap_or_default();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let (_, seconds) = pairs.find(|(name, _)| name == WAIT)?;
    let seconds = seconds.parse().ok();
    let held = seconds.filter(|seconds| (1..=wire::LONGEST_WAIT).contains(seconds));
    Some(held.map(Duration::from_secs))
}

/// The target of a request without its `wait`, however that is written; `None` if there is none, or one that the app
/// refuses at once.
pub(crate) fn at_once(uri: &Uri) -> Option<String> {
    asked_time(uri)??;
    let is_wait = |pair: &&str| {
        let mut pairs = form_urlencoded::parse(pair.as_bytes());
        pairs.next().is_some_and(|(name, _)| name == WAIT)
    };
    let pairs = uri.query().unwrap_or_default().split('&');
    let kept: Vec<&str> = pairs
        .filter(|pair| !pair.is_empty() && !is_wait(pair))
        .collect();
    Some(if kept.is_empty() {
        uri.path().to_owned()
    } else {
        format!("{}?{}", uri.path(), kept.join("&"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_app_would_hold_waits() {
        let of = |target: &str| {
            let wait = Wait::of(&Request::get(target).body(()).unwrap())?;
            Some((wait.task, wait.time.as_secs()))
        };
        assert_eq!(of("/tasks/task_1-a?wait=30"), Some(("task_1-a".into(), 30)));
        assert_eq!(of("/tasks/t?a=b&wait=50"), Some(("t".into(), 50)));
        for target in [
            "/tasks/%74?wait=8",
            "/tasks/t?%77ait=8",
            "/tasks/t?wait=%38",
            "/tasks/t?wait=8&wait=51",
        ] {
            assert_eq!(of(target), Some(("t".into(), 8)), "{target}");
        }
        for target in [
            "/tasks/t",
            "/tasks/t?wait=0",
            "/tasks/t?wait=51",
            "/tasks/t?wait=-1",
            "/tasks/t?wait=",
            "/tasks/t?waits=1",
            "/tasks/t/cancel?wait=1",
            "/tasks/?wait=1",
            "/tasks/%2f?wait=1",
            "/tasks/%7?wait=1",
            "/tasks/t?wait=51&wait=1",
            "/sync/t?wait=1",
        ] {
            assert_eq!(of(target), None, "{target}");
        }
        let posted = Request::post("/tasks/t?wait=1").body(()).unwrap();
        assert_eq!(Wait::of(&posted), None);
    }

    #[test]
    fn a_stream_is_of_a_task_or_of_a_project() {
        let of = |target: &str| streamed(&Request::get(target).body(()).unwrap());
        assert_eq!(
            of("/tasks/t-1/events?token=x"),
            Some(Subject::Task("t-1".into()))
        );
        assert_eq!(of("/tasks/%74/events"), Some(Subject::Task("t".into())));
        assert_eq!(
            of("/projects/p_1/tasks/events"),
            Some(Subject::Project("p_1".into()))
        );
        for other in [
            "/tasks/events",
            "/tasks//events",
            "/tasks/%2f/events",
            "/projects/p/events",
            "/projects/p/q/tasks/events",
            "/events",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
        let head = Request::head("/tasks/t/events").body(()).unwrap();
        assert_eq!(streamed(&head), None);
    }

    #[test]
    fn a_client_that_posts_a_task_may_wait_for_its_end() {
        let of = |target: &str, prefer: &str| {
            let request = Request::post(target).header(PREFER, prefer);
            let wait = WaitForEnd::of(&request.body(()).unwrap())?;
            Some((wait.time.as_secs(), wait.is_preference))
        };
        for (target, prefer, wait) in [
            ("/tasks", "wait=30", Some((30, true))),
            ("/tasks", "wait=90", Some((50, true))),
            ("/tasks?wait=30", "", Some((30, false))),
            // The address counts before the preference.
            ("/tasks?wait=2", "wait=30", Some((2, false))),
            ("/tasks?%77ait=7", "", Some((7, false))),
            ("/tasks?wait=51", "wait=30", None),
            ("/tasks?wait=0", "wait=30", None),
            ("/tasks", "return=minimal", None),
            ("/tasks/t/retry", "wait=30", None),
        ] {
            assert_eq!(of(target, prefer), wait, "{target} {prefer}");
        }
        let read = Request::get("/tasks?wait=30").body(()).unwrap();
        assert_eq!(WaitForEnd::of(&read), None);
    }

    #[test]
    fn the_app_is_asked_without_the_wait() {
        for (target, asked) in [
            ("/tasks/t?wait=30", Some("/tasks/t")),
            ("/tasks/t?%77ait=%38&wait=51", Some("/tasks/t")),
            ("/tasks/t?a=b&wait=30&token=x", Some("/tasks/t?a=b&token=x")),
            ("/tasks/t?waits=1", None),
            // The app refuses it.
            ("/tasks/t?wait=51", None),
        ] {
            let target = target.parse().unwrap();
            assert_eq!(at_once(&target).as_deref(), asked, "{target}");
        }
    }
}
