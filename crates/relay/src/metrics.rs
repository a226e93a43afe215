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
    /// The WebSockets that are open now.
    gauge connections,
    /// The WebSockets that were accepted.
    counter connections_total,
    /// The upgrades and connections that were refused because of a limit.
    counter refused_total,
    /// The requests that were refused with 429.
    counter limited_total,
    /// The requests that were refused with 503 because too many were under way.
    counter turned_away_total,
    /// The requests that wait for a task to change.
    gauge waiting,
    /// The files of the page that were answered without the app.
    counter files_total,
    /// The rooms that have sockets.
    gauge rooms,
    /// The binary frames that were received.
    counter frames_in_total,
    /// The update frames that were queued for sockets.
    counter frames_out_total,
    /// The appends that were sent to the app.
    counter appends_total,
    /// The appends that failed and were repeated.
    counter append_retries_total,
    /// The batches that were sent once more because their answer was late.
    counter append_repeats_total,
    /// The lines to the app that were opened.
    counter lines_total,
    /// The lines to the app that could not be opened, carried nothing, or gave no answer.
    counter lines_failed_total,
    /// The requests to the app that went by a line.
    counter line_requests_total,
    /// The updates that were stored.
    counter updates_stored_total,
    /// The updates that were set aside because the app failed on their batch, and then decided alone.
    counter updates_suspected_total,
    /// The updates that were refused.
    counter updates_refused_total,
    /// The updates that wait to be stored.
    gauge pending_updates,
    /// The bytes of updates that wait to be stored.
    gauge pending_bytes,
    /// The states that were read for clients that join.
    counter state_reads_total,
    /// The clients that joined a room.
    counter joins_total,
    /// The requests for updates that a room missed.
    counter gap_fetches_total,
    /// The sockets that were closed with 4008 because they were too slow.
    counter closed_slow_total,
    /// The sockets that were closed with 1013, because the app was away or the relay had no room for what they sent.
    counter closed_try_again_total,
    /// The sockets that were closed because their access ended.
    counter closed_access_total,
    /// The sockets that were dropped because they sent or read nothing for too long.
    counter closed_dead_total,
    /// The bytes of messages that have arrived in part.
    gauge partial_bytes,
    /// Says whether Redis is connected.
    gauge redis_connected,
    /// The notices that were received from Redis.
    counter notices_total,
    /// The requests that were passed on to the app.
    counter proxied_total,
    /// The requests that the app did not answer.
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
            "# HELP relay_connections The WebSockets that are open now.\n# TYPE relay_connections gauge\nrelay_connections 2\n"
        ));
    }
}
