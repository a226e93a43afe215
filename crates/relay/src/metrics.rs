//! The counters behind `GET /metrics`, in the Prometheus text format.

use crate::histograms::Histograms;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! metrics {
    ($($(#[doc = $help:literal])* $kind:ident $name:ident),+ $(,)?) => {
        /// The relay's counters and gauges, and its histograms.
        #[derive(Default)]
        pub(crate) struct Metrics {
            /// The distributions of the time that things took, and of how many there were at once.
            pub(crate) histograms: Histograms,
            $($(#[doc = $help])* pub(crate) $name: Metric,)+
        }

        impl Metrics {
            /// Renders all of them in the text format of Prometheus.
            pub(crate) fn render(&self) -> String {
                let mut text = String::new();
                $(render(
                    &mut text,
                    concat!("relay_", stringify!($name)),
                    stringify!($kind),
                    concat!($($help),*),
                    self.$name.get(),
                );)+
                self.histograms.render(&mut text);
                text
            }
        }
    };
}

metrics! {
    /// WebSockets open now.
    gauge connections,
    /// WebSockets accepted.
    counter connections_total,
    /// Upgrades and connections refused because of a limit.
    counter refused_total,
    /// Requests refused with 429.
    counter limited_total,
    /// Requests refused with 503 because too many were under way.
    counter turned_away_total,
    /// Requests that wait for a task to change.
    gauge waiting,
    /// Files of the page answered without the app.
    counter files_total,
    /// Rooms with sockets.
    gauge rooms,
    /// Binary frames received.
    counter frames_in_total,
    /// Update frames queued for sockets.
    counter frames_out_total,
    /// Appends sent to the app.
    counter appends_total,
    /// Appends that failed and were repeated.
    counter append_retries_total,
    /// Batches sent once more because their answer was late.
    counter append_repeats_total,
    /// Lines to the app opened.
    counter lines_total,
    /// Lines to the app that could not be opened, carried nothing, or gave no answer.
    counter lines_failed_total,
    /// Requests to the app that went by a line.
    counter line_requests_total,
    /// Updates stored.
    counter updates_stored_total,
    /// Updates set aside because the app failed on their batch, and then decided alone.
    counter updates_suspected_total,
    /// Updates refused.
    counter updates_refused_total,
    /// Updates that wait to be stored.
    gauge pending_updates,
    /// Bytes of updates that wait to be stored.
    gauge pending_bytes,
    /// States read for clients that join.
    counter state_reads_total,
    /// Clients that joined a room.
    counter joins_total,
    /// Requests for updates that a room missed.
    counter gap_fetches_total,
    /// Sockets closed with 4008 for being too slow.
    counter closed_slow_total,
    /// Sockets closed with 1013, because the app was away or the relay had no room for what they sent.
    counter closed_try_again_total,
    /// Sockets closed because their access ended.
    counter closed_access_total,
    /// Sockets dropped because they sent or read nothing for too long.
    counter closed_dead_total,
    /// Bytes of messages that have arrived in part.
    gauge partial_bytes,
    /// Says whether Redis is connected.
    gauge redis_connected,
    /// Notices received from Redis.
    counter notices_total,
    /// Requests passed on to the app.
    counter proxied_total,
    /// Requests that the app did not answer.
    counter proxy_errors_total,
    /// Says whether the app reported its numbers when it was last asked.
    gauge app_metrics_told,
}

/// A counter or a gauge.
#[derive(Default)]
pub(crate) struct Metric(AtomicU64);

impl Metric {
    /// Counts up.
    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Counts down; for gauges.
    pub(crate) fn sub(&self, count: usize) {
        self.0.fetch_sub(count as u64, Ordering::Relaxed);
    }

    /// Sets a gauge.
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Reads the present value.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn render(text: &mut String, name: &str, kind: &str, help: &str, value: u64) {
    // Writing into a String cannot fail.
    let _ = writeln!(
        text,
        "# HELP {name} {}\n# TYPE {name} {kind}\n{name} {value}",
        help.trim()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_text() {
        let metrics = Metrics::default();
        metrics.connections.add(3);
        metrics.connections.sub(1);
        assert!(metrics.render().starts_with(
            "# HELP relay_connections WebSockets open now.\n# TYPE relay_connections gauge\nrelay_connections 2\n"
        ));
    }
}
