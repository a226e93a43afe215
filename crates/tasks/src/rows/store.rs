//! Stores a new task.

use platform::{Database, DatabaseError};

use super::row::{COLUMN_COUNT, COLUMNS, task};
use crate::task::Task;

/// A task to insert.
pub(crate) struct Insert<'a> {
    pub(crate) task: &'a Task,
    /// The parameters, as JSON text.
    pub(crate) params: &'a str,
    pub(crate) idempotency_key: Option<&'a str>,
    pub(crate) request_digest: &'a str,
}

/// Stores a new task; `false` if its idempotency key is taken.
pub(crate) async fn insert(
    database: &dyn Database,
    new: Insert<'_>,
) -> Result<bool, DatabaseError> {
    let task = new.task;
    let tags = (!task.tags.is_empty()).then(|| serde_json::json!(task.tags).to_string());
    let metadata = task.metadata.as_ref().map(ToString::to_string);
    let rows = database
        .execute(
            "INSERT INTO aigc_tasks (task_id, project_id, task_type, status, external_service, params,
                 created_at, updated_at, max_retries, node_id, callback_url, next_attempt_at,
                 idempotency_key, request_digest, tags, metadata, cancel_at, notify_of, seq)
             VALUES (?1, ?2, ?3, 'pending', ?4, ?5, ?6, ?6, ?7, ?8, ?9, ?6, ?10, ?11, ?12, ?13, ?14, ?15,
                 (SELECT ifnull(max(seq), 0) + 1 FROM aigc_tasks WHERE project_id = ?2))
             ON CONFLICT (idempotency_key) DO NOTHING
             RETURNING 1",
            vec![
                task.task_id.as_str().into(),
                task.project_id.as_str().into(),
                task.task_type.as_str().into(),
                task.external_service.as_deref().into(),
                new.params.into(),
                task.created_at.into(),
                task.max_retries.into(),
                task.node_id.as_deref().into(),
                task.callback_url.as_deref().into(),
                new.idempotency_key.into(),
                new.request_digest.into(),
                tags.into(),
                metadata.into(),
                task.cancel_at.into(),
                task.notify_of.as_deref().into(),
            ],
        )
        .await?;
    Ok(!rows.is_empty())
}

/// Reads the task that was posted under an idempotency key, and the digest of that request.
pub(crate) async fn by_key(
    database: &dyn Database,
    key: &str,
) -> Result<Option<(Task, String)>, DatabaseError> {
    let sql =
        format!("SELECT {COLUMNS}, request_digest FROM aigc_tasks WHERE idempotency_key = ?1");
    let rows = database.execute(&sql, vec![key.into()]).await?;
    let Some(mut row) = rows.into_iter().next() else {
        return Ok(None);
    };
    let digest = row.optional_text(COLUMN_COUNT)?.unwrap_or_default();
    Ok(Some((task(row)?, digest)))
}
