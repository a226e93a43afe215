//! The question of a request that waits.

use http::{Method, Request, Uri};
use std::time::Duration;

/// The longest wait, in seconds. The app refuses longer ones.
const LONGEST: u64 = 50;

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
        let is_id = (1..=MAX_ID).contains(&task.len())
            && task
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        let seconds = pairs(request.uri()).find_map(|pair| pair.strip_prefix("wait="))?;
        let seconds: u64 = seconds.parse().ok()?;
        (is_id && request.method() == Method::GET && (1..=LONGEST).contains(&seconds)).then(|| {
            Self {
                task: task.to_owned(),
                time: Duration::from_secs(seconds),
            }
        })
    }
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
    fn the_app_is_asked_without_the_wait() {
        for (target, asked) in [
            ("/tasks/t?wait=30", "/tasks/t"),
            ("/tasks/t?a=b&wait=30&token=x", "/tasks/t?a=b&token=x"),
        ] {
            assert_eq!(at_once(&target.parse().unwrap()), asked);
        }
    }
}
