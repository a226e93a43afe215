//! The percentiles of plain, sorted samples. They are exact, because a run has a few million samples at
//! most.

use std::time::Duration;

/// The latencies of one run, in microseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples {
    sorted: Vec<u32>,
}

impl Samples {
    /// Takes samples in any order.
    pub(crate) fn new(mut micros: Vec<u32>) -> Self {
        micros.sort_unstable();
        Self { sorted: micros }
    }

    /// Returns the smallest sample that at least `percent` of all samples do not exceed (the
    /// nearest rank), in milliseconds; `None` without samples.
    pub(crate) fn percentile(&self, percent: f64) -> Option<f64> {
        let rank = (percent / 100.0 * self.sorted.len() as f64).ceil() as usize;
        let index = rank.clamp(1, self.sorted.len().max(1)) - 1;
        self.sorted
            .get(index)
            .map(|&micros| f64::from(micros) / 1000.0)
    }

    /// Returns the largest sample, in milliseconds; `None` without samples.
    pub(crate) fn max(&self) -> Option<f64> {
        self.percentile(100.0)
    }
}

/// Converts a duration to a sample in microseconds, of at most about 71 minutes.
pub(crate) fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

/// Returns the median: the middle value, or the mean of the two in the middle; `None` without
/// values.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some((sorted[sorted.len() / 2 - 1] + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let hundred = Samples::new((1..=100).rev().map(|ms| ms * 1000).collect());
        for (percent, ms) in [
            (0.0, 1.0),
            (1.0, 1.0),
            (50.0, 50.0),
            (99.0, 99.0),
            (100.0, 100.0),
        ] {
            assert_eq!(hundred.percentile(percent), Some(ms), "p{percent}");
        }
        let three = Samples::new(vec![3000, 1000, 2000]);
        assert_eq!(three.percentile(50.0), Some(2.0));
        assert_eq!(three.percentile(99.0), Some(3.0));
        assert_eq!(three.max(), Some(3.0));
    }

    #[test]
    fn without_samples_there_is_no_percentile() {
        assert_eq!(Samples::default().percentile(50.0), None);
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[5.0]), Some(5.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn a_very_long_duration_is_capped() {
        assert_eq!(micros(Duration::from_micros(1500)), 1500);
        assert_eq!(micros(Duration::from_secs(86_400)), u32::MAX);
    }
}
