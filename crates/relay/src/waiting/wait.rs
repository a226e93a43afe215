//! The question of a request that waits.

use crate::waiting::waiters::Subject;
use http::{HeaderName, Method, Request, Uri};
use std::time::Duration;

/// The header in which a client says how long it would wait (RFC 7240).
pub(crate) const PREFER: HeaderName = HeaderName::from_static("prefer");

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
        let task = request.uri().path().strip_prefix("/tasks/")?;
        let time = asked_time(request.uri())??;
        (is_id(task) && request.method() == Method::GET).then(|| Self {
            task: task.to_owned(),
            time,
        })
    }
}

fn is_id(text: &str) -> bool {
    let is_of_ids = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=MAX_ID).contains(&text.len()) && text.bytes().all(is_of_ids)
}

/// What a request for a stream of events is about; `None` if it asks for none.
pub(crate) fn streamed<B>(request: &Request<B>) -> Option<Subject> {
    let path = request.uri().path().strip_suffix("/events")?;
    let subject = if let Some(task) = path.strip_prefix("/tasks/") {
        is_id(task).then(|| Subject::Task(task.to_owned()))
    } else {
        let project = path.strip_prefix("/projects/")?.strip_suffix("/tasks")?;
        is_id(project).then(|| Subject::Project(project.to_owned()))
    };
    subject.filter(|_| request.method() == Method::GET)
}

/// How long the client that posts a task waits for its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WaitForEnd {
    pub(crate) time: Duration,
    /// Whether the client said so in a header `Prefer`, and is told that it was heeded.
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
        let mut preferred = headers.iter().filter_map(|value| value.to_str().ok());
        preferred
            .find_map(wire::preferred_wait)
            .map(|seconds| Self {
                time: Duration::from_secs(seconds),
                is_preference: true,
            })
    }
}

/// The time in the parameter `wait`; `None` if there is none, and `Some(None)` if the relay does not hold a request for
/// that time.
fn asked_time(uri: &Uri) -> Option<Option<Duration>> {
    let seconds = pairs(uri).find_map(|pair| pair.strip_prefix("wait="))?;
    let seconds = seconds.parse().ok();
    let held = seconds.filter(|seconds| (1..=wire::LONGEST_WAIT).contains(seconds));
    Some(held.map(Duration::from_secs))
}

/// The target of a request that waits, without its `wait`.
pub(crate) fn at_once(uri: &Uri) -> String {
    let kept: Vec<&str> = pairs(uri)
        .filter(|pair| !pair.starts_with("wait="))
        .collect();
    if kept.is_empty() {
        uri.path().to_owned()
    } else {
        format!("{}?{}", uri.path(), kept.join("&"))
    }
}

fn pairs(uri: &Uri) -> impl Iterator<Item = &str> {
    uri.query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
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
            "/tasks/t",
            "/tasks/t?wait=0",
            "/tasks/t?wait=51",
            "/tasks/t?wait=-1",
            "/tasks/t?wait=",
            "/tasks/t?waits=1",
            "/tasks/t/cancel?wait=1",
            "/tasks/?wait=1",
            "/tasks/%74?wait=1",
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
        assert_eq!(
            of("/projects/p_1/tasks/events"),
            Some(Subject::Project("p_1".into()))
        );
        for other in [
            "/tasks/events",
            "/tasks//events",
            "/tasks/%74/events",
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
    fn who_posts_a_task_may_wait_for_its_end() {
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
            ("/tasks/t?wait=30", "/tasks/t"),
            ("/tasks/t?a=b&wait=30&token=x", "/tasks/t?a=b&token=x"),
        ] {
            assert_eq!(at_once(&target.parse().unwrap()), asked);
        }
    }
}
