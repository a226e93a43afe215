//! Purges deleted projects, and imports that broke off.

use auth::projects;
use platform::Ports;
use tasks::TaskError;

/// The most deleted projects that one round purges.
const PURGES: u64 = 16;

/// The most broken-off imports that one round purges.
const SWEEPS: u64 = 4;

/// Purges projects that were deleted, and what is left of imports that broke off.
pub(crate) async fn purge_due(ports: Ports<'_>) {
    let due = projects::to_purge(ports.database, ports.clock, PURGES).await;
    let due = due.unwrap_or_else(|error| {
        tracing::error!(%error, "the deleted projects could not be read");
        Vec::new()
    });
    for project in due {
        if let Err(error) = purge(ports, &project).await {
            tracing::warn!(project, %error, "a deleted project was not purged");
        }
    }
    if let Err(error) = archive::sweep(ports, SWEEPS).await {
        tracing::error!(%error, "imports that broke off could not be read");
    }
}

async fn purge(ports: Ports<'_>, project: &str) -> Result<(), TaskError> {
    archive::purge(ports, project).await?;
    Ok(projects::purged(ports.database, ports.clock, project).await?)
}
