//! The columns that may be large. Each has one function that reads it for one task. Every other statement leaves these
//! columns or their large values out, so that a task with megabytes in it holds up no other.

use std::collections::HashMap;

use platform::{Database, DatabaseError, Value};

use super::row::OPEN;
use crate::task::Task;

/// Reads a task's parameters, as JSON text; `None` if there is no such task. The parameters of tasks of earlier
/// releases may have megabytes of pictures in them.
///
/// # Errors
/// If the database fails.
pub async fn params(
    database: &dyn Database,
    task_id: &str,
) -> Result<Option<String>, DatabaseError> {
    column(database, "params", task_id).await
}

/// Reads the parameters of several tasks, as JSON text by task. A task that is gone is left out, and so is one of an
/// earlier release with more than `most_bytes`.
///
/// # Errors
/// If the database fails.
pub(crate) async fn params_of(
    database: &dyn Database,
    tasks: &[Task],
    most_bytes: u64,
) -> Result<HashMap<String, String>, DatabaseError> {
    let places: Vec<String> = (0..tasks.len()).map(|n| format!("?{}", n + 2)).collect();
    let sql = format!(
        "SELECT task_id, params FROM aigc_tasks WHERE task_id IN ({}) AND length(params) <= ?1",
        places.join(",")
    );
    let mut parameters: Vec<Value> = vec![most_bytes.into()];
    parameters.extend(tasks.iter().map(|task| Value::from(task.task_id.as_str())));
    let rows = database.execute(&sql, parameters).await?;
    rows.into_iter()
        .map(|mut row| Ok((row.text(0)?, row.text(1)?)))
        .collect()
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

/// Keeps the signature that the service of a run that is not over expects back if a later task goes on from its result.
///
/// # Errors
/// If the database fails. Doing it again is harmless.
pub(crate) async fn keep_signature(
    database: &dyn Database,
    task: &Task,
    signature: &str,
) -> Result<(), DatabaseError> {
    let sql =
        format!("UPDATE aigc_tasks SET signature = ?3 WHERE task_id = ?1 AND run = ?2 AND {OPEN}");
    let parameters = vec![
        task.task_id.as_str().into(),
        task.run.into(),
        signature.into(),
    ];
    database.execute(&sql, parameters).await.map(drop)
}

/// Reads the signature that the service of a task gave with its result; `None` if it gave none.
///
/// # Errors
/// If the database fails.
pub(crate) async fn signature(
    database: &dyn Database,
    task_id: &str,
) -> Result<Option<String>, DatabaseError> {
    column(database, "signature", task_id).await
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
