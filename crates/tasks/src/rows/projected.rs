//! The versions of tasks that documents show.

use auth::conditions::imported;
use platform::{Condition, Database, DatabaseError, Row, Value};

use super::{
    row::{COLUMN_COUNT, COLUMNS, task},
    shown::Shown,
};
use crate::task::Task;

/// A task that its document may not show.
#[derive(Debug, Clone)]
pub struct Unprojected {
    /// The task.
    pub task: Task,
    /// Says whether another task was posted for its node later.
    pub is_superseded: bool,
    /// The nodes that have shown this version of it; `None` if it was not projected yet.
    pub shown: Option<Shown>,
    /// Says whether one of them was repaired since.
    pub is_repaired: bool,
}

/// A task that its document shows.
#[derive(Debug, Clone)]
pub struct Projected<'a> {
    /// The task.
    pub task: &'a Task,
    /// The nodes that have shown this version of it.
    pub shown: Shown,
    /// Says whether one of them was repaired.
    pub is_repaired: bool,
}

/// The seconds after a task's end for which its document is projected again when it has changed.
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
    // There are two selects, each with an index of its own. The order is random, so that projects whose documents
    // cannot be written never stand before others.
    let sql = format!(
        "SELECT project_id FROM (
             SELECT project_id FROM aigc_tasks WHERE projected_status IS NULL
             UNION SELECT project_id FROM aigc_tasks WHERE {})
          WHERE NOT {}
         ORDER BY random() LIMIT ?2",
        changed_since(head),
        imported("project_id")
    );
    let rows = database
        .execute(&sql, vec![since(now), most.into()])
        .await?;
    rows.into_iter().map(|mut row| row.text(0)).collect()
}

/// Reads up to `most` tasks of a project that its document may not show: first those that have changed,
/// then those that ended lately; within each group, tasks posted earlier come first.
///
/// # Errors
/// If the database fails.
pub async fn unprojected(
    database: &dyn Database,
    head: HeadSql,
    project_id: &str,
    now: i64,
    most: u64,
) -> Result<Vec<Unprojected>, DatabaseError> {
    let sql = format!(
        "SELECT {COLUMNS},
                EXISTS (SELECT 1 FROM aigc_tasks later
                         WHERE later.project_id = aigc_tasks.project_id AND later.node_id = aigc_tasks.node_id
                           AND later.seq > aigc_tasks.seq),
                CASE WHEN projected_status IS NOT NULL THEN ifnull(shown_on, '[]') END,
                repaired
           FROM aigc_tasks
          WHERE project_id = ?2 AND (projected_status IS NULL OR ({}))
          ORDER BY projected_status IS NOT NULL, seq, task_id LIMIT ?3",
        changed_since(head)
    );
    let parameters = vec![since(now), project_id.into(), most.into()];
    let rows = database.execute(&sql, parameters).await?;
    let read = |mut row: Row| {
        let is_superseded = row.integer(COLUMN_COUNT)? != 0;
        let shown = row.optional_text(COLUMN_COUNT + 1)?;
        let is_repaired = shown.is_some() && row.integer(COLUMN_COUNT + 2)? != 0;
        Ok(Unprojected {
            task: task(row)?,
            is_superseded,
            shown: shown.as_deref().map(Shown::from_json),
            is_repaired,
        })
    };
    rows.into_iter().map(read).collect()
}

/// The condition that these tasks' rows are still as they were read.
pub fn unchanged<'a>(tasks: impl Iterator<Item = &'a Task>) -> Condition {
    let mut parameters: Vec<Value> = vec![Value::Null];
    let mut pairs = Vec::new();
    for task in tasks {
        parameters.push(task.task_id.as_str().into());
        parameters.push(task.version.into());
        pairs.push(format!("(?{},?{})", parameters.len() - 1, parameters.len()));
    }
    parameters[0] = (pairs.len() as u64).into();
    let read = pairs.join(",");
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
    projected: &[Projected<'_>],
    rev: u64,
) -> Result<(), DatabaseError> {
    let mut parameters: Vec<Value> = vec![rev.into()];
    let mut rows = Vec::with_capacity(projected.len());
    for Projected {
        task,
        shown,
        is_repaired,
    } in projected
    {
        let first = parameters.len() + 1;
        parameters.extend([
            task.task_id.as_str().into(),
            task.version.into(),
            shown.to_json().into(),
            i64::from(*is_repaired).into(),
        ]);
        rows.push(format!(
            "(?{first},?{},?{},?{})",
            first + 1,
            first + 2,
            first + 3
        ));
    }
    if rows.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "WITH projected (task_id, version, shown_on, repaired) AS (VALUES {})
         UPDATE aigc_tasks SET projected_status = status, projected_rev = ?1,
                shown_on = projected.shown_on, repaired = projected.repaired
           FROM projected
          WHERE aigc_tasks.task_id = projected.task_id AND aigc_tasks.version = projected.version",
        rows.join(",")
    );
    database.execute(&sql, parameters).await?;
    Ok(())
}
