//! The wait before the next try.

use std::time::Duration;

/// Doubles from a first wait to a longest one. A random part, half at most, is taken off each wait, so that many tasks
/// that wait for the same thing do not try again at the same moment.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// Begins with the wait `first`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self {
            next: first,
            longest,
        }
    }

    /// The waits between requests to the app.
    pub(crate) fn app() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(2))
    }

    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.longest);
        wait.mul_f64(rand::random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_longest() {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(150));
        for longest in [50, 100, 150, 150] {
            let longest = Duration::from_millis(longest);
            let wait = backoff.next();
            assert!(wait <= longest && wait >= longest / 2, "{wait:?}");
        }
    }
}
