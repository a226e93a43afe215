//! The order in which a room's updates are seen.
//!
//! Invariants:
//! - `head` is the rev up to which everything was given to the sockets that follow the room; it only grows. Revs are
//!   dense, so an update beyond `head + 1` is held until the gap is filled.
//! - The recent updates cover everything beyond `floor` up to `head`.

use crate::room::stored::Stored;
use std::collections::{BTreeMap, VecDeque};

/// The number of comparisons in a row that must find the app's log shorter than what was delivered, before the relay
/// believes that the log was set back.
const SET_BACK_AFTER: u8 = 3;

/// The most updates that follow on a state that was read before. If there are more, the state is read again, because a
/// client imports one state far quicker than many updates.
const FEW_UPDATES: u64 = 128;

/// The limits of the recent updates that a room keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recent {
    pub(crate) updates: usize,
    pub(crate) bytes: usize,
}

/// The newest part of a project's log, as one relay knows it.
pub(crate) struct Log {
    keep: Recent,
    /// The newest rev that was delivered; `None` before the first state was read.
    head: Option<u64>,
    /// The newest rev that the relay knows of.
    known: u64,
    recent: VecDeque<Stored>,
    recent_bytes: usize,
    floor: u64,
    /// The updates that came too early, by their first rev. Their limits are those of `recent`; what does not fit is
    /// fetched later.
    held: BTreeMap<u64, Stored>,
    held_bytes: usize,
    /// A task is fetching what is missing.
    is_fetching: bool,
    has_changed: bool,
    set_back: u8,
}

impl Log {
    /// A log of which nothing is known.
    pub(crate) fn new(keep: Recent) -> Self {
        Self {
            keep,
            head: None,
            known: 0,
            recent: VecDeque::new(),
            recent_bytes: 0,
            floor: 0,
            held: BTreeMap::new(),
            held_bytes: 0,
            is_fetching: false,
            has_changed: false,
            set_back: 0,
        }
    }

    /// The newest rev that was delivered; `None` before the first state was read.
    pub(crate) fn head(&self) -> Option<u64> {
        self.head
    }

    /// The newest rev that the relay knows of.
    pub(crate) fn known(&self) -> u64 {
        self.known
    }

    /// Returns whether anything was stored since the room exists.
    pub(crate) fn has_changed(&self) -> bool {
        self.has_changed
    }

    /// Notes that the log has reached this rev.
    pub(crate) fn note(&mut self, rev: u64) {
        self.known = self.known.max(rev);
    }

    /// Returns whether the updates after `rev` are all in memory and few, and no newer ones are known of.
    pub(crate) fn covers(&self, rev: u64) -> bool {
        match self.head {
            Some(head) => {
                self.floor <= rev && self.known <= head && head.saturating_sub(rev) <= FEW_UPDATES
            }
            // No socket follows the room yet. The one that read this state is about to.
            None => self.known <= rev,
        }
    }

    /// The recent updates, oldest first, if they reach back to `rev`.
    pub(crate) fn since(&self, rev: u64) -> Option<impl Iterator<Item = &Stored>> {
        (rev >= self.floor).then(|| self.recent.iter())
    }

    /// Begins at `rev`, the rev of the first state that was read. Held updates may follow right on it; no socket
    /// follows the room yet, so they are not returned.
    pub(crate) fn begin(&mut self, rev: u64) {
        if self.head.is_none() {
            self.head = Some(rev);
            self.floor = rev;
            self.held_bytes = 0;
            let held = std::mem::take(&mut self.held);
            self.apply(held.into_values());
        }
    }

    /// Takes updates, and holds those that come too early. Returns the ones that are next, in their order; those that
    /// were delivered before are skipped.
    pub(crate) fn apply(&mut self, updates: impl IntoIterator<Item = Stored>) -> Vec<Stored> {
        let mut next: Vec<Stored> = Vec::new();
        for update in updates {
            self.note(update.last());
            self.has_changed = true;
            let Some(head) = self.head else {
                self.hold(update);
                continue;
            };
            if update.last() <= head {
                continue;
            }
            if update.first() > head + 1 {
                self.hold(update);
                continue;
            }
            self.advance(update, &mut next);
            while let Some(entry) = self.held.first_entry()
                && Some(*entry.key()) <= self.head.map(|head| head + 1)
            {
                let update = entry.remove();
                self.held_bytes -= update.bytes();
                if Some(update.last()) > self.head {
                    self.advance(update, &mut next);
                }
            }
        }
        next
    }

    fn hold(&mut self, update: Stored) {
        let bytes = update.bytes();
        if self.held.len() < self.keep.updates && self.held_bytes + bytes <= self.keep.bytes {
            self.held_bytes += bytes;
            if let Some(replaced) = self.held.insert(update.first(), update) {
                self.held_bytes -= replaced.bytes();
            }
        }
    }

    fn advance(&mut self, update: Stored, next: &mut Vec<Stored>) {
        self.head = Some(update.last());
        next.push(update.clone());
        self.recent_bytes += update.bytes();
        self.recent.push_back(update);
        while self.recent.len() > self.keep.updates || self.recent_bytes > self.keep.bytes {
            let Some(oldest) = self.recent.pop_front() else {
                break;
            };
            self.recent_bytes -= oldest.bytes();
            self.floor = oldest.last();
        }
    }

    fn has_gap(&self) -> bool {
        self.head.is_some_and(|head| self.known > head)
    }

    /// Returns whether updates are missing and no task is fetching them. The caller then is that task, until
    /// [`missing_after`](Self::missing_after) says `None`.
    pub(crate) fn start_fetching(&mut self) -> bool {
        let start = !self.is_fetching && self.has_gap();
        self.is_fetching |= start;
        start
    }

    /// The rev after which updates are missing. If none are, or `is_wanted` is false, fetching ends.
    pub(crate) fn missing_after(&mut self, is_wanted: bool) -> Option<u64> {
        if !self.has_gap() || !is_wanted {
            self.is_fetching = false;
            return None;
        }
        self.head
    }

    /// Notes that the app's log was read to its end, and that `known` was the newest known rev before that. If the relay
    /// has learned of no newer rev since, a rev beyond the end was wrong and is forgotten.
    pub(crate) fn was_read(&mut self, known: u64) {
        if self.known == known {
            let held = self.held.values().map(Stored::last).max();
            self.known = self.head.unwrap_or(0).max(held.unwrap_or(0));
        }
    }

    /// Takes the app's answer `rev` to the question which rev the log has, asked when `head` was delivered. Returns
    /// whether the log has been shorter than that for long enough to believe that it was set back.
    pub(crate) fn compare(&mut self, head: u64, rev: u64) -> bool {
        self.set_back = if rev < head {
            self.set_back.saturating_add(1)
        } else {
            0
        };
        if self.set_back >= SET_BACK_AFTER {
            return true;
        }
        self.note(rev);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::frame::Frame;

    fn update(rev: u64) -> Stored {
        let frame = Frame::binary(vec![0; 10].into());
        Stored::appended(&frame, 0, rev)
    }

    /// A log that keeps four updates and begins at rev 10.
    fn log() -> Log {
        let mut log = Log::new(Recent {
            updates: 4,
            bytes: 1000,
        });
        log.begin(10);
        log
    }

    fn apply(log: &mut Log, revs: &[u64]) -> Vec<u64> {
        let next = log.apply(revs.iter().copied().map(update));
        next.iter().map(Stored::last).collect()
    }

    #[test]
    fn updates_are_delivered_in_order_and_once() {
        let mut log = log();
        for (given, next) in [
            (&[11][..], &[11][..]),
            (&[11, 10], &[]),
            (&[14, 13], &[]),
            (&[12], &[12, 13, 14]),
            (&[16], &[]),
            (&[15, 17], &[15, 16, 17]),
        ] {
            assert_eq!(apply(&mut log, given), next, "{given:?}");
        }
        assert_eq!(log.head(), Some(17));
    }

    #[test]
    fn updates_before_the_first_state_follow_on_it() {
        let mut log = Log::new(Recent {
            updates: 4,
            bytes: 1000,
        });
        assert!(apply(&mut log, &[9, 12, 11]).is_empty());
        assert!(!log.start_fetching(), "nothing is known to be missing");
        log.begin(10);
        assert_eq!(log.head(), Some(12));
        let since: Vec<u64> = log.since(10).unwrap().map(Stored::last).collect();
        assert_eq!(since, [11, 12]);
    }

    #[test]
    fn one_task_fetches_a_gap_until_it_is_filled() {
        let mut log = log();
        assert!(!log.start_fetching());
        apply(&mut log, &[13]);
        assert!(log.start_fetching());
        log.note(14);
        assert!(!log.start_fetching(), "a task is fetching already");
        assert_eq!(log.missing_after(true), Some(10));
        apply(&mut log, &[11, 12]);
        assert_eq!(log.missing_after(true), Some(13));
        log.was_read(14);
        assert_eq!(log.known(), 13, "the log ends there, so 14 was wrong");
        assert_eq!(log.missing_after(true), None);
        log.note(14);
        assert!(log.start_fetching());
        assert_eq!(log.missing_after(false), None, "no socket wants it");
        assert!(log.start_fetching());
    }

    #[test]
    fn memory_is_bounded() {
        let mut log = log();
        apply(&mut log, &[11, 12, 13, 14, 15]);
        assert!(log.since(10).is_none());
        assert_eq!(log.since(11).unwrap().count(), 4);
        assert!(log.covers(11) && !log.covers(10));
        apply(&mut log, &[17, 18, 19, 20, 21, 22]);
        assert_eq!(log.held.len(), 4);
        assert!(!log.covers(11), "updates are missing");
        // What was not held is fetched.
        assert_eq!(apply(&mut log, &[16]), [16, 17, 18, 19, 20]);
        assert_eq!(log.held_bytes, 0);
        assert_eq!(log.missing_after(true), Some(20));
    }

    #[test]
    fn a_log_that_stays_shorter_was_set_back() {
        let mut log = log();
        for (rev, is_set_back) in [(9, false), (9, false), (10, false), (9, false), (8, false)] {
            assert_eq!(log.compare(10, rev), is_set_back, "{rev}");
        }
        // Sockets that close slowly let it be compared on and on.
        for _ in 0..300 {
            assert!(log.compare(10, 9));
        }
    }
}
