//! A thread of low priority for guests that compute for a long time, so that guests for which a client waits go first.

use std::future::Future;

use tokio::runtime::{Builder, Runtime};

/// The degree to which the system prefers other threads (`nice(2)`, from 0 to 19).
const NICENESS: i32 = 10;

/// The thread, and what runs on it.
pub(crate) struct Background(Option<Runtime>);

impl Background {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(crate) fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("merges")
            .on_thread_start(|| {
                if let Err(error) = rustix::process::nice(NICENESS) {
                    tracing::debug!("the priority of a thread cannot be lowered: {error}");
                }
            })
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Runs a task there.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            runtime.spawn(task);
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Dropping a runtime waits for its threads, and the thread that drops this may be one of them.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
