//! The requests that wait, by what they wait for.

use crate::metrics::Metrics;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The requests that wait.
pub(crate) struct Waiters {
    metrics: Arc<Metrics>,
    subjects: Mutex<HashMap<Subject, Vec<Arc<Subscription>>>>,
}

/// The subject for which a request waits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// A change of the task with this id.
    Task(String),
    /// A change of any task of this project.
    Project(String),
}

/// The part of a waiting request that learns of changes.
#[derive(Default)]
struct Subscription {
    /// The mark of the subject when the app was last asked; `None` before the first answer.
    mark: Mutex<Option<String>>,
    changed: Notify,
}

/// A request that waits. Dropping it ends the wait.
pub(crate) struct Waiter {
    waiters: Arc<Waiters>,
    subject: Subject,
    subscription: Arc<Subscription>,
    since: Instant,
}

impl Waiters {
    /// Makes a list without requests.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            subjects: Mutex::default(),
        }
    }

    /// Adds a request that waits. From now on it learns of every change of its subject, so the app is asked after this.
    pub(crate) fn enter(self: &Arc<Self>, subject: Subject) -> Waiter {
        let subscription = Arc::new(Subscription::default());
        let mut subjects = self.subjects.lock();
        let subscriptions = subjects.entry(subject.clone()).or_default();
        subscriptions.push(subscription.clone());
        self.metrics.waiting.add(1);
        Waiter {
            waiters: self.clone(),
            subject,
            subscription,
            since: Instant::now(),
        }
    }

    /// Passes on a change of a task that the app has published ([`wire::TASK_CHANGES`]).
    pub(crate) fn receive(&self, message: &[u8]) {
        let Ok(change) = serde_json::from_slice::<serde_json::Value>(message) else {
            return;
        };
        let text = |name| change.get(name).and_then(serde_json::Value::as_str);
        if let Some(task) = text("task_id") {
            self.wake(&Subject::Task(task.to_owned()));
        }
        if let Some(project) = text("project_id") {
            self.wake(&Subject::Project(project.to_owned()));
        }
    }

    /// Wakes the requests that wait for a subject, because it may have changed.
    fn wake(&self, subject: &Subject) {
        let subjects = self.subjects.lock();
        for subscription in subjects.get(subject).into_iter().flatten() {
            subscription.changed.notify_one();
        }
    }

    /// Lists the subjects for which requests wait.
    pub(crate) fn subjects(&self) -> Vec<Subject> {
        self.subjects.lock().keys().cloned().collect()
    }

    /// Compares a subject with the mark that the app has named; `None` if the subject is gone. Every waiter that knows
    /// another mark is woken.
    pub(crate) fn compare(&self, subject: &Subject, mark: Option<&str>) {
        let subjects = self.subjects.lock();
        for subscription in subjects.get(subject).into_iter().flatten() {
            let known = subscription.mark.lock();
            if known.is_some() && known.as_deref() != mark {
                subscription.changed.notify_one();
            }
        }
    }
}

impl Waiter {
    /// Notes the subject's mark, as the app has sent it.
    pub(crate) fn saw(&self, mark: &str) {
        *self.subscription.mark.lock() = Some(mark.to_owned());
    }

    /// Waits until the subject may have changed since the last time.
    pub(crate) async fn changed(&self) {
        self.subscription.changed.notified().await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let metrics = &self.waiters.metrics;
        metrics.waiting.sub(1);
        let waited = self.since.elapsed().as_secs_f64();
        metrics.histograms.wait_seconds.observe(waited);
        let mut subjects = self.waiters.subjects.lock();
        if let Some(subscriptions) = subjects.get_mut(&self.subject) {
            subscriptions.retain(|subscription| !Arc::ptr_eq(subscription, &self.subscription));
            if subscriptions.is_empty() {
                subjects.remove(&self.subject);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn a_waiter_learns_of_its_subjects_changes_and_leaves_nothing_behind() {
        let waiters = Arc::new(Waiters::new(Arc::default()));
        let task = |id: &str| Subject::Task(id.to_owned());
        let (a, b) = (task("a"), task("b"));
        let (first, second) = (waiters.enter(a.clone()), waiters.enter(a.clone()));
        let other = waiters.enter(b.clone());
        let all = waiters.enter(Subject::Project("p".into()));
        let hears = |waiter: &Waiter| waiter.changed().now_or_never().is_some();
        // A change between the question and the wait isn't lost.
        waiters.receive(br#"{"task_id":"a","project_id":"p","status":"failed"}"#);
        waiters.receive(br#"{"task_id":"p","project_id":"a"}"#);
        waiters.receive(b"nonsense");
        assert!(hears(&first) && hears(&second) && hears(&all) && !hears(&other));
        assert!(!hears(&first) && !hears(&all));
        // Each knows its own mark.
        first.saw("1");
        second.saw("2");
        waiters.compare(&a, Some("2"));
        assert!(hears(&first) && !hears(&second));
        waiters.compare(&a, None);
        assert!(hears(&second));
        // Before the first answer there is nothing to compare.
        waiters.compare(&b, Some("1"));
        assert!(!hears(&other));
        assert_eq!(waiters.metrics.waiting.get(), 4);
        drop((first, second, other, all));
        assert!(waiters.subjects().is_empty());
        assert_eq!(waiters.metrics.waiting.get(), 0);
    }
}
