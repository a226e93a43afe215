//! The versions of tasks that documents show.

use platform::{Condition, Database, DatabaseError, Value};

use super::row::select;
use crate::task::Task;

/// For this many seconds after a task's end its document is projected again when it has changed.
const PROJECTED_AFTER_END: i64 = 120;

/// Makes the SQL expression of a room's newest rev from the SQL expression of its project id.
pub type HeadSql = fn(&str) -> String;

/// The condition of a task that ended lately and whose document has changed since it was found to show
/// the task. `?1` is [`since`]. An end in the future was noted by a clock that has been set back since.
fn changed_since(head: HeadSql) -> String {
    format!(
        "completed_at > ?1 AND completed_at <= ?1 + 2 * {PROJECTED_AFTER_END} AND projected_rev < {}",
        head("aigc_tasks.project_id")
    )
}

fn since(now: i64) -> Value {
    (now - PROJECTED_AFTER_END).into()
}

/// Finds up to `most` projects with tasks that their documents may not show.
///
/// # Errors
/// If the database fails.
pub async fn unprojected_projects(
    database: &dyn Database,
    head: HeadSql,
    now: i64,
    most: u64,
) -> Result<Vec<String>, DatabaseError> {
    // Two selects, each with an index of its own. In a random order, so that projects whose documents cannot
    // be written never stand before others.
    let sql = format!(
        "SELECT project_id FROM (
             SELECT project_id FROM aigc_tasks WHERE projected_status IS NULL
             UNION SELECT project_id FROM aigc_tasks WHERE {})
         ORDER BY random() LIMIT ?2",
        changed_since(head)
    );
    let rows = database
        .execute(&sql, vec![since(now), most.into()])
        .await?;
    rows.into_iter().map(|mut row| row.text(0)).collect()
}

/// Reads up to `most` tasks of a project that its document may not show: first those that have changed,
/// then those that ended lately; of each, older tasks before newer ones.
///
/// # Errors
/// If the database fails.
pub async fn unprojected(
    database: &dyn Database,
    head: HeadSql,
    project_id: &str,
    now: i64,
    most: u64,
) -> Result<Vec<Task>, DatabaseError> {
    let condition = format!(
        "project_id = ?2 AND (projected_status IS NULL OR ({}))
         ORDER BY projected_status IS NOT NULL, created_at, task_id LIMIT ?3",
        changed_since(head)
    );
    let parameters = vec![since(now), project_id.into(), most.into()];
    select(database, &condition, parameters).await
}

/// The condition that these tasks' rows are still as they were read.
pub fn unchanged(tasks: &[Task]) -> Condition {
    let mut parameters: Vec<Value> = vec![(tasks.len() as u64).into()];
    let read = versions(tasks, &mut parameters);
    Condition {
        sql: format!(
            "(SELECT count(*) FROM aigc_tasks WHERE (task_id, version) IN (VALUES {read})) = ?1"
        ),
        parameters,
    }
}

/// Notes that the document shows these tasks as they were read, up to this rev.
///
/// # Errors
/// If the database fails.
pub async fn mark_projected(
    database: &dyn Database,
    tasks: &[Task],
    rev: u64,
) -> Result<(), DatabaseError> {
    let mut parameters: Vec<Value> = vec![rev.into()];
    let read = versions(tasks, &mut parameters);
    let sql = format!(
        "UPDATE aigc_tasks SET projected_status = status, projected_rev = ?1
          WHERE (task_id, version) IN (VALUES {read})"
    );
    database.execute(&sql, parameters).await?;
    Ok(())
}

/// Writes `(?n,?m),…` for the ids and versions of tasks, and adds those to the parameters.
fn versions(tasks: &[Task], parameters: &mut Vec<Value>) -> String {
    let mut pairs = Vec::with_capacity(tasks.len());
    for task in tasks {
        parameters.push(task.task_id.as_str().into());
        parameters.push(task.version.into());
        pairs.push(format!("(?{},?{})", parameters.len() - 1, parameters.len()));
    }
    pairs.join(",")
}
