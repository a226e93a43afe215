//! Claims: an instance works on a task only while it holds the task's lease.

use platform::{Database, DatabaseError};

use super::row::{COLUMNS, OPEN, one, tasks};
use crate::task::Task;

/// The shortest wait after an error, in seconds.
pub(crate) const FIRST_WAIT: i64 = 2;

/// The longest wait after an error, in seconds.
pub(crate) const LONGEST_WAIT: i64 = 300;

/// Seconds between two polls of a task. One less than between two ticks of the poller, so that a poll
/// that was a little late does not miss the next tick.
pub(crate) const POLL_SECONDS: i64 = 9;

/// The condition of a task that no instance has claimed: `?1` is the time, and `?2` the longest claim of its
/// service, both in seconds.
pub(super) const FREE: &str = "(lease_until IS NULL OR lease_until <= ?1 OR lease_until > ?1 + ?2)";

/// The condition of a free task whose last claim was for a submission and ended in silence: any outcome of a
/// submission clears the lease.
const SILENT: &str = "(external_task_id IS NULL AND lease_until IS NOT NULL)";

/// The condition of a free task that may still be submitted.
pub(super) const RETRYABLE: &str =
    "NOT (external_task_id IS NULL AND lease_until IS NOT NULL AND retry_count >= max_retries)";

/// The error of a task whose claim ended in silence, in words for its user.
pub(super) const ANSWER_LOST: &str = "the answer was lost; the service may have charged for it";

/// The condition of a task that is to be worked on now, with the parameters of [`FREE`]. A time that is
/// further ahead than any wait was set by a clock that has been set back since, so it counts as past.
fn due() -> String {
    format!("(next_attempt_at <= ?1 OR next_attempt_at > ?1 + ?2 + {LONGEST_WAIT}) AND {FREE}")
}

/// The condition of a task of the service `?3` that is to be submitted now.
fn to_submit() -> String {
    format!(
        "external_service = ?3 AND {OPEN} AND external_task_id IS NULL AND {} AND {RETRYABLE}",
        due()
    )
}

/// The statement of a claim, up to its condition. The lease ends at `?1 + ?2` for a submission. A poll that
/// hears "still running" has nothing more to write, because its claim ends when the next poll is due.
///
/// If the claim before ended in silence, that counts as an error. If this one ends so too, the next follows only
/// after a wait that grows with the errors, because a task that kills its instance may do so again. The wait differs
/// from task to task, so that tasks that died together do not come back together.
fn claim() -> String {
    let wait = format!("min({LONGEST_WAIT}, {FIRST_WAIT} << min(retry_count + {SILENT}, 8))");
    let jittered = format!("{wait} / 2 + abs(random() % ({wait} / 2 + 1))");
    format!(
        "UPDATE aigc_tasks SET
             lease_until = ?1 + CASE WHEN external_task_id IS NULL THEN ?2 ELSE {POLL_SECONDS} END,
             next_attempt_at = ?1 + CASE WHEN external_task_id IS NULL THEN ?2 + {jittered} ELSE {POLL_SECONDS} END,
             attempts = attempts + (external_task_id IS NULL),
             retry_count = retry_count + {SILENT},
             error_message = CASE WHEN {SILENT} THEN '{ANSWER_LOST}' ELSE error_message END,
             version = version + (status = 'pending'),
             projected_status = CASE WHEN status = 'pending' THEN NULL ELSE projected_status END,
             updated_at = CASE WHEN status = 'pending' OR {SILENT} THEN ?1 ELSE updated_at END,
             status = 'processing'"
    )
}

/// Claims a task to submit it, or to poll its service: the task is `processing` from now on. `None` if it is
/// finished, claimed by another instance, or has no retries left.
pub(crate) async fn claim_one(
    database: &dyn Database,
    task_id: &str,
    now: i64,
    lease: i64,
) -> Result<Option<Task>, DatabaseError> {
    let sql = format!(
        "{} WHERE task_id = ?3 AND {OPEN} AND {FREE} AND {RETRYABLE} RETURNING {COLUMNS}",
        claim()
    );
    let parameters = vec![now.into(), lease.into(), task_id.into()];
    one(database, &sql, parameters).await
}

/// Claims the task of a service that has waited longest to be submitted.
pub(crate) async fn claim_submission(
    database: &dyn Database,
    service: &str,
    now: i64,
    lease: i64,
) -> Result<Option<Task>, DatabaseError> {
    let sql = format!(
        "{} WHERE task_id = (
             SELECT task_id FROM aigc_tasks WHERE {} ORDER BY next_attempt_at LIMIT 1)
         RETURNING {COLUMNS}",
        claim(),
        to_submit()
    );
    let parameters = vec![now.into(), lease.into(), service.into()];
    one(database, &sql, parameters).await
}

/// Counts the tasks of a service that are to be submitted now, no further than `most`.
pub(crate) async fn count_submissions(
    database: &dyn Database,
    service: &str,
    now: i64,
    lease: i64,
    most: usize,
) -> Result<usize, DatabaseError> {
    let sql = format!(
        "SELECT count(*) FROM (SELECT 1 FROM aigc_tasks WHERE {} LIMIT ?4)",
        to_submit()
    );
    let most = most as u64;
    let parameters = vec![now.into(), lease.into(), service.into(), most.into()];
    let rows = database.execute(&sql, parameters).await?;
    let count = rows.first().map_or(Ok(0), |row| row.unsigned(0))?;
    Ok(usize::try_from(count).unwrap_or_default())
}

/// Claims up to `most` tasks that their service has accepted and that are to be polled, those that have waited
/// longest first.
pub(crate) async fn claim_polls(
    database: &dyn Database,
    service: &str,
    now: i64,
    lease: i64,
    most: usize,
) -> Result<Vec<Task>, DatabaseError> {
    let sql = format!(
        "{} WHERE task_id IN (
             SELECT task_id FROM aigc_tasks
              WHERE external_service = ?3 AND {OPEN} AND external_task_id IS NOT NULL AND {}
              ORDER BY next_attempt_at LIMIT ?4)
         RETURNING {COLUMNS}",
        claim(),
        due()
    );
    let most = most as u64;
    let parameters = vec![now.into(), lease.into(), service.into(), most.into()];
    tasks(database, &sql, parameters).await
}
