//! Deletes the tasks and assets of a project that is being deleted.

use platform::Ports;

use crate::{assets::AssetStore, error::TaskError};

/// Deletes the tasks and assets of a project. The caller has deleted the project before, so that no new task
/// is created. A task that was under way may still store an asset, so the caller does this again later.
///
/// # Errors
/// If the database or the bucket fails. Doing it again is harmless.
pub async fn delete(ports: Ports<'_>, project_id: &str) -> Result<(), TaskError> {
    let sql = "DELETE FROM aigc_tasks WHERE project_id = ?1";
    ports.database.execute(sql, vec![project_id.into()]).await?;
    let assets = AssetStore::open(ports.database, ports.http, ports.config)?;
    Ok(assets.delete(project_id).await?)
}
