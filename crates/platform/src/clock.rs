//! The time.

use std::time::Duration;

use async_trait::async_trait;

/// Reads the time, and waits.
#[async_trait(?Send)]
pub trait Clock {
    /// Reads the seconds since the Unix epoch.
    fn unix_seconds(&self) -> i64;

    /// Resolves when this much time has passed.
    async fn sleep(&self, duration: Duration);
}

/// The clock of the machine, or of the host of a component.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait(?Send)]
impl Clock for SystemClock {
    #[cfg(target_arch = "wasm32")]
    async fn sleep(&self, duration: Duration) {
        crate::sleep::sleep(duration).await;
    }

    /// Blocks the thread: natively this clock serves tests without a runtime, and the local host on threads that may
    /// block.
    #[cfg(not(target_arch = "wasm32"))]
    async fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }

    fn unix_seconds(&self) -> i64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |elapsed| {
                i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
            })
    }
}
