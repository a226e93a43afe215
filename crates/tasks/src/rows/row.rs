//! A row, and statements that return rows.

use platform::{Database, DatabaseError, Row, Value};

use crate::task::{Status, Task};

/// The columns of a task, in the order in which [`task`] reads them.
pub(super) const COLUMNS: &str = "task_id, project_id, task_type, status, external_task_id, external_service, \
     result_url, error_message, created_at, updated_at, completed_at, \
     retry_count, max_retries, node_id, callback_url, version, run, attempts, lease_until, \
     accepted_at, earlier_jobs, seq, waits, message, is_probe, tags, metadata, cancel_at, notify_of, \
     result_expires_at";

/// The number of [`COLUMNS`].
pub(super) const COLUMN_COUNT: usize = 30;

/// The condition of a task that is not finished.
pub(super) const OPEN: &str = "status IN ('pending', 'processing')";

/// Reads a row of [`COLUMNS`].
pub(super) fn task(mut row: Row) -> Result<Task, DatabaseError> {
    let status = row.text(3)?;
    let status = Status::parse(&status)
        .ok_or_else(|| DatabaseError::Unexpected(format!("status {status:?}")))?;
    Ok(Task {
        task_id: row.text(0)?,
        project_id: row.text(1)?,
        task_type: row.text(2)?,
        status,
        external_task_id: row.optional_text(4)?,
        external_service: row.optional_text(5)?,
        result_url: row.optional_text(6)?,
        error_message: row.optional_text(7)?,
        created_at: row.integer(8)?,
        updated_at: row.integer(9)?,
        completed_at: row.optional_integer(10)?,
        retry_count: row.integer(11)?,
        max_retries: row.integer(12)?,
        node_id: row.optional_text(13)?,
        callback_url: row.optional_text(14)?,
        version: row.integer(15)?,
        run: row.integer(16)?,
        attempts: row.integer(17)?,
        lease_until: row.optional_integer(18)?,
        accepted_at: row.optional_integer(19)?,
        earlier_jobs: row.optional_text(20)?,
        seq: row.integer(21)?,
        waits: row.integer(22)?,
        message: row.optional_text(23)?,
        is_probe: row.integer(24)? != 0,
        tags: json(row.optional_text(25)?).unwrap_or_default(),
        metadata: json(row.optional_text(26)?),
        cancel_at: row.optional_integer(27)?,
        notify_of: row.optional_text(28)?,
        result_expires_at: row.optional_integer(29)?,
    })
}

/// Reads a column of JSON that this server has written.
fn json<T: serde::de::DeserializeOwned>(text: Option<String>) -> Option<T> {
    serde_json::from_str(&text?).ok()
}

/// Runs a statement that returns [`COLUMNS`].
pub(super) async fn tasks(
    database: &dyn Database,
    sql: &str,
    parameters: Vec<Value>,
) -> Result<Vec<Task>, DatabaseError> {
    let rows = database.execute(sql, parameters).await?;
    rows.into_iter().map(task).collect()
}

/// Runs a statement that returns [`COLUMNS`] of at most one row.
pub(super) async fn one(
    database: &dyn Database,
    sql: &str,
    parameters: Vec<Value>,
) -> Result<Option<Task>, DatabaseError> {
    Ok(tasks(database, sql, parameters).await?.into_iter().next())
}

/// Reads tasks by a condition (and order) in SQL, with its parameters.
pub(super) async fn select(
    database: &dyn Database,
    condition: &str,
    parameters: Vec<Value>,
) -> Result<Vec<Task>, DatabaseError> {
    let sql = format!("SELECT {COLUMNS} FROM aigc_tasks WHERE {condition}");
    tasks(database, &sql, parameters).await
}
