//! The number of sockets in one room, over all relays.

use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// The other relays in one room. Each publishes how many sockets it has there when that changes, and at an interval. A
/// relay that falls silent is forgotten.
#[derive(Default)]
pub(crate) struct Peers {
    /// The count that each other relay has sent last, and when, by the relay's id.
    others: HashMap<String, (u32, Instant)>,
}

impl Peers {
    /// Notes the count of another relay. Returns whether that relay is new here and must get the count of this one.
    pub(crate) fn record(&mut self, relay: String, count: u32) -> bool {
        if count == 0 {
            self.others.remove(&relay);
            return false;
        }
        self.others.insert(relay, (count, Instant::now())).is_none()
    }

    /// Returns whether another relay has published its count within `expiry`.
    pub(crate) fn has_others(&mut self, expiry: Duration) -> bool {
        self.forget_silent(expiry);
        !self.others.is_empty()
    }

    /// Adds `own` to the counts that other relays have published within `expiry`.
    pub(crate) fn count(&mut self, own: usize, expiry: Duration) -> u64 {
        self.forget_silent(expiry);
        let counts = self.others.values().map(|(count, _)| u64::from(*count));
        own as u64 + counts.sum::<u64>()
    }

    fn forget_silent(&mut self, expiry: Duration) {
        self.others
            .retain(|_, (_, received)| received.elapsed() < expiry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_relays_that_have_published_lately() {
        let expiry = Duration::from_secs(30);
        let mut peers = Peers::default();
        assert_eq!(peers.count(2, expiry), 2);
        assert!(!peers.has_others(expiry));
        assert!(peers.record("b".into(), 3));
        assert!(peers.has_others(expiry));
        assert!(!peers.record("b".into(), 4));
        assert!(peers.record("c".into(), 1));
        assert_eq!(peers.count(2, expiry), 7);
        assert!(!peers.record("c".into(), 0));
        assert_eq!(peers.count(2, expiry), 6);
        // A relay that was silent for too long is forgotten, and stays forgotten.
        assert_eq!(peers.count(2, Duration::ZERO), 2);
        assert_eq!(peers.count(2, expiry), 2);
    }
}
