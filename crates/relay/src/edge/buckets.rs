//! The token buckets: each fills at a rate and holds a burst. A request takes one token; if there is none, it is refused
//! with the time until there will be. Memory is bounded, because the fuller buckets are dropped if there are too many.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;
use tokio::time::Instant;

/// The most buckets that are kept.
const MOST: usize = 65_536;

/// A set of buckets, one for each key.
pub(crate) struct Buckets<K> {
    /// Tokens a second; 0 means that there is no limit.
    rate: f64,
    burst: f64,
    most: usize,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl<K: Eq + Hash + Clone> Buckets<K> {
    /// Makes buckets that fill with `rate` tokens a second and hold `burst`. A rate of 0 is no limit.
    pub(crate) fn new(rate: u32, burst: u32) -> Self {
        Self {
            rate: f64::from(rate),
            burst: f64::from(burst.max(1)),
            most: MOST,
            buckets: Mutex::default(),
        }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// The time until there is one.
    pub(crate) fn take(&self, key: K, now: Instant) -> Result<(), Duration> {
        if self.rate == 0.0 {
            return Ok(());
        }
        let mut buckets = self.buckets.lock();
        if buckets.len() >= self.most && !buckets.contains_key(&key) {
            self.make_room(&mut buckets, now);
        }
        let bucket = buckets.entry(key).or_insert(Bucket {
            tokens: self.burst,
            at: now,
        });
        bucket.tokens = self.tokens(*bucket, now);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - bucket.tokens) / self.rate))
    }

    fn tokens(&self, bucket: Bucket, now: Instant) -> f64 {
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        (bucket.tokens + since * self.rate).min(self.burst)
    }

    /// Drops the fuller half of the buckets, so that the keys that ask most are not forgotten. As many new keys must
    /// come before this happens again.
    fn make_room(&self, buckets: &mut HashMap<K, Bucket>, now: Instant) {
        let mut all: Vec<(K, f64)> = buckets
            .iter()
            .map(|(key, bucket)| (key.clone(), self.tokens(*bucket, now)))
            .collect();
        all.sort_unstable_by(|a, b| b.1.total_cmp(&a.1));
        for (key, _) in all.into_iter().take(self.most.div_ceil(2)) {
            buckets.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_a_burst_and_fills_at_its_rate() {
        let buckets = Buckets::new(2, 3);
        let start = Instant::now();
        for _ in 0..3 {
            assert_eq!(buckets.take("a", start), Ok(()));
        }
        let wait = buckets.take("a", start).unwrap_err();
        assert_eq!(wait, Duration::from_millis(500));
        // Another key has a bucket of its own.
        assert_eq!(buckets.take("b", start), Ok(()));
        assert!(
            buckets
                .take("a", start + Duration::from_millis(499))
                .is_err()
        );
        assert!(buckets.take("a", start + wait).is_ok());
        let later = start + Duration::from_secs(60);
        let taken = (0..10).filter(|_| buckets.take("a", later).is_ok()).count();
        assert_eq!(taken, 3);
        let none = Buckets::new(0, 1);
        assert!((0..100).all(|_| none.take("a", start).is_ok()));
    }

    #[test]
    fn memory_is_bounded_and_the_keys_that_ask_most_are_remembered() {
        let mut buckets = Buckets::new(1, 2);
        buckets.most = 8;
        let start = Instant::now();
        for _ in 0..3 {
            let _ = buckets.take(1000, start);
        }
        for key in 0..100 {
            let _ = buckets.take(key, start);
            assert!(buckets.buckets.lock().len() <= 8);
        }
        assert!(buckets.take(1000, start).is_err());
    }
}
