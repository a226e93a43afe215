//! Waits, always for a condition and always with a limit.

use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// The limit for a condition: far more than any condition needs, because the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The pause between two checks of a condition.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until the condition holds.
///
/// # Panics
/// If it does not hold within [`PATIENCE`].
pub async fn until(what: &str, condition: impl AsyncFnMut() -> bool) {
    until_within(PATIENCE, what, condition).await;
}

/// Waits until the condition holds, for at most `limit`.
///
/// # Panics
/// If it does not hold within `limit`.
pub async fn until_within(limit: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        sleep(LOOK).await;
    }
}

/// Waits for a future that should complete soon.
///
/// # Panics
/// If it does not complete within [`PATIENCE`].
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}
