//! The notifications of agents about their tasks.

use platform::{Database, DatabaseError};

use super::row::{COLUMNS, tasks};
use crate::task::Task;

/// The most notifications of one event of a task, over some three hours.
const NOTIFY_ATTEMPTS: u32 = 10;

/// The wait after the first notification, in seconds.
const FIRST_NOTIFY_WAIT: i64 = 20;

/// The wait before the last notification, in seconds.
const LONGEST_NOTIFY_WAIT: i64 = FIRST_NOTIFY_WAIT << (NOTIFY_ATTEMPTS - 1);

/// The condition of a task whose agent has asked for this event, given in SQL. An agent that has chosen no events is
/// notified of the end.
pub(super) fn wants_notification(event: &str) -> String {
    format!(
        "callback_url IS NOT NULL AND instr(
             ',' || ifnull(notify_of, 'completed,failed,cancelled') || ',', ',' || {event} || ',') > 0"
    )
}

/// Notes that the agent of a task is to be notified of this event while the task is under way, if the agent has asked
/// for that. Returns whether it has. A further submission in the same run is no new start, so the agent is not notified
/// again, whether the service had no place or the one before ended in an error.
pub(crate) async fn record_notification(
    database: &dyn Database,
    task: &Task,
    event: &str,
    now: i64,
) -> Result<bool, DatabaseError> {
    let sql = format!(
        "UPDATE aigc_tasks SET notify_at = ?2, notify_attempts = 0
          WHERE task_id = ?1 AND run = ?4 AND status = 'processing' AND waits = 0 AND attempts = 1
            AND {} RETURNING 1",
        wants_notification("?3")
    );
    let parameters = vec![
        task.task_id.as_str().into(),
        now.into(),
        event.into(),
        task.run.into(),
    ];
    Ok(!database.execute(&sql, parameters).await?.is_empty())
}

/// Claims up to `most` tasks whose agents are to be notified, or only the task of this id. Each
/// is due again after a wait that doubles, until it was tried [`NOTIFY_ATTEMPTS`] times.
pub(crate) async fn claim_notifications(
    database: &dyn Database,
    task_id: Option<&str>,
    now: i64,
    most: u64,
) -> Result<Vec<Task>, DatabaseError> {
    let sql = format!(
        "UPDATE aigc_tasks SET
             notify_at = CASE WHEN notify_attempts + 1 < {NOTIFY_ATTEMPTS}
                              THEN ?1 + ({FIRST_NOTIFY_WAIT} << notify_attempts) END,
             notify_attempts = notify_attempts + 1
          WHERE task_id IN (
             SELECT task_id FROM aigc_tasks
              WHERE (notify_at <= ?1 OR notify_at > ?1 + {LONGEST_NOTIFY_WAIT})
                AND (?2 IS NULL OR task_id = ?2)
              ORDER BY notify_at LIMIT ?3)
         RETURNING {COLUMNS}"
    );
    tasks(
        database,
        &sql,
        vec![now.into(), task_id.into(), most.into()],
    )
    .await
}

/// Notes that a task's agent was notified of this version of it. If the task was put back, or taken up again, while the
/// notification of its start was on its way, that notification counts as well; only an end is notified anew.
pub(crate) async fn notified(database: &dyn Database, task: &Task) -> Result<(), DatabaseError> {
    database
        .execute(
            "UPDATE aigc_tasks SET notify_at = NULL
              WHERE task_id = ?1 AND (version = ?2 OR run = ?3 AND status IN ('pending', 'processing'))",
            vec![
                task.task_id.as_str().into(),
                task.version.into(),
                task.run.into(),
            ],
        )
        .await?;
    Ok(())
}
