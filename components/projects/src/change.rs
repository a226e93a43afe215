//! The work after a change of a project: relays check their connected clients again.

use std::time::Duration;

use auth::projects;
use platform::{Ports, http_client::Limits};

/// The longest that the request to the poller may take, and the largest answer that it may have.
const POLL_LIMITS: Limits = Limits {
    timeout: Duration::from_secs(10),
    max_bytes: 64 * 1024,
};

/// A change of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// A change of access: users or agents may do more, or less, than before.
    Access,
    /// The deletion of the project.
    Deleted,
}

impl Change {
    /// Notifies the relays, and has the poller purge a deleted project. Without this they notice the change themselves
    /// within seconds, so a failure is only logged.
    pub(crate) async fn notify(self, ports: Ports<'_>, project: String) {
        if let Err(error) = notify_relays(ports, &project).await {
            tracing::warn!(project, error, "the relays were not notified");
        }
        if self == Self::Deleted {
            let asked = ports.ask_self("/internal/poll", Vec::new(), POLL_LIMITS);
            if let Err(error) = asked.await {
                tracing::warn!(project, %error, "the poller was not asked");
            }
        }
    }
}

async fn notify_relays(ports: Ports<'_>, project: &str) -> Result<(), String> {
    let revs = projects::access_revs(ports.database, &[project.to_owned()]).await;
    let revs = revs.map_err(|error| error.to_string())?;
    let notice = wire::Notice::Access {
        access_rev: revs.first().copied().unwrap_or_default(),
    };
    let channel = wire::room_channel(project);
    let published = ports.pubsub.publish(&channel, wire::encode(&notice)).await;
    published.map_err(|error| error.to_string())
}
