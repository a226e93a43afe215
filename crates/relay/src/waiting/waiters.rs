//! The requests that wait, by their tasks.

use crate::metrics::Metrics;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Notify;

/// All requests that wait.
pub(crate) struct Waiters {
    metrics: Arc<Metrics>,
    tasks: Mutex<HashMap<String, Vec<Arc<Ear>>>>,
}

/// What a request that waits hears.
#[derive(Default)]
struct Ear {
    /// The mark of the task when the app was last asked; `None` before the first answer.
    mark: Mutex<Option<String>>,
    changed: Notify,
}

/// A request that waits. Dropping it ends the wait.
pub(crate) struct Waiter {
    waiters: Arc<Waiters>,
    task: String,
    ear: Arc<Ear>,
}

impl Waiters {
    /// No request waits.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            tasks: Mutex::default(),
        }
    }

    /// A request begins to wait. From now on it hears of every change of the task, so the app is asked after this.
    pub(crate) fn enter(self: &Arc<Self>, task: &str) -> Waiter {
        let ear = Arc::new(Ear::default());
        let mut tasks = self.tasks.lock();
        tasks.entry(task.to_owned()).or_default().push(ear.clone());
        self.metrics.waiting.add(1);
        Waiter {
            waiters: self.clone(),
            task: task.to_owned(),
            ear,
        }
    }

    /// The app has published a change of a task ([`wire::TASK_CHANGES`]).
    pub(crate) fn hear(&self, message: &[u8]) {
        let change: Result<serde_json::Value, _> = serde_json::from_slice(message);
        if let Ok(change) = change
            && let Some(task) = change.get("task_id").and_then(serde_json::Value::as_str)
        {
            self.wake(task);
        }
    }

    /// A task may have changed.
    fn wake(&self, task: &str) {
        let tasks = self.tasks.lock();
        for ear in tasks.get(task).into_iter().flatten() {
            ear.changed.notify_one();
        }
    }

    /// The tasks that are waited for.
    pub(crate) fn tasks(&self) -> Vec<String> {
        self.tasks.lock().keys().cloned().collect()
    }

    /// The app says that a task has this mark; `None` if it is gone. Who knows another one is woken.
    pub(crate) fn compare(&self, task: &str, mark: Option<&str>) {
        let tasks = self.tasks.lock();
        for ear in tasks.get(task).into_iter().flatten() {
            let known = ear.mark.lock();
            if known.is_some() && known.as_deref() != mark {
                ear.changed.notify_one();
            }
        }
    }
}

impl Waiter {
    /// The app has told the task's mark.
    pub(crate) fn saw(&self, mark: &str) {
        *self.ear.mark.lock() = Some(mark.to_owned());
    }

    /// Waits until the task may have changed since the last time.
    pub(crate) async fn changed(&self) {
        self.ear.changed.notified().await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.waiters.metrics.waiting.sub(1);
        let mut tasks = self.waiters.tasks.lock();
        if let Some(ears) = tasks.get_mut(&self.task) {
            ears.retain(|ear| !Arc::ptr_eq(ear, &self.ear));
            if ears.is_empty() {
                tasks.remove(&self.task);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn a_waiter_hears_of_its_task_and_leaves_nothing_behind() {
        let waiters = Arc::new(Waiters::new(Arc::default()));
        let (first, second, other) = (waiters.enter("a"), waiters.enter("a"), waiters.enter("b"));
        let hears = |waiter: &Waiter| waiter.changed().now_or_never().is_some();
        // A change between the question and the wait isn't lost.
        waiters.hear(br#"{"task_id":"a","status":"failed"}"#);
        waiters.hear(b"nonsense");
        assert!(hears(&first) && hears(&second) && !hears(&other));
        assert!(!hears(&first));
        // Each knows its own mark.
        first.saw("1");
        second.saw("2");
        waiters.compare("a", Some("2"));
        assert!(hears(&first) && !hears(&second));
        waiters.compare("a", None);
        assert!(hears(&second));
        // Before the first answer there is nothing to compare.
        waiters.compare("b", Some("1"));
        assert!(!hears(&other));
        assert_eq!(waiters.metrics.waiting.get(), 3);
        drop((first, second, other));
        assert!(waiters.tasks().is_empty());
        assert_eq!(waiters.metrics.waiting.get(), 0);
    }
}
