//! What follows a change: relays look again at who is connected.

use std::time::Duration;

use auth::{internal, projects};
use platform::{
    HttpClient, Ports,
    http_client::Limits,
    spin::{SpinConfig, SpinHttpClient},
};

const OURSELVES: Limits = Limits {
    timeout: Duration::from_secs(10),
    max_bytes: 64 * 1024,
};

/// What was changed of a project.
pub(crate) enum Change {
    /// Who may do what.
    Access(String),
    /// It was deleted.
    Deleted(String),
}

impl Change {
    /// Tells relays, which would find out by themselves within seconds; and has the poller purge what was
    /// deleted, which it does within seconds too. So what fails here is logged and no more.
    pub(crate) async fn tell(self, ports: Ports<'_>) {
        let (Self::Access(project) | Self::Deleted(project)) = &self;
        if let Err(error) = tell_relays(ports, project).await {
            tracing::warn!(project, error, "relays not told");
        }
        if let Self::Deleted(project) = &self
            && let Err(error) = nudge_the_poller().await
        {
            tracing::warn!(project, error, "the poller was not asked");
        }
    }
}

async fn tell_relays(ports: Ports<'_>, project: &str) -> Result<(), String> {
    let revs = projects::access_revs(ports.database, &[project.to_owned()]).await;
    let revs = revs.map_err(|error| error.to_string())?;
    let notice = wire::Notice::Access {
        access_rev: revs.first().copied().unwrap_or_default(),
    };
    let channel = wire::room_channel(project);
    let told = ports.pubsub.publish(&channel, wire::encode(&notice)).await;
    told.map_err(|error| error.to_string())
}

async fn nudge_the_poller() -> Result<(), String> {
    let mut request = http::Request::post("/internal/poll");
    if let Some(token) = internal::token(&SpinConfig).map_err(|error| error.to_string())? {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(Vec::new()).map_err(|e| e.to_string())?;
    let answer = SpinHttpClient.send(request, OURSELVES).await;
    answer.map(|_| ()).map_err(|error| error.to_string())
}
