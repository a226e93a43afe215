//! The last tries of a task to be submitted, or to get its result. Triggers of the schema note them
//! (`migrations/0019_count_changes.sql`), at most 20 of a task.

use platform::{Database, DatabaseError};
use serde::Serialize;

/// A try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Try {
    /// The time at which it ended, in Unix seconds.
    pub at: i64,
    /// The step that was tried: `submission` or `result`.
    pub tried: String,
    /// The error, or what the task waits for, in words; `None` if the service has taken the task.
    pub error: Option<String>,
}

/// Reads the last tries of a task, oldest first.
///
/// # Errors
/// If the database fails.
pub async fn tries(database: &dyn Database, task_id: &str) -> Result<Vec<Try>, DatabaseError> {
    let sql = "SELECT at, tried, error FROM aigc_tries WHERE task_id = ?1 ORDER BY try";
    let rows = database.execute(sql, vec![task_id.into()]).await?;
    let read = |mut row: platform::Row| {
        Ok(Try {
            at: row.integer(0)?,
            tried: row.text(1)?,
            error: row.optional_text(2)?,
        })
    };
    rows.into_iter().map(read).collect()
}
