//! Draining: who has to hear of it, and who has to be waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Notify, watch};

/// The relay's way from serving to stopped. It goes one way only.
pub(crate) struct Shutdown {
    draining: watch::Sender<bool>,
    asked: Notify,
    alive: Arc<Alive>,
}

#[derive(Default)]
struct Alive {
    count: AtomicUsize,
    none: Notify,
}

/// Held by every connection for as long as it lives.
pub(crate) struct Guard(Arc<Alive>);

impl Drop for Guard {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_waiters();
        }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            draining: watch::Sender::new(false),
            asked: Notify::new(),
            alive: Arc::default(),
        }
    }
}

impl Shutdown {
    /// Somebody wants the relay to drain, see [`asked`](Self::asked).
    pub(crate) fn ask(&self) {
        self.asked.notify_one();
    }

    /// Resolves when somebody asked.
    pub(crate) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// From now on nothing new is taken.
    pub(crate) fn begin(&self) {
        self.draining.send_replace(true);
    }

    pub(crate) fn has_begun(&self) -> bool {
        *self.draining.borrow()
    }

    /// Resolves when the relay drains.
    pub(crate) async fn begun(&self) {
        // The sender is in self.
        let _ = self.draining.subscribe().wait_for(|begun| *begun).await;
    }

    /// A connection begins.
    pub(crate) fn guard(&self) -> Guard {
        self.alive.count.fetch_add(1, Ordering::AcqRel);
        Guard(self.alive.clone())
    }

    /// Resolves when no connection is left.
    pub(crate) async fn all_gone(&self) {
        loop {
            let none = self.alive.none.notified();
            if self.alive.count.load(Ordering::Acquire) == 0 {
                return;
            }
            none.await;
        }
    }
}
