//! Purges the contents of projects, and the remains of imports that broke off.

use auth::{imports, secrets};
use platform::Ports;
use tasks::TaskError;

/// The length of a token of an import, or of a sweep.
const TOKEN: usize = 24;

/// Makes the token of an import, or of a sweep.
pub(crate) fn new_token() -> String {
    secrets::word(TOKEN)
}

/// Deletes the document, the tasks, the assets and the counts of a project. The caller has deleted the project before, or
/// has reserved its id.
///
/// # Errors
/// If the database or the bucket fails. Doing it again is harmless.
pub async fn purge(ports: Ports<'_>, project: &str) -> Result<(), TaskError> {
    rooms::delete(ports.database, ports.clock, project).await?;
    tasks::delete(ports, project).await?;
    Ok(quota::forget(ports.database, project).await?)
}

/// Purges a project whose id is reserved by this token, with its members.
pub(crate) async fn purge_reserved(
    ports: Ports<'_>,
    project: &str,
    token: &str,
) -> Result<(), TaskError> {
    purge(ports, project).await?;
    Ok(imports::drop_members(ports.database, project, token).await?)
}

/// Purges a project whose id is reserved by this token, and frees the id. It does nothing if the token no longer
/// reserves the id.
pub(crate) async fn give_up(ports: Ports<'_>, project: &str, token: &str) -> Result<(), TaskError> {
    if imports::is_reserved(ports.database, project, token).await? {
        purge_reserved(ports, project, token).await?;
        imports::release(ports.database, project, token).await?;
    }
    Ok(())
}

/// Purges up to `limit` projects whose imports broke off, and frees their ids.
///
/// # Errors
/// If the database fails. A project that is not purged is logged, and a later sweep takes it.
pub async fn sweep(ports: Ports<'_>, limit: u64) -> Result<(), TaskError> {
    let token = new_token();
    let due = imports::take_abandoned(ports.database, ports.clock, &token, limit).await?;
    for project in due {
        if let Err(error) = give_up(ports, &project, &token).await {
            tracing::warn!(project, %error, "an import that broke off was not purged");
        }
    }
    Ok(())
}
