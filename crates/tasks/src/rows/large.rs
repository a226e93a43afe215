//! The columns that may be large. Each has one reader, for one task; every other statement leaves them out, so that a
//! task with megabytes in it holds up no other.

use platform::{Database, DatabaseError};

/// Reads a task's parameters, as JSON text; `None` if there is no such task. Those of earlier releases may have megabytes
/// of pictures in them.
///
/// # Errors
/// If the database fails.
pub async fn params(
    database: &dyn Database,
    task_id: &str,
) -> Result<Option<String>, DatabaseError> {
    column(database, "params", task_id).await
}

/// Reads the data of a task's result, as JSON text; `None` if it has none.
///
/// # Errors
/// If the database fails.
pub async fn result_data(
    database: &dyn Database,
    task_id: &str,
) -> Result<Option<String>, DatabaseError> {
    column(database, "result_data", task_id).await
}

async fn column(
    database: &dyn Database,
    name: &str,
    task_id: &str,
) -> Result<Option<String>, DatabaseError> {
    let sql = format!("SELECT {name} FROM aigc_tasks WHERE task_id = ?1");
    let rows = database.execute(&sql, vec![task_id.into()]).await?;
    match rows.into_iter().next() {
        Some(mut row) => row.optional_text(0),
        None => Ok(None),
    }
}
