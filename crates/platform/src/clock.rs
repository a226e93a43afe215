//! The time.

/// Tells the time.
pub trait Clock {
    /// Seconds since the Unix epoch.
    fn unix_seconds(&self) -> i64;
}

/// The clock of the machine, or of the host of a component.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn unix_seconds(&self) -> i64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |elapsed| {
                i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
            })
    }
}
