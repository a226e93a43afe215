//! The claims: an instance works on a task only while it holds the task's lease.
//!
//! The claiming statement alone decides which task is submitted next. A limited number of tasks is under
//! way at a service, and of these a limited number for one project. Projects take turns, and in each the task posted
//! first comes first. A service that has refused a task gets no more tasks than were under way then, except for
//! one try at a time after a pause: see [`super::places`].

use platform::{Database, DatabaseError, Value};

use super::{
    places::DOUBTS,
    row::{COLUMNS, OPEN, one, tasks},
};
use crate::task::Task;

/// The shortest wait after an error, in seconds.
pub(crate) const FIRST_WAIT: i64 = 2;

/// The longest wait after an error, in seconds.
pub(crate) const LONGEST_WAIT: i64 = 300;

/// The seconds between two polls of a task. There is one less than between two ticks of the poller, so that a poll that
/// was a little late does not miss the next tick.
pub(crate) const POLL_SECONDS: i64 = 9;

/// The bounds of the claims of one service, over all instances.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule<'a> {
    /// The service.
    pub(crate) service: &'a str,
    /// The length of a claim for a submission, in seconds.
    pub(crate) lease: i64,
    /// The most tasks that are under way at the service.
    pub(crate) places: i64,
    /// The most of them that belong to one project.
    pub(crate) project_places: i64,
}

/// The condition of a task that no instance has claimed: `?1` is the time, and `?2` the longest claim of its
/// service, both in seconds.
pub(super) const FREE: &str = "(lease_until IS NULL OR lease_until <= ?1 OR lease_until > ?1 + ?2)";

/// The condition of a free task whose last claim was for a submission and ended without an outcome: any outcome of a
/// submission clears the lease.
const SILENT: &str = "(external_task_id IS NULL AND lease_until IS NOT NULL)";

/// The condition of a free task that may still be submitted.
pub(super) const RETRYABLE: &str =
    "NOT (external_task_id IS NULL AND lease_until IS NOT NULL AND retry_count >= max_retries)";

/// The error of a task whose claim ended without an outcome, in words for its user.
pub(super) const ANSWER_LOST: &str = "the answer was lost; the service may have charged for it";

/// The condition of a task that is to be worked on now, with the parameters of [`FREE`]. A time that is
/// further ahead than any wait was set by a clock that has been set back since, so it counts as past.
pub(super) fn due() -> String {
    format!("(next_attempt_at <= ?1 OR next_attempt_at > ?1 + ?2 + {LONGEST_WAIT}) AND {FREE}")
}

/// The condition of a task of the service `?3` that the service has not accepted.
fn unaccepted() -> String {
    format!("external_service = ?3 AND {OPEN} AND external_task_id IS NULL")
}

/// The table of [`places_held`], and its columns.
pub(super) const HELD: &str = "held (task_id, project_id, is_probe, is_accepted)";

/// The tasks that hold a place at the service `?3`: those that the service has accepted, until it has reported their
/// results, and those whose submission is claimed. Each has its id, its project, whether the claim is a try beyond the
/// places that are known, and whether the service has accepted the task. They are the rows of [`HELD`].
pub(super) fn places_held() -> String {
    format!(
        "SELECT task_id, project_id, 0, 1 FROM aigc_tasks INDEXED BY aigc_tasks_accepted
          WHERE external_service = ?3 AND {OPEN} AND external_task_id IS NOT NULL AND has_product = 0
          UNION ALL
         SELECT task_id, project_id, is_probe, 0 FROM aigc_tasks INDEXED BY aigc_tasks_to_submit
          WHERE {} AND next_attempt_at > ?1 AND next_attempt_at <= ?1 + ?2 + {LONGEST_WAIT}
            AND lease_until > ?1 AND lease_until <= ?1 + ?2",
        unaccepted()
    )
}

/// The projects with tasks that the service `?3` has not accepted, found one by one in an index, because one of them
/// may have thousands of such tasks. The indexes here are named because SQLite would choose others, in which it would
/// have to pass over all tasks that ever ended.
fn waiting_projects() -> String {
    let unaccepted = unaccepted();
    format!(
        "SELECT min(project_id) FROM aigc_tasks INDEXED BY aigc_tasks_waiting WHERE {unaccepted}
          UNION ALL
         SELECT (SELECT min(project_id) FROM aigc_tasks INDEXED BY aigc_tasks_waiting
                  WHERE {unaccepted} AND project_id > waiting.project_id)
           FROM waiting WHERE waiting.project_id IS NOT NULL"
    )
}

/// The condition of a claim at the service `?3` that would take more places than it is known to have.
fn is_beyond() -> &'static str {
    "EXISTS (SELECT 1 FROM aigc_places WHERE service = ?3 AND places <= (SELECT count(*) FROM held))"
}

/// The SQL of a wait between half of `wait` and all of it. The point between them depends on `spread`, which is not
/// negative.
pub(super) fn jittered(wait: &str, spread: &str) -> String {
    format!("{wait} / 2 + {spread} % ({wait} / 2 + 1)")
}

/// The condition that the service `?3` takes no further task now: it is to be left alone; or it is doubted, and one is being
/// submitted; or it has refused one beyond the places that are held, and either the pause goes on or a try for one more is
/// under way. A time that is further ahead than any pause was set by a clock that has been set back since.
fn refuses() -> String {
    let is_ahead = |time: &str| format!("({time} > ?1 AND {time} <= ?1 + {LONGEST_WAIT})");
    format!(
        "EXISTS (SELECT 1 FROM aigc_places WHERE service = ?3 AND ({quiet}
                    OR (doubts >= {DOUBTS} AND EXISTS (SELECT 1 FROM held WHERE NOT is_accepted))))
         OR ({is_beyond} AND (EXISTS (SELECT 1 FROM held WHERE held.is_probe)
                 OR EXISTS (SELECT 1 FROM aigc_places WHERE service = ?3 AND {pause})))",
        quiet = is_ahead("quiet_until"),
        is_beyond = is_beyond(),
        pause = is_ahead("probe_at"),
    )
}

/// Claims the task of a service that is next to be submitted: it is `processing` from now on. `None` if no task is due,
/// or every place is taken. The lease ends after [`Rule::lease`].
///
/// If the claim before ended without an outcome, that counts as an error. If this one ends in the same way, the next
/// follows only after a wait that grows with the errors, because a task that kills its instance may do so again. The
/// wait differs from task to task, so that tasks that died together do not come back together.
pub(crate) async fn claim_submission(
    database: &dyn Database,
    rule: Rule<'_>,
    now: i64,
) -> Result<Option<Task>, DatabaseError> {
    let wait = format!("min({LONGEST_WAIT}, {FIRST_WAIT} << min(retry_count + {SILENT}, 8))");
    let jittered = jittered(&wait, "(seq * 7919 + attempts * 104729)");
    let sql = format!(
        "WITH RECURSIVE
             {HELD} AS ({held}),
             waiting (project_id) AS ({waiting}),
             next (task_id) AS (
                 SELECT first.task_id
                   FROM waiting JOIN aigc_tasks first ON first.task_id = (
                        SELECT task_id FROM aigc_tasks INDEXED BY aigc_tasks_waiting
                         WHERE {unaccepted} AND project_id = waiting.project_id AND {due} AND {RETRYABLE}
                         ORDER BY seq LIMIT 1)
                  WHERE (SELECT count(*) FROM held) < ?4 AND NOT ({refuses})
                    AND (SELECT count(*) FROM held WHERE held.project_id = waiting.project_id) < ?5
                  ORDER BY (SELECT max(turn) FROM aigc_tasks
                             WHERE external_service = ?3 AND project_id = waiting.project_id), first.created_at,
                           waiting.project_id
                  LIMIT 1)
         UPDATE aigc_tasks SET
             turn = (SELECT max(turn) + 1 FROM aigc_tasks),
             lease_until = ?1 + ?2,
             next_attempt_at = ?1 + ?2 + {jittered},
             attempts = attempts + 1,
             is_probe = {is_beyond},
             retry_count = retry_count + {SILENT},
             error_message = CASE WHEN {SILENT} THEN '{ANSWER_LOST}' ELSE error_message END,
             message = NULL,
             version = version + (status = 'pending'),
             projected_status = CASE WHEN status = 'pending' THEN NULL ELSE projected_status END,
             updated_at = CASE WHEN status = 'pending' OR {SILENT} THEN ?1 ELSE updated_at END,
             status = 'processing'
          WHERE task_id = (SELECT task_id FROM next)
         RETURNING {COLUMNS}",
        held = places_held(),
        refuses = refuses(),
        is_beyond = is_beyond(),
        waiting = waiting_projects(),
        unaccepted = unaccepted(),
        due = due(),
    );
    let parameters = vec![
        now.into(),
        rule.lease.into(),
        rule.service.into(),
        rule.places.into(),
        rule.project_places.into(),
    ];
    one(database, &sql, parameters).await
}

/// Returns whether a task of this service is due to be submitted. There may be no place for it.
pub(crate) async fn is_submission_due(
    database: &dyn Database,
    service: &str,
    now: i64,
) -> Result<bool, DatabaseError> {
    let sql = format!(
        "SELECT 1 FROM aigc_tasks INDEXED BY aigc_tasks_to_submit
          WHERE external_service = ?1 AND {OPEN} AND external_task_id IS NULL AND next_attempt_at <= ?2 LIMIT 1"
    );
    let rows = database.execute(&sql, vec![service.into(), now.into()]);
    Ok(!rows.await?.is_empty())
}

/// The statement of a claim for a poll, up to its condition. A poll that finds the job still running has nothing more
/// to write, because its claim ends when the next poll is due.
fn claim_for_poll() -> String {
    format!(
        "UPDATE aigc_tasks SET lease_until = ?1 + {POLL_SECONDS}, next_attempt_at = ?1 + {POLL_SECONDS}"
    )
}

/// Claims an accepted task to poll its service. `None` if the task is finished or claimed by another instance.
pub(crate) async fn claim_poll(
    database: &dyn Database,
    task_id: &str,
    now: i64,
    lease: i64,
) -> Result<Option<Task>, DatabaseError> {
    let sql = format!(
        "{} WHERE task_id = ?3 AND {OPEN} AND external_task_id IS NOT NULL AND has_product = 0 AND {FREE} RETURNING {COLUMNS}",
        claim_for_poll()
    );
    let parameters = vec![now.into(), lease.into(), task_id.into()];
    one(database, &sql, parameters).await
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
              WHERE external_service = ?3 AND {OPEN} AND external_task_id IS NOT NULL AND has_product = 0 AND {}
              ORDER BY next_attempt_at LIMIT ?4)
         RETURNING {COLUMNS}",
        claim_for_poll(),
        due()
    );
    let most = most as u64;
    let parameters = vec![now.into(), lease.into(), service.into(), most.into()];
    tasks(database, &sql, parameters).await
}

/// Records in a task that was not claimed why it waits.
pub(crate) async fn explain_wait(
    database: &dyn Database,
    task_id: &str,
    now: i64,
    message: &str,
) -> Result<(), DatabaseError> {
    let sql = "UPDATE aigc_tasks SET message = ?2, updated_at = ?3
          WHERE task_id = ?1 AND status = 'pending' AND message IS NULL";
    let parameters: Vec<Value> = vec![task_id.into(), message.into(), now.into()];
    database.execute(sql, parameters).await?;
    Ok(())
}

/// Records in the tasks that have waited for their first submission for this many seconds why they wait.
pub(crate) async fn explain_waits(
    database: &dyn Database,
    service: &str,
    now: i64,
    waited: i64,
    message: &str,
) -> Result<(), DatabaseError> {
    let sql = format!(
        "UPDATE aigc_tasks SET message = ?3, updated_at = ?2
          WHERE external_service = ?1 AND {OPEN} AND external_task_id IS NULL AND next_attempt_at <= ?2 - ?4
            AND status = 'pending' AND message IS NULL"
    );
    let parameters: Vec<Value> = vec![service.into(), now.into(), message.into(), waited.into()];
    database.execute(&sql, parameters).await?;
    Ok(())
}
