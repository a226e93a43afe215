//! A row, and statements that return rows.

use platform::{Database, DatabaseError, Row, Value};

use crate::task::{Status, Task};

/// The columns of a task, in the order in which [`task`] reads them.
pub(super) const COLUMNS: &str = "task_id, project_id, task_type, status, external_task_id, external_service, \
     params, result_url, result_data, error_message, created_at, updated_at, completed_at, \
     retry_count, max_retries, node_id, callback_url, version, run, attempts, lease_until, \
     accepted_at, earlier_jobs";

/// The number of [`COLUMNS`].
pub(super) const COLUMN_COUNT: usize = 23;

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
        params: row.text(6)?,
        result_url: row.optional_text(7)?,
        result_data: row.optional_text(8)?,
        error_message: row.optional_text(9)?,
        created_at: row.integer(10)?,
        updated_at: row.integer(11)?,
        completed_at: row.optional_integer(12)?,
        retry_count: row.integer(13)?,
        max_retries: row.integer(14)?,
        node_id: row.optional_text(15)?,
        callback_url: row.optional_text(16)?,
        version: row.integer(17)?,
        run: row.integer(18)?,
        attempts: row.integer(19)?,
        lease_until: row.optional_integer(20)?,
        accepted_at: row.optional_integer(21)?,
        earlier_jobs: row.optional_text(22)?,
    })
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
