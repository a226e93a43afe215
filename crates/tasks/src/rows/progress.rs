//! The progress of a claimed task. Each function here changes the row only while the claim holds.

use platform::{Database, DatabaseError, Value};

use super::{
    claims::POLL_SECONDS,
    row::{COLUMNS, one},
};
use crate::task::{Task, shortened};

/// The condition of a claim that still holds. [`holder`] makes its parameters `?1` to `?3`.
pub(super) const HOLDS: &str =
    "task_id = ?1 AND run = ?2 AND lease_until = ?3 AND status IN ('pending', 'processing')";

pub(super) fn holder(claimed: &Task) -> Vec<Value> {
    vec![
        claimed.task_id.as_str().into(),
        claimed.run.into(),
        claimed.lease_until.into(),
    ]
}

/// Notes that the service has accepted a claimed task.
pub(crate) async fn accept(
    database: &dyn Database,
    claimed: &Task,
    external_task_id: &str,
    now: i64,
) -> Result<(), DatabaseError> {
    let sql = format!(
        "UPDATE aigc_tasks SET external_task_id = ?4, accepted_at = ?5, updated_at = ?5,
             waits = 0, lease_until = NULL, next_attempt_at = ?5 + {POLL_SECONDS}
          WHERE {HOLDS}"
    );
    let mut parameters = holder(claimed);
    parameters.extend([external_task_id.into(), now.into()]);
    database.execute(&sql, parameters).await?;
    Ok(())
}

/// Notes that a claimed task had an error, and makes it due again in `wait` seconds.
pub(crate) async fn put_off(
    database: &dyn Database,
    claimed: &Task,
    error: &str,
    now: i64,
    wait: i64,
) -> Result<(), DatabaseError> {
    let sql = format!(
        "UPDATE aigc_tasks SET retry_count = retry_count + 1, error_message = ?4,
             updated_at = ?5, lease_until = NULL, next_attempt_at = ?5 + ?6
          WHERE {HOLDS}"
    );
    let mut parameters = holder(claimed);
    parameters.extend([shortened(error).into(), now.into(), wait.into()]);
    database.execute(&sql, parameters).await?;
    Ok(())
}

/// Puts a claimed task back to `pending`, because its service has no place for it or is asked too often. It is due again in
/// `wait` seconds. If there was no place, that is at once, so that the task stays before those posted after it: the pause
/// is the service's. The submission had no effect, so it counts neither as an error nor as an attempt. `None` if the
/// claim no longer holds.
///
/// Every second such try does not count as a turn of its project. A service that frees a place a moment after the end
/// of a job refuses the first try and takes the second; if each try counted, one of two projects would get every
/// refusal and the other every place.
pub(crate) async fn put_back(
    database: &dyn Database,
    claimed: &Task,
    message: &str,
    now: i64,
    wait: i64,
) -> Result<Option<Task>, DatabaseError> {
    let sql = format!(
        "UPDATE aigc_tasks SET status = 'pending', waits = waits + 1, message = ?4, attempts = attempts - 1,
             turn = CASE WHEN waits % 2 = 0 THEN 0 ELSE turn END,
             version = version + 1, projected_status = NULL,
             updated_at = ?5, lease_until = NULL, next_attempt_at = ?5 + ?6
          WHERE {HOLDS} AND external_task_id IS NULL RETURNING {COLUMNS}"
    );
    let mut parameters = holder(claimed);
    parameters.extend([message.into(), now.into(), wait.into()]);
    one(database, &sql, parameters).await
}

/// Forgets earlier errors of a claimed task, because its service answers as it should.
pub(crate) async fn forgive(
    database: &dyn Database,
    claimed: &Task,
    now: i64,
) -> Result<(), DatabaseError> {
    let sql = format!(
        "UPDATE aigc_tasks SET retry_count = 0, error_message = NULL, updated_at = ?4
          WHERE {HOLDS}"
    );
    let mut parameters = holder(claimed);
    parameters.push(now.into());
    database.execute(&sql, parameters).await?;
    Ok(())
}
