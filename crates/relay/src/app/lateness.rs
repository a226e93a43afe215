//! The rule by which an answer is late, so that the batch is sent once more.

use std::collections::VecDeque;
use std::time::Duration;

/// The number of recent answers from which the usual duration is computed.
const RECENT: usize = 100;

/// An answer is late after this many times the usual duration, and never before [`EARLIEST`].
const TIMES: u32 = 10;
const EARLIEST: Duration = Duration::from_millis(250);

/// The number of batches of which one may be sent once more.
const ONE_IN: u32 = 20;

/// The most repeats that may be saved up.
const SAVED: u32 = 5;

/// The durations of recent appends, and the repeats that they allow.
#[derive(Default)]
pub(crate) struct Lateness {
    recent: VecDeque<Duration>,
    /// The repeats that are allowed now, times [`ONE_IN`].
    credit: u32,
}

impl Lateness {
    /// Notes how long an append took.
    pub(crate) fn took(&mut self, duration: Duration) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(duration);
        self.credit = (self.credit + 1).min(SAVED * ONE_IN);
    }

    /// The time after which an answer is late.
    pub(crate) fn late_after(&self) -> Duration {
        let mut recent: Vec<Duration> = self.recent.iter().copied().collect();
        let middle = recent.len() / 2;
        if recent.is_empty() {
            return EARLIEST;
        }
        let (_, median, _) = recent.select_nth_unstable(middle);
        EARLIEST.max(*median * TIMES)
    }

    /// Takes the right to send a batch once more, if there is one.
    pub(crate) fn take_repeat(&mut self) -> bool {
        let left = self.credit.checked_sub(ONE_IN);
        self.credit = left.unwrap_or(self.credit);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_late_after_ten_times_the_usual() {
        let mut lateness = Lateness::default();
        assert_eq!(lateness.late_after(), EARLIEST);
        for _ in 0..60 {
            lateness.took(Duration::from_millis(1));
        }
        assert_eq!(lateness.late_after(), EARLIEST);
        for _ in 0..49 {
            lateness.took(Duration::from_millis(80));
        }
        assert_eq!(lateness.late_after(), EARLIEST, "most are quick");
        for _ in 0..2 {
            lateness.took(Duration::from_millis(80));
        }
        assert_eq!(lateness.late_after(), Duration::from_millis(800));
        for _ in 0..RECENT {
            lateness.took(Duration::from_millis(1));
        }
        assert_eq!(
            lateness.late_after(),
            EARLIEST,
            "the old ones are forgotten"
        );
    }

    #[test]
    fn one_batch_in_twenty_is_sent_once_more() {
        let mut lateness = Lateness::default();
        assert!(!lateness.take_repeat());
        let mut repeats = 0;
        for _ in 0..1000 {
            lateness.took(Duration::from_millis(1));
            repeats += u32::from(lateness.take_repeat());
        }
        assert_eq!(repeats, 50);
        for _ in 0..1000 {
            lateness.took(Duration::from_millis(1));
        }
        let saved = (0..100).filter(|_| lateness.take_repeat()).count();
        assert_eq!(saved, SAVED as usize, "a quiet time does not save up more");
    }
}
