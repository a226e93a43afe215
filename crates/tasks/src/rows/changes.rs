//! The order of the changes of a project's tasks. Triggers of the schema keep it (`migrations/0019_count_changes.sql`), so
//! that no statement that changes a task can forget it.

use platform::{Database, DatabaseError, Value};

use super::row::{COLUMN_COUNT, COLUMNS, OPEN, task};
use crate::task::Task;

/// A part of a project's changes. Only the last change of each task counts.
#[derive(Debug, Clone, Copy)]
pub struct Changes<'a> {
    /// The project.
    pub project_id: &'a str,
    /// The number of the change after which the part begins.
    pub after: i64,
    /// The number of the last change of the part.
    pub until: i64,
    /// Says whether finished tasks are left out.
    pub open: bool,
    /// The most changes.
    pub limit: u64,
}

/// Reads changes with the tasks as they are now, oldest change first.
///
/// # Errors
/// If the database fails.
pub async fn changes(
    database: &dyn Database,
    changes: Changes<'_>,
) -> Result<Vec<(i64, Task)>, DatabaseError> {
    let condition = if changes.open { OPEN } else { "1" };
    let sql = format!(
        "SELECT {COLUMNS}, change FROM aigc_changes JOIN aigc_tasks USING (task_id, project_id)
          WHERE project_id = ?1 AND change > ?2 AND change <= ?3 AND {condition} ORDER BY change LIMIT ?4"
    );
    let parameters = vec![
        changes.project_id.into(),
        changes.after.into(),
        changes.until.into(),
        changes.limit.into(),
    ];
    let rows = database.execute(&sql, parameters).await?;
    let read = |row: platform::Row| Ok((row.integer(COLUMN_COUNT)?, task(row)?));
    rows.into_iter().map(read).collect()
}

/// The number of the last change in each of these projects, in their order; 0 if there was none.
///
/// # Errors
/// If the database fails.
pub async fn last_changes(
    database: &dyn Database,
    projects: &[String],
) -> Result<Vec<i64>, DatabaseError> {
    let mut last = vec![0; projects.len()];
    if projects.is_empty() {
        return Ok(last);
    }
    let asked: Vec<String> = (1..=projects.len())
        .map(|n| format!("({n},?{n})"))
        .collect();
    let sql = format!(
        "WITH asked (n, project_id) AS (VALUES {})
         SELECT n - 1, (SELECT max(change) FROM aigc_changes c WHERE c.project_id = asked.project_id) FROM asked",
        asked.join(",")
    );
    let parameters: Vec<Value> = projects.iter().map(|id| id.as_str().into()).collect();
    for row in database.execute(&sql, parameters).await? {
        let n = usize::try_from(row.unsigned(0)?).unwrap_or(usize::MAX);
        if let Some(last) = last.get_mut(n) {
            *last = row.optional_integer(1)?.unwrap_or(0);
        }
    }
    Ok(last)
}
