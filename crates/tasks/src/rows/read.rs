//! Reads tasks for their users.

use auth::conditions::{imported, of_user};
use platform::{Database, DatabaseError, Value};

use super::row::select;
use crate::task::{self, Status, Task};

/// Reads the task of this id.
///
/// # Errors
/// If the database fails.
pub async fn get(database: &dyn Database, task_id: &str) -> Result<Option<Task>, DatabaseError> {
    let found = select(database, "task_id = ?1", vec![task_id.into()]).await?;
    Ok(found.into_iter().next())
}

/// Reads the marks of these tasks, in their order, without the rest of their rows: [`Task::mark`]. `None` stands for a
/// task that is gone.
///
/// # Errors
/// If the database fails.
pub async fn marks(
    database: &dyn Database,
    tasks: &[String],
) -> Result<Vec<Option<String>>, DatabaseError> {
    let mut marks = vec![None; tasks.len()];
    if tasks.is_empty() {
        return Ok(marks);
    }
    let asked: Vec<String> = (0..tasks.len())
        .map(|n| format!("({n},?{})", n + 1))
        .collect();
    let sql = format!(
        "WITH asked (n, task_id) AS (VALUES {})
         SELECT a.n, t.version, t.updated_at, t.retry_count, t.external_task_id IS NOT NULL
           FROM asked a JOIN aigc_tasks t ON t.task_id = a.task_id",
        asked.join(",")
    );
    let parameters: Vec<Value> = tasks.iter().map(|task| task.as_str().into()).collect();
    for row in database.execute(&sql, parameters).await? {
        let n = usize::try_from(row.unsigned(0)?).unwrap_or(usize::MAX);
        if let Some(found) = marks.get_mut(n) {
            let is_accepted = row.integer(4)? != 0;
            *found = Some(task::mark(
                row.integer(1)?,
                row.integer(2)?,
                row.integer(3)?,
                is_accepted,
            ));
        }
    }
    Ok(marks)
}

/// The tasks to list. A field that is `None` leaves no task out.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// The project that the tasks belong to.
    pub project_id: Option<String>,
    /// The user who owns the projects of the tasks, or is a member of them.
    pub user_id: Option<String>,
    /// The status of the tasks.
    pub status: Option<Status>,
    /// The type of the tasks.
    pub task_type: Option<String>,
    /// A tag that the tasks have.
    pub tag: Option<String>,
    /// The creation time and the id of the task after which the list begins.
    pub after: Option<(i64, String)>,
    /// The most tasks.
    pub limit: u64,
}

/// Reads tasks, newest first. Pages are stable: a new task never moves an old one to another page.
///
/// # Errors
/// If the database fails.
pub async fn list(database: &dyn Database, filter: &Filter) -> Result<Vec<Task>, DatabaseError> {
    let mut parameters: Vec<Value> = vec![filter.limit.into()];
    let mut text = String::new();
    let mut add = |condition: &str, value: &str| {
        parameters.push(value.into());
        text += &format!(" AND {condition} = ?{}", parameters.len());
    };
    if let Some(project_id) = &filter.project_id {
        add("project_id", project_id);
    }
    if let Some(status) = filter.status {
        add("status", status.as_str());
    }
    if let Some(task_type) = &filter.task_type {
        add("task_type", task_type);
    }
    if let Some(user_id) = &filter.user_id {
        parameters.push(user_id.as_str().into());
        let n = parameters.len();
        text += &format!(" AND {}", of_user("project_id", &format!("?{n}")));
    }
    if filter.project_id.is_none() {
        text += &format!(" AND NOT {}", imported("project_id"));
    }
    if let Some(tag) = &filter.tag {
        parameters.push(tag.as_str().into());
        let n = parameters.len();
        text += &format!(" AND EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?{n})");
    }
    if let Some((created_at, task_id)) = &filter.after {
        parameters.push((*created_at).into());
        parameters.push(task_id.as_str().into());
        let n = parameters.len();
        text += &format!(" AND (created_at, task_id) < (?{}, ?{n})", n - 1);
    }
    let condition = format!("1{text} ORDER BY created_at DESC, task_id DESC LIMIT ?1");
    select(database, &condition, parameters).await
}
