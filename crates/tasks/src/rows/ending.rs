//! The end of a task, and its return to `pending`.

use platform::{Database, DatabaseError};

use super::{
    claims::{ANSWER_LOST, FREE, RETRYABLE},
    notifications::wants_notification,
    row::{COLUMNS, OPEN, one, tasks},
};
use crate::task::{Task, shortened};

/// The way in which a task ends.
pub(crate) enum End<'a> {
    Completed {
        url: &'a str,
        data: &'a str,
        /// The time at which the service deletes the result, if that is kept there alone.
        expires_at: Option<i64>,
    },
    Failed {
        error: &'a str,
    },
    Cancelled,
}

/// Ends a task, if this run of it is not over yet: the first end wins, and the others change nothing.
pub(crate) async fn finish(
    database: &dyn Database,
    task: &Task,
    external_task_id: Option<&str>,
    end: End<'_>,
    now: i64,
) -> Result<Option<Task>, DatabaseError> {
    let (status, url, data, expires_at, error) = match end {
        End::Completed {
            url,
            data,
            expires_at,
        } => ("completed", Some(url), Some(data), expires_at, None),
        End::Failed { error } => ("failed", None, None, None, Some(shortened(error))),
        End::Cancelled => ("cancelled", None, None, None, None),
    };
    let sql = format!(
        "UPDATE aigc_tasks SET status = ?3, result_url = ?4, result_data = ?5, error_message = ?6, result_expires_at = ?9,
             updated_at = ?7, completed_at = ?7, version = version + 1, projected_status = NULL,
             external_task_id = ifnull(external_task_id, ?8),
             lease_until = NULL, next_attempt_at = NULL, message = NULL,
             notify_at = CASE WHEN {} THEN ?7 END, notify_attempts = 0
          WHERE task_id = ?1 AND run = ?2 AND {OPEN} RETURNING {COLUMNS}",
        wants_notification("?3")
    );
    one(
        database,
        &sql,
        vec![
            task.task_id.as_str().into(),
            task.run.into(),
            status.into(),
            url.into(),
            data.into(),
            error.into(),
            now.into(),
            external_task_id.into(),
            expires_at.into(),
        ],
    )
    .await
}

/// Ends up to `most` tasks of a service whose claims ended without an outcome as often as they may be tried.
pub(crate) async fn end_silent(
    database: &dyn Database,
    service: &str,
    now: i64,
    lease: i64,
    most: u64,
) -> Result<Vec<Task>, DatabaseError> {
    let sql = format!(
        "UPDATE aigc_tasks SET status = 'failed', error_message = '{ANSWER_LOST}',
             updated_at = ?1, completed_at = ?1, version = version + 1, projected_status = NULL,
             lease_until = NULL, next_attempt_at = NULL, message = NULL,
             notify_at = CASE WHEN {} THEN ?1 END, notify_attempts = 0
          WHERE task_id IN (
             SELECT task_id FROM aigc_tasks
              WHERE external_service = ?3 AND {OPEN} AND external_task_id IS NULL AND {FREE} AND NOT {RETRYABLE}
              LIMIT ?4)
         RETURNING {COLUMNS}",
        wants_notification("'failed'")
    );
    tasks(
        database,
        &sql,
        vec![now.into(), lease.into(), service.into(), most.into()],
    )
    .await
}

/// Cancels up to `most` tasks whose time is up.
pub(crate) async fn cancel_late(
    database: &dyn Database,
    now: i64,
    most: u64,
) -> Result<Vec<Task>, DatabaseError> {
    let sql = format!(
        "UPDATE aigc_tasks SET status = 'cancelled',
             error_message = 'cancelled, because it had not ended ' || (cancel_at - created_at) || ' s after it was posted',
             updated_at = ?1, completed_at = ?1, version = version + 1, projected_status = NULL,
             lease_until = NULL, next_attempt_at = NULL, message = NULL,
             notify_at = CASE WHEN {} THEN ?1 END, notify_attempts = 0
          WHERE task_id IN (SELECT task_id FROM aigc_tasks WHERE cancel_at <= ?1 AND {OPEN} LIMIT ?2)
            AND {OPEN}
         RETURNING {COLUMNS}",
        wants_notification("'cancelled'")
    );
    tasks(database, &sql, vec![now.into(), most.into()]).await
}

/// The most characters of the names of earlier jobs; the oldest names are dropped first.
const MAX_EARLIER: usize = 4096;

/// Sets a failed or cancelled task back to `pending`: a new run of it, which knows the jobs of the runs
/// before. `None` if the task is neither failed nor cancelled.
pub(crate) async fn set_back(
    database: &dyn Database,
    task_id: &str,
    now: i64,
) -> Result<Option<Task>, DatabaseError> {
    let job = "ifnull(external_task_id, task_id || CASE run WHEN 0 THEN '' ELSE '-r' || run END)";
    let sql = format!(
        "UPDATE aigc_tasks SET status = 'pending', run = run + 1, attempts = 0, retry_count = 0,
             earlier_jobs = CASE
                 WHEN external_task_id IS NULL AND attempts = 0 THEN earlier_jobs
                 WHEN instr(char(10) || earlier_jobs || char(10), char(10) || {job} || char(10)) > 0 THEN earlier_jobs
                 ELSE substr(ifnull(earlier_jobs || char(10), '') || {job}, -{MAX_EARLIER}) END,
             external_task_id = NULL, accepted_at = NULL, result_url = NULL, result_data = NULL, error_message = NULL,
             result_expires_at = NULL, has_product = 0, completed_at = NULL, updated_at = ?2, version = version + 1, projected_status = NULL,
             lease_until = NULL, next_attempt_at = ?2, notify_at = NULL, waits = 0, message = NULL,
             cancel_at = NULL,
             seq = (SELECT max(seq) + 1 FROM aigc_tasks other WHERE other.project_id = aigc_tasks.project_id)
          WHERE task_id = ?1 AND status IN ('failed', 'cancelled') RETURNING {COLUMNS}"
    );
    one(database, &sql, vec![task_id.into(), now.into()]).await
}
