//! The pace of ticks if the app's host counts requests: every hour without a reason, and with one no faster than what
//! is left of a month's requests allows.

use std::time::Duration;

use tokio::time::Instant;

/// The length of a month.
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

/// The time that a reason counts after it has ended, because projections, notifications and compactions may follow.
const REASON_LASTS: Duration = Duration::from_secs(300);

/// The longest pause, because the app may have something to do of which this relay does not know.
const LONGEST: Duration = Duration::from_secs(3600);

/// The shortest pause.
const SHORTEST: Duration = Duration::from_secs(10);

/// The state by which a relay decides when to tick.
#[derive(Debug)]
pub(crate) struct Thrift {
    /// The most requests of a month.
    most: u64,
    month_began: Instant,
    /// The requests that were sent when the month began.
    sent_before: u64,
    last_reason: Option<Instant>,
    last_tick: Option<Instant>,
}

/// The facts on which a tick depends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// The number of requests that were sent to the app since the start of the relay.
    pub(crate) sent: u64,
    /// Says whether there is a reason: a socket, a request of a client since the last look, or an open task.
    pub(crate) reason: bool,
}

impl Thrift {
    /// Begins a month, in which the relay may send `most` requests.
    pub(crate) fn new(most: u64, now: Instant) -> Self {
        Self {
            most,
            month_began: now,
            sent_before: 0,
            last_reason: None,
            last_tick: None,
        }
    }

    /// Returns whether to tick now. The caller then does.
    pub(crate) fn ticks(&mut self, now: Instant, seen: Seen) -> bool {
        if now.duration_since(self.month_began) >= MONTH {
            self.month_began = now;
            self.sent_before = seen.sent;
        }
        if seen.reason {
            self.last_reason = Some(now);
        }
        let has_reason = self
            .last_reason
            .is_some_and(|at| now.duration_since(at) < REASON_LASTS);
        let pause = if has_reason {
            self.pause(now, seen.sent)
        } else {
            LONGEST
        };
        let ticks = self
            .last_tick
            .is_none_or(|at| now.duration_since(at) >= pause);
        if ticks {
            self.last_tick = Some(now);
        }
        ticks
    }

    /// The pause with which the rest of the requests lasts for the rest of the month.
    fn pause(&self, now: Instant, sent: u64) -> Duration {
        let left = self.most.saturating_sub(sent - self.sent_before.min(sent));
        let rest = MONTH.saturating_sub(now.duration_since(self.month_began));
        match u32::try_from(left) {
            Ok(0) => LONGEST,
            Ok(left) => (rest / left).clamp(SHORTEST, LONGEST),
            Err(_) => SHORTEST,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: u64 = 100_000;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Looks every 10 s, and counts the ticks; each is a request.
    fn ticks_in(time: Duration, most: u64, reason: impl Fn(Duration) -> bool) -> u64 {
        let began = Instant::now();
        let mut thrift = Thrift::new(most, began);
        let mut sent = 0;
        let mut at = Duration::ZERO;
        while at < time {
            let reason = reason(at);
            sent += u64::from(thrift.ticks(began + at, Seen { sent, reason }));
            at += SHORTEST;
        }
        sent
    }

    #[test]
    fn without_a_reason_it_asks_each_hour() {
        assert_eq!(ticks_in(seconds(24 * 3600), FREE, |_| false), 24);
    }

    #[test]
    fn a_reason_counts_for_five_minutes() {
        let once = |at: Duration| at == seconds(1000);
        // One tick at the start, then one each 30 s in the five minutes: the share is one each 26 s, but the test looks
        // only each 10 s.
        assert_eq!(ticks_in(seconds(4000), FREE, once), 1 + 10);
        assert_eq!(ticks_in(seconds(1000), 10_000_000, |_| true), 100);
    }

    #[test]
    fn a_month_of_reasons_stays_below_its_requests_and_the_next_one_begins_anew() {
        let month = ticks_in(MONTH, FREE, |_| true);
        assert!((85_000..=FREE).contains(&month), "{month}");
        let two = ticks_in(2 * MONTH, FREE, |_| true);
        assert!((2 * 85_000..=2 * FREE).contains(&two), "{two}");
    }

    #[test]
    fn what_others_have_used_up_makes_it_slower() {
        let now = Instant::now();
        let thrift = Thrift::new(FREE, now);
        let half = now + MONTH / 2;
        for (sent, pause) in [
            (0, 12),
            (50_000, 25),
            (99_000, 1296),
            (100_000, 3600),
            (200_000, 3600),
        ] {
            let seen = thrift.pause(half, sent).as_secs();
            assert_eq!(seen, pause, "{sent}");
        }
    }
}
