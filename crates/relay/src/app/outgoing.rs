//! The notices that wait to be published on Redis.
//!
//! A notice of updates is never dropped: one that does not fit becomes a bare rev, which makes the other relays fetch
//! what they miss. Only the latest count of a room's sockets is kept. The number of rooms bounds both.

use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::Notify;

/// The most notices that wait with their updates in them.
const NOTICES: usize = 4096;

/// The most bytes of those notices.
const BYTES: usize = 64 * 1024 * 1024;

/// The notices of a relay, on their way to Redis.
pub(crate) struct Outgoing {
    /// The id of this relay.
    relay: Arc<str>,
    queue: Mutex<Queue>,
    arrived: Notify,
}

#[derive(Default)]
struct Queue {
    /// The encoded notices, each with its project.
    notices: VecDeque<(Arc<str>, Vec<u8>)>,
    bytes: usize,
    /// The rev of each room whose notices did not fit.
    revs: HashMap<Arc<str>, u64>,
    /// The number of sockets that this relay has in each of these rooms.
    counts: HashMap<Arc<str>, u32>,
}

impl Outgoing {
    /// An empty queue of this relay.
    pub(crate) fn new(relay: Arc<str>) -> Self {
        Self {
            relay,
            queue: Mutex::default(),
            arrived: Notify::new(),
        }
    }

    /// Takes a notice of updates, the newest of which has this rev.
    pub(crate) fn updates(&self, project: &Arc<str>, notice: Vec<u8>, last_rev: u64) {
        self.queue.lock().updates(project, notice, last_rev);
        self.arrived.notify_one();
    }

    /// Takes the number of sockets in a room.
    pub(crate) fn count(&self, project: &Arc<str>, count: u32) {
        self.queue.lock().counts.insert(project.clone(), count);
        self.arrived.notify_one();
    }

    /// Waits for the next message, and returns it with its project: updates first, counts last.
    pub(crate) async fn next(&self) -> (Arc<str>, Vec<u8>) {
        loop {
            let arrived = self.arrived.notified();
            if let Some(next) = self.queue.lock().take(&self.relay) {
                return next;
            }
            arrived.await;
        }
    }
}

impl Queue {
    fn updates(&mut self, project: &Arc<str>, notice: Vec<u8>, last_rev: u64) {
        let fits = self.notices.len() < NOTICES && self.bytes + notice.len() <= BYTES;
        if fits && !self.revs.contains_key(project) {
            self.bytes += notice.len();
            self.notices.push_back((project.clone(), notice));
        } else {
            let rev = self.revs.entry(project.clone()).or_default();
            *rev = last_rev.max(*rev);
        }
    }

    fn take(&mut self, relay: &str) -> Option<(Arc<str>, Vec<u8>)> {
        if let Some((project, notice)) = self.notices.pop_front() {
            self.bytes -= notice.len();
            return Some((project, notice));
        }
        if let Some(project) = self.revs.keys().next().cloned() {
            let rev = self.revs.remove(&project).unwrap_or_default();
            return Some((project, head(relay, rev)));
        }
        let project = self.counts.keys().next().cloned()?;
        let count = self.counts.remove(&project).unwrap_or_default();
        let notice = wire::Notice::Peers {
            relay: relay.to_owned(),
            count,
        };
        Some((project, wire::encode(&notice)))
    }
}

/// Encodes a notice that carries only the rev that a room has reached.
pub(crate) fn head(relay: &str, rev: u64) -> Vec<u8> {
    wire::encode(&wire::Notice::Updates {
        origin: relay.to_owned(),
        first_rev: rev,
        last_rev: rev,
        payloads: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(queue: &mut Queue) -> Vec<(String, wire::Notice)> {
        std::iter::from_fn(|| queue.take("r"))
            .map(|(project, notice)| (project.to_string(), wire::decode(&notice).unwrap()))
            .collect()
    }

    fn bare(rev: u64) -> wire::Notice {
        wire::decode(&head("r", rev)).unwrap()
    }

    /// Checks that no update is lost while ten thousand rooms publish their counts, as after a lost connection.
    #[test]
    fn counts_push_no_update_out() {
        let mut queue = Queue::default();
        for room in 0..10_000 {
            queue.counts.insert(format!("{room}").into(), 1);
        }
        queue.updates(&"p".into(), head("r", 7), 7);
        queue.counts.insert("5".into(), 2);
        let told = all(&mut queue);
        assert_eq!(told.first(), Some(&("p".into(), bare(7))));
        assert_eq!(told.len(), 10_001);
        let of_five = wire::Notice::Peers {
            relay: "r".into(),
            count: 2,
        };
        assert!(told.contains(&("5".into(), of_five)));
    }

    #[test]
    fn what_does_not_fit_is_published_as_a_rev() {
        let mut queue = Queue::default();
        let (full, late): (Arc<str>, Arc<str>) = ("full".into(), "late".into());
        for rev in 1..=NOTICES as u64 {
            queue.updates(&full, head("r", rev), rev);
        }
        for rev in [3, 5, 4] {
            queue.updates(&late, head("r", rev), rev);
        }
        // After a room is behind, the updates that it stores next must not overtake its rev.
        queue.take("r").unwrap();
        queue.updates(&late, head("r", 6), 6);
        let told = all(&mut queue);
        assert_eq!(told.len(), NOTICES);
        assert_eq!(told.last(), Some(&("late".into(), bare(6))));
        assert_eq!(queue.bytes, 0);

        queue.updates(&full, vec![0; BYTES - 1], 1);
        queue.updates(&late, vec![0; 2], 8);
        assert_eq!(queue.notices.len(), 1);
        assert_eq!(queue.revs.get(&late), Some(&8));
    }
}
