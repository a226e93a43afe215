//! The log of a component.

use tracing::Level;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt};

/// Sends the log lines of our own crates to the component's standard error.
pub(super) fn to_stderr() {
    // Loro's own lines and spans cost time, and may quote a document.
    let ours = Targets::new().with_targets(
        [
            "archive",
            "auth",
            "door",
            "events",
            "platform",
            "poller",
            "projection",
            "projects",
            "rooms",
            "sync",
            "tasks",
            "tasks_api",
            "webhooks",
            "wire",
        ]
        .map(|name| (name, Level::INFO)),
    );
    let subscriber = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // The host knows the time.
        .without_time()
        .finish()
        .with(ours);
    // A second call in one instance changes nothing.
    let _ = tracing::subscriber::set_global_default(subscriber);
}
