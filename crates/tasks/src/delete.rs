//! Deleting the tasks and assets of a project with it.

use platform::Ports;

use crate::{AssetStore, TaskError};

/// Deletes them. To be done once the project is deleted, for then no task is taken; what was under way may still
/// bring an asset, so it is to be done again later.
///
/// # Errors
/// When the database or the bucket fails. Doing it again is harmless.
pub async fn delete(ports: Ports<'_>, project_id: &str) -> Result<(), TaskError> {
    let sql = "DELETE FROM aigc_tasks WHERE project_id = ?1";
    ports.database.execute(sql, vec![project_id.into()]).await?;
    let assets = AssetStore::open(ports.database, ports.http, ports.config)?;
    Ok(assets.delete(project_id).await?)
}
