//! The updates of one connection that are stored, but may wait for operations that the server lacks.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::time::Instant;
use wire::Waiting;

/// The most updates of one connection that are kept here. Beyond this number, the newest one stands for those before
/// it, because while one waits, so does what its sender wrote later.
const MOST: usize = 256;

/// The waiting updates of a connection, and those of which its client was last notified.
#[derive(Default)]
pub(crate) struct Waits {
    /// The updates by the number of their frame.
    updates: BTreeMap<u64, Wait>,
    reported: Vec<(u64, Waiting)>,
}

struct Wait {
    rev: u64,
    since: Instant,
}

impl Waits {
    /// Adds a stored update that may wait.
    pub(crate) fn add(&mut self, frame: u64, rev: u64) {
        if self.updates.len() >= MOST {
            self.updates.pop_last();
        }
        let since = Instant::now();
        self.updates.insert(frame, Wait { rev, since });
    }

    /// Returns whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.updates.is_empty()
    }

    /// The revs of those that were stored at least this long ago.
    pub(crate) fn due(&self, after: Duration) -> impl Iterator<Item = u64> {
        let due = self.updates.values();
        due.filter(move |wait| wait.since.elapsed() >= after)
            .map(|wait| wait.rev)
    }

    /// Takes the app's answer about the updates for which `was_asked` holds: those that wait, by their revs. Returns the
    /// whole list if the client last got another one.
    pub(crate) fn answered(
        &mut self,
        was_asked: impl Fn(u64) -> bool,
        waiting: &HashMap<u64, Waiting>,
    ) -> Option<&[(u64, Waiting)]> {
        self.updates
            .retain(|_, wait| !was_asked(wait.rev) || waiting.contains_key(&wait.rev));
        let reported = self.updates.iter();
        let reported =
            reported.filter_map(|(frame, wait)| Some((*frame, *waiting.get(&wait.rev)?)));
        let reported: Vec<_> = reported.collect();
        if reported == self.reported {
            return None;
        }
        self.reported = reported;
        Some(&self.reported)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(waits: &mut Waits, waiting: &[u64]) -> Option<Vec<u64>> {
        let waiting = waiting.iter().map(|rev| {
            let (peer, counter) = (7, 1);
            let rev = *rev;
            (rev, Waiting { rev, peer, counter })
        });
        let told = waits.answered(|rev| rev < 2000, &waiting.collect());
        told.map(|told| told.iter().map(|(frame, _)| *frame).collect())
    }

    #[test]
    fn a_client_is_notified_once_of_what_waits_and_of_its_end() {
        let mut waits = Waits::default();
        waits.add(3, 103);
        waits.add(4, 104);
        waits.add(5, 2000);
        assert_eq!(waits.due(Duration::ZERO).count(), 3);
        assert_eq!(waits.due(Duration::from_secs(5)).count(), 0);
        assert_eq!(answer(&mut waits, &[103]), Some(vec![3]));
        assert_eq!(answer(&mut waits, &[103]), None);
        assert_eq!(waits.due(Duration::ZERO).collect::<Vec<_>>(), [103, 2000]);
        assert_eq!(answer(&mut waits, &[]), Some(vec![]));
        assert_eq!(answer(&mut waits, &[]), None);
        assert!(!waits.is_empty(), "the last one was not asked about");
    }

    #[test]
    fn the_first_and_the_last_of_very_many_are_known() {
        let mut waits = Waits::default();
        for frame in 1..=1000 {
            waits.add(frame, frame);
        }
        let known: Vec<u64> = waits.due(Duration::ZERO).collect();
        assert_eq!(known.len(), MOST);
        assert_eq!((known[0], known[MOST - 1]), (1, 1000));
    }
}
