//! Deleting the rooms and the tasks of deleted projects.

use auth::projects;
use platform::Ports;
use tasks::TaskError;

/// The most deleted projects that one round purges.
const PURGES: u64 = 16;

/// Purges projects that were deleted.
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
}

async fn purge(ports: Ports<'_>, project: &str) -> Result<(), TaskError> {
    rooms::delete(ports.database, ports.clock, project).await?;
    tasks::delete(ports, project).await?;
    quota::forget(ports.database, project).await?;
    Ok(projects::purged(ports.database, ports.clock, project).await?)
}
