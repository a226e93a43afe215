//! Tasks on their way from one database to another, in an archive.

use std::collections::HashSet;

use platform::{Database, DatabaseError, Row};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::task::{Status, new_id};

/// The error of a task that was under way when its project was exported.
const UNDER_WAY: &str = "The task was under way when its project was exported.";

/// The most tries of a task.
const MOST_TRIES: i64 = 100;

/// The columns of a [`PortableTask`], in the order of its fields.
const COLUMNS: &str = "task_id, task_type, status, external_service, params, result_url, result_data, error_message, \
     created_at, updated_at, completed_at, retry_count, max_retries, node_id, tags, metadata";

/// A task without its job: what users see of it, and what a retry needs. Its fields have the names of the columns, and
/// archives have these names, too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PortableTask {
    /// The id.
    pub task_id: String,
    /// The type, such as `text2video`.
    pub task_type: String,
    /// The status.
    pub status: String,
    /// The service.
    pub external_service: Option<String>,
    /// The parameters, as a JSON object.
    pub params: String,
    /// The address of the result.
    pub result_url: Option<String>,
    /// More about the result, as JSON.
    pub result_data: Option<String>,
    /// The reason why the task failed, in words for its user.
    pub error_message: Option<String>,
    /// The time at which the task was posted, in Unix seconds.
    pub created_at: i64,
    /// The time of the last change, in Unix seconds.
    pub updated_at: i64,
    /// The time of the end, in Unix seconds.
    pub completed_at: Option<i64>,
    /// The number of retries.
    pub retry_count: i64,
    /// The most retries.
    pub max_retries: i64,
    /// The node that the task was posted for.
    pub node_id: Option<String>,
    /// The caller's tags, as a JSON array.
    pub tags: Option<String>,
    /// The caller's notes, as a JSON object.
    pub metadata: Option<String>,
}

impl PortableTask {
    /// Returns the bytes of its texts.
    pub fn size(&self) -> usize {
        let optional = [
            &self.external_service,
            &self.result_url,
            &self.result_data,
            &self.error_message,
            &self.node_id,
            &self.tags,
            &self.metadata,
        ];
        let optional = optional.into_iter().flatten();
        let texts = [&self.task_id, &self.task_type, &self.status, &self.params];
        texts.into_iter().chain(optional).map(String::len).sum()
    }

    fn read(mut row: Row) -> Result<Self, DatabaseError> {
        Ok(Self {
            task_id: row.text(0)?,
            task_type: row.text(1)?,
            status: row.text(2)?,
            external_service: row.optional_text(3)?,
            params: row.text(4)?,
            result_url: row.optional_text(5)?,
            result_data: row.optional_text(6)?,
            error_message: row.optional_text(7)?,
            created_at: row.integer(8)?,
            updated_at: row.integer(9)?,
            completed_at: row.optional_integer(10)?,
            retry_count: row.integer(11)?,
            max_retries: row.integer(12)?,
            node_id: row.optional_text(13)?,
            tags: row.optional_text(14)?,
            metadata: row.optional_text(15)?,
        })
    }

    /// Makes the columns of the task as JSON, in another database. A task that was under way is cancelled, because its
    /// job belongs to the database that it comes from.
    fn adopted(&self, seq: i64, now: i64) -> Json {
        let mut task = self.clone();
        task.retry_count = task.retry_count.clamp(0, MOST_TRIES);
        task.max_retries = task.max_retries.clamp(0, MOST_TRIES);
        let ended = Status::parse(&task.status).is_some_and(Status::is_final);
        if !ended {
            task.status = Status::Cancelled.as_str().to_owned();
            task.error_message = Some(UNDER_WAY.to_owned());
            task.completed_at = Some(now);
        }
        let mut row = json!(task);
        row["seq"] = json!(seq);
        // The document shows an ended task already.
        row["projected_status"] = json!(ended.then_some(task.status));
        row
    }
}

/// Reads the ids of a project's tasks, in the order of posting, and the characters of their largest texts.
///
/// # Errors
/// If the database fails.
pub async fn sizes(
    database: &dyn Database,
    project_id: &str,
) -> Result<Vec<(String, usize)>, DatabaseError> {
    let sql = "SELECT task_id, length(params) + ifnull(length(result_data), 0)
                 FROM aigc_tasks WHERE project_id = ?1 ORDER BY seq, task_id";
    let rows = database.execute(sql, vec![project_id.into()]).await?;
    let read = |mut row: Row| Ok((row.text(0)?, row.unsigned(1)? as usize));
    rows.into_iter().map(read).collect()
}

/// Reads tasks, in the order of posting.
///
/// # Errors
/// If the database fails.
pub async fn portable(
    database: &dyn Database,
    task_ids: &[String],
) -> Result<Vec<PortableTask>, DatabaseError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM aigc_tasks WHERE task_id IN (SELECT value FROM json_each(?1)) ORDER BY seq, task_id"
    );
    let rows = database.execute(&sql, vec![json!(task_ids).to_string().into()]);
    rows.await?.into_iter().map(PortableTask::read).collect()
}

/// Stores tasks of another database in a project, under their ids, or under new ones if other tasks have those. The first
/// gets the number `first` in the order of posting.
///
/// # Errors
/// If the database fails.
pub async fn adopt(
    database: &dyn Database,
    project_id: &str,
    first: i64,
    tasks: &[PortableTask],
    now: i64,
) -> Result<(), DatabaseError> {
    let mut rows: Vec<Json> = (first..)
        .zip(tasks)
        .map(|(seq, task)| task.adopted(seq, now))
        .collect();
    for is_own in [true, false] {
        if !is_own {
            for row in &mut rows {
                row["task_id"] = json!(new_id(now));
                // The document knows nothing of the new id.
                row["projected_status"] = row["status"].clone();
            }
        }
        let stored = insert(database, project_id, &rows).await?;
        rows.retain(|row| !stored.contains(row["task_id"].as_str().unwrap_or_default()));
        if rows.is_empty() {
            return Ok(());
        }
    }
    Err(DatabaseError::Unexpected("a new id is taken".into()))
}

/// Stores the rows whose ids are free, and returns these ids.
async fn insert(
    database: &dyn Database,
    project_id: &str,
    rows: &[Json],
) -> Result<HashSet<String>, DatabaseError> {
    let columns = format!("{COLUMNS}, seq, projected_status");
    let values: Vec<String> = columns
        .split(", ")
        .map(|column| format!("json_extract(r.value, '$.{column}')"))
        .collect();
    let sql = format!(
        "INSERT INTO aigc_tasks (project_id, {columns})
         SELECT ?1, {} FROM json_each(?2) r WHERE true
             ON CONFLICT (task_id) DO NOTHING RETURNING task_id",
        values.join(", ")
    );
    let parameters = vec![project_id.into(), json!(rows).to_string().into()];
    let stored = database.execute(&sql, parameters).await?;
    stored.into_iter().map(|mut row| row.text(0)).collect()
}

#[cfg(test)]
mod tests {
    use platform::native::{SqliteFile, block_on};

    use super::*;

    fn task(id: &str, status: &str) -> PortableTask {
        let task = json!({
            "task_id": id, "task_type": "demo", "status": status, "params": "{\"a\":1}", "result_data": "{}",
            "created_at": 1, "updated_at": 2, "completed_at": 3, "retry_count": -1, "max_retries": 1000,
        });
        serde_json::from_value(task).unwrap()
    }

    /// Reads the tasks of a project, in the order of posting.
    fn read(database: &SqliteFile, project: &str) -> Vec<PortableTask> {
        let sizes = block_on(sizes(database, project)).unwrap();
        let (ids, sizes): (Vec<_>, Vec<_>) = sizes.into_iter().unzip();
        assert!(sizes.iter().all(|size| *size == 9), "{sizes:?}");
        block_on(portable(database, &ids)).unwrap()
    }

    #[test]
    fn tasks_keep_their_ids_if_these_are_free_and_those_under_way_are_cancelled() {
        let database = SqliteFile::with_schema();
        let tasks = [task("b", "completed"), task("a", "processing")];
        block_on(adopt(&database, "p", 1, &tasks, 50)).unwrap();
        let [mut ended, mut cancelled] = tasks.clone();
        (ended.retry_count, ended.max_retries) = (0, 100);
        (cancelled.retry_count, cancelled.max_retries) = (0, 100);
        cancelled.status = "cancelled".to_owned();
        cancelled.error_message = Some(UNDER_WAY.to_owned());
        cancelled.completed_at = Some(50);
        assert_eq!(read(&database, "p"), [ended, cancelled]);
        // The document still shows the second as it was.
        let unprojected = "SELECT task_id FROM aigc_tasks WHERE projected_status IS NULL";
        let unprojected = || block_on(database.execute(unprojected, vec![])).unwrap();
        assert_eq!(unprojected().len(), 1);

        block_on(adopt(&database, "copy", 1, &tasks, 60)).unwrap();
        let copies = read(&database, "copy");
        let statuses: Vec<&str> = copies.iter().map(|task| task.status.as_str()).collect();
        assert_eq!(statuses, ["completed", "cancelled"]);
        assert!(
            copies
                .iter()
                .all(|task| task.task_id.starts_with("task_60_"))
        );
        // No document shows the new ids.
        assert_eq!(unprojected().len(), 1);
    }

    /// So a batch of tasks has a bound of bytes, whatever their texts are.
    #[test]
    fn each_text_of_a_task_counts() {
        let size = |field: &str, value: Json| {
            let mut task = json!({
                "task_id": "", "task_type": "demo", "status": "failed", "params": "{}",
                "created_at": 1, "updated_at": 1, "retry_count": 0, "max_retries": 3,
            });
            task[field] = value;
            serde_json::from_value::<PortableTask>(task).unwrap().size()
        };
        let least = size("task_id", json!(""));
        for field in [
            "task_id",
            "params",
            "external_service",
            "result_url",
            "result_data",
            "error_message",
            "node_id",
            "tags",
            "metadata",
        ] {
            assert!(size(field, json!("x".repeat(100))) >= least + 98, "{field}");
        }
    }
}
