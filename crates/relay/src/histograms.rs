//! The histograms behind `GET /metrics`.

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

macro_rules! histograms {
    ($($(#[doc = $help:literal])* histogram $name:ident from $first:literal by $factor:literal in $buckets:literal),+ $(,)?) => {
        /// The distributions of the seconds that things took, and of how many there were at once.
        pub(crate) struct Histograms {
            registry: Registry,
            $($(#[doc = $help])* pub(crate) $name: Histogram,)+
        }

        impl Default for Histograms {
            fn default() -> Self {
                let mut registry = Registry::with_prefix("relay");
                $(
                    let $name = Histogram::new(exponential_buckets($first, $factor, $buckets));
                    // The registry ends the sentence.
                    let help = concat!($($help),*).trim().trim_end_matches('.');
                    registry.register(stringify!($name), help, $name.clone());
                )+
                Self { registry, $($name,)+ }
            }
        }
    };
}

histograms! {
    /// The seconds from an update's arrival until the app had decided it.
    histogram commit_seconds from 0.001 by 2.0 in 16,
    /// The updates in one append of the main lane.
    histogram batch_updates from 1.0 by 2.0 in 11,
    /// The seconds from a client's arrival in its room until it follows the room.
    histogram join_seconds from 0.001 by 2.0 in 16,
    /// The seconds until the updates of one commit were handed to all sockets of their room.
    histogram fanout_seconds from 0.0001 by 2.0 in 16,
    /// The seconds for which a request waited for a task.
    histogram wait_seconds from 0.05 by 2.0 in 13,
}

impl Histograms {
    /// Writes all of them in the text format of Prometheus.
    pub(crate) fn render(&self, text: &mut String) {
        // Writing into a String cannot fail.
        let _ = encode_registry(text, &self.registry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_observed_is_in_its_bucket_and_in_those_above() {
        let histograms = Histograms::default();
        histograms.batch_updates.observe(3.0);
        histograms.batch_updates.observe(5000.0);
        let mut text = String::new();
        histograms.render(&mut text);
        for line in [
            "# HELP relay_batch_updates The updates in one append of the main lane.",
            "# TYPE relay_batch_updates histogram",
            "relay_batch_updates_sum 5003.0",
            "relay_batch_updates_count 2",
            "relay_batch_updates_bucket{le=\"2.0\"} 0",
            "relay_batch_updates_bucket{le=\"4.0\"} 1",
            "relay_batch_updates_bucket{le=\"1024.0\"} 1",
            "relay_batch_updates_bucket{le=\"+Inf\"} 2",
            "relay_commit_seconds_count 0",
            "relay_join_seconds_count 0",
            "relay_fanout_seconds_count 0",
            "relay_wait_seconds_count 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("EOF"), "more may follow: {text}");
    }
}
