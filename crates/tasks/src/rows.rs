//! The rows of `aigc_tasks`. Each function is one statement, so that any number of instances may run
//! them at once and be killed between any two.
//!
//! What a document shows of a task is its `version`: every statement that changes it counts that up
//! and sets `projected_status` to NULL, which means that the document does not show it yet.

use platform::{Database, DatabaseError, Row, Value};

use crate::{Status, Task, error::shortened};

/// In the order in which [`task`] reads them.
const COLUMNS: &str = "task_id, project_id, task_type, status, external_task_id, external_service, \
     params, result_url, result_data, error_message, created_at, updated_at, completed_at, \
     retry_count, max_retries, node_id, callback_url, version, run, attempts, lease_until, \
     accepted_at, earlier_jobs";

/// The condition of a task that is not finished.
const OPEN: &str = "status IN ('pending', 'processing')";

/// The shortest wait after an error, and the longest, in seconds.
pub(crate) const FIRST_WAIT: i64 = 2;
/// See [`FIRST_WAIT`].
pub(crate) const LONGEST_WAIT: i64 = 300;

/// The condition of a task that is to be worked on now: `?1` is the time, and `?2` the longest claim of its service. A
/// time that is further ahead than any wait was set by a clock that has been set back since, so it counts as past.
fn due() -> String {
    format!("(next_attempt_at <= ?1 OR next_attempt_at > ?1 + ?2 + {LONGEST_WAIT}) AND {FREE}")
}

/// The condition of a task that no instance has claimed, with the parameters of [`due`].
const FREE: &str = "(lease_until IS NULL OR lease_until <= ?1 OR lease_until > ?1 + ?2)";

/// The condition of a free task that was claimed to be submitted, by an instance that ended without a word: what comes
/// of a submission ends its claim.
const SILENT: &str = "(external_task_id IS NULL AND lease_until IS NOT NULL)";

/// The condition of a free task that may still be submitted.
const RETRYABLE: &str =
    "NOT (external_task_id IS NULL AND lease_until IS NOT NULL AND retry_count >= max_retries)";

/// What a user reads of a task whose claim ended in silence.
const ANSWER_LOST: &str = "the answer was lost; the service may have charged for it";

fn task(mut row: Row) -> Result<Task, DatabaseError> {
    let status = row.text(3)?;
    let status = Status::parse(&status)
        .ok_or_else(|| DatabaseError::Unexpected(format!("status {status:?}")))?;
    Ok(Task {
        task_id: row.text(0)?,
        project_id: row.text(1)?,
        task_type: row.text(2)?,
        status,
        external_task_id: row.optional_text(4)?,
        external_service: row.optional_text(5)?,
        params: row.text(6)?,
        result_url: row.optional_text(7)?,
        result_data: row.optional_text(8)?,
        error_message: row.optional_text(9)?,
        created_at: row.integer(10)?,
        updated_at: row.integer(11)?,
        completed_at: row.optional_integer(12)?,
        retry_count: row.integer(13)?,
        max_retries: row.integer(14)?,
        node_id: row.optional_text(15)?,
        callback_url: row.optional_text(16)?,
        version: row.integer(17)?,
        run: row.integer(18)?,
        attempts: row.integer(19)?,
        lease_until: row.optional_integer(20)?,
        accepted_at: row.optional_integer(21)?,
        earlier_jobs: row.optional_text(22)?,
    })
}

async fn tasks(
    database: &dyn Database,
    sql: &str,
    parameters: Vec<Value>,
) -> Result<Vec<Task>, DatabaseError> {
    let rows = database.execute(sql, parameters).await?;
    rows.into_iter().map(task).collect()
}

async fn one(
    database: &dyn Database,
    sql: &str,
    parameters: Vec<Value>,
) -> Result<Option<Task>, DatabaseError> {
    Ok(tasks(database, sql, parameters).await?.into_iter().next())
}

/// A task to insert.
pub(crate) struct Insert<'a> {
    pub(crate) task: &'a Task,
    pub(crate) idempotency_key: Option<&'a str>,
    pub(crate) request_digest: &'a str,
}

/// Stores a new task; `false` where its idempotency key is taken.
pub(crate) async fn insert(
    database: &dyn Database,
    new: Insert<'_>,
) -> Result<bool, DatabaseError> {
    let Task { created_at, .. } = *new.task;
    let task = new.task;
    let rows = database
        .execute(
            "INSERT INTO aigc_tasks (task_id, project_id, task_type, status, external_service, params,
                 created_at, updated_at, max_retries, node_id, callback_url, next_attempt_at,
                 idempotency_key, request_digest)
             VALUES (?1, ?2, ?3, 'pending', ?4, ?5, ?6, ?6, ?7, ?8, ?9, ?6, ?10, ?11)
             ON CONFLICT (idempotency_key) DO NOTHING
             RETURNING 1",
            vec![
                task.task_id.as_str().into(),
                task.project_id.as_str().into(),
                task.task_type.as_str().into(),
                task.external_service.as_deref().into(),
                task.params.as_str().into(),
                created_at.into(),
                task.max_retries.into(),
                task.node_id.as_deref().into(),
                task.callback_url.as_deref().into(),
                new.idempotency_key.into(),
                new.request_digest.into(),
            ],
        )
        .await?;
    Ok(!rows.is_empty())
}

/// The task that was posted under an idempotency key, and the digest of that request.
pub(crate) async fn by_key(
    database: &dyn Database,
    key: &str,
) -> Result<Option<(Task, String)>, DatabaseError> {
    let sql =
        format!("SELECT {COLUMNS}, request_digest FROM aigc_tasks WHERE idempotency_key = ?1");
    let Some(mut row) = database
        .execute(&sql, vec![key.into()])
        .await?
        .into_iter()
        .next()
    else {
        return Ok(None);
    };
    let digest = row.optional_text(23)?.unwrap_or_default();
    Ok(Some((task(row)?, digest)))
}

/// Tasks by a condition (and order) in SQL, with its parameters.
///
/// # Errors
/// When the database fails.
pub async fn select(
    database: &dyn Database,
    condition: &str,
    parameters: Vec<Value>,
) -> Result<Vec<Task>, DatabaseError> {
    let sql = format!("SELECT {COLUMNS} FROM aigc_tasks WHERE {condition}");
    tasks(database, &sql, parameters).await
}

/// The task of this id.
///
/// # Errors
/// When the database fails.
pub async fn get(database: &dyn Database, task_id: &str) -> Result<Option<Task>, DatabaseError> {
    let found = select(database, "task_id = ?1", vec![task_id.into()]).await?;
    Ok(found.into_iter().next())
}

/// Which tasks to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this project.
    pub project_id: Option<String>,
    /// Of the projects that this user owns or is a member of.
    pub user_id: Option<String>,
    /// In this status.
    pub status: Option<Status>,
    /// Of this type.
    pub task_type: Option<String>,
    /// After this one: its time and id.
    pub after: Option<(i64, String)>,
    /// At most so many.
    pub limit: u64,
}

/// Tasks, newest first. Pages are stable: a new task never moves an old one to another page.
///
/// # Errors
/// When the database fails.
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
        text += &format!(
            " AND project_id IN (
                 SELECT project_id FROM projects WHERE owner_id = ?{n} AND deleted_at IS NULL
                  UNION
                 SELECT m.project_id FROM project_members m JOIN projects p ON p.project_id = m.project_id
                  WHERE m.user_id = ?{n} AND p.deleted_at IS NULL)"
        );
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

/// Claims a task to submit it, or to ask about it: it is `processing` from now on. `None` where it is finished, claimed
/// by another instance, or has no retries left.
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
    one(
        database,
        &sql,
        vec![now.into(), lease.into(), task_id.into()],
    )
    .await
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
    one(
        database,
        &sql,
        vec![now.into(), lease.into(), service.into()],
    )
    .await
}

/// How many tasks of a service are to be submitted now; counts no further than `most`.
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

/// The condition of a task of the service `?3` that is to be submitted now.
fn to_submit() -> String {
    format!(
        "external_service = ?3 AND {OPEN} AND external_task_id IS NULL AND {} AND {RETRYABLE}",
        due()
    )
}

/// Claims up to `most` tasks that their service has accepted and that it is to be asked about, those that wait longest
/// first.
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
    tasks(
        database,
        &sql,
        vec![now.into(), lease.into(), service.into(), most.into()],
    )
    .await
}

/// What a claim sets: until `?1 + ?2` for a submission. A poll that hears "still running" has nothing
/// more to write, for its claim ends when the next poll is due.
///
/// If the claim before ended in silence, that counts as an error. Should this one end so too, the next follows only
/// after a wait that grows with the errors and differs from task to task, because what kills an instance may well do so
/// again, and those that died together would come back together.
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

/// Ends up to `most` tasks of a service whose claims ended in silence as often as they may be tried.
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
             lease_until = NULL, next_attempt_at = NULL,
             notify_at = CASE WHEN callback_url IS NULL THEN NULL ELSE ?1 END, notify_attempts = 0
          WHERE task_id IN (
             SELECT task_id FROM aigc_tasks
              WHERE external_service = ?3 AND {OPEN} AND external_task_id IS NULL AND {FREE} AND NOT {RETRYABLE}
              LIMIT ?4)
         RETURNING {COLUMNS}"
    );
    tasks(
        database,
        &sql,
        vec![now.into(), lease.into(), service.into(), most.into()],
    )
    .await
}

/// The condition of a claim that still holds: `?1` to `?3` are [`holder`].
const HELD: &str =
    "task_id = ?1 AND run = ?2 AND lease_until = ?3 AND status IN ('pending', 'processing')";

fn holder(claimed: &Task) -> Vec<Value> {
    vec![
        claimed.task_id.as_str().into(),
        claimed.run.into(),
        claimed.lease_until.into(),
    ]
}

/// The service has accepted a claimed task.
pub(crate) async fn accept(
    database: &dyn Database,
    claimed: &Task,
    external_task_id: &str,
    now: i64,
) -> Result<bool, DatabaseError> {
    let sql = format!(
        "UPDATE aigc_tasks SET external_task_id = ?4, accepted_at = ?5, updated_at = ?5,
             lease_until = NULL, next_attempt_at = ?5 + {POLL_SECONDS}
          WHERE {HELD} RETURNING 1"
    );
    let mut parameters = holder(claimed);
    parameters.extend([external_task_id.into(), now.into()]);
    changed(database, &sql, parameters).await
}

/// A claimed task had an error and is due again in `wait` seconds.
pub(crate) async fn put_off(
    database: &dyn Database,
    claimed: &Task,
    error: &str,
    now: i64,
    wait: i64,
) -> Result<bool, DatabaseError> {
    let sql = format!(
        "UPDATE aigc_tasks SET retry_count = retry_count + 1, error_message = ?4,
             updated_at = ?5, lease_until = NULL, next_attempt_at = ?5 + ?6
          WHERE {HELD} RETURNING 1"
    );
    let mut parameters = holder(claimed);
    parameters.extend([shortened(error).into(), now.into(), wait.into()]);
    changed(database, &sql, parameters).await
}

/// The service answers about a task as it should: earlier errors count no more.
pub(crate) async fn forgive(
    database: &dyn Database,
    claimed: &Task,
    now: i64,
) -> Result<bool, DatabaseError> {
    let sql = format!(
        "UPDATE aigc_tasks SET retry_count = 0, error_message = NULL, updated_at = ?4
          WHERE {HELD} RETURNING 1"
    );
    let mut parameters = holder(claimed);
    parameters.push(now.into());
    changed(database, &sql, parameters).await
}

/// How a task ends.
pub(crate) enum End<'a> {
    Completed { url: &'a str, data: &'a str },
    Failed { error: &'a str },
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
    let (status, url, data, error) = match end {
        End::Completed { url, data } => ("completed", Some(url), Some(data), None),
        End::Failed { error } => ("failed", None, None, Some(shortened(error))),
        End::Cancelled => ("cancelled", None, None, None),
    };
    let sql = format!(
        "UPDATE aigc_tasks SET status = ?3, result_url = ?4, result_data = ?5, error_message = ?6,
             updated_at = ?7, completed_at = ?7, version = version + 1, projected_status = NULL,
             external_task_id = ifnull(external_task_id, ?8),
             lease_until = NULL, next_attempt_at = NULL,
             notify_at = CASE WHEN callback_url IS NULL THEN NULL ELSE ?7 END, notify_attempts = 0
          WHERE task_id = ?1 AND run = ?2 AND {OPEN} RETURNING {COLUMNS}"
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
        ],
    )
    .await
}

/// The most characters of the names of earlier jobs; the oldest go first.
const MAX_EARLIER: usize = 4096;

/// Sets a failed or cancelled task back to `pending`: a new run of it, which knows the jobs of those before. `None`
/// if it is neither.
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
             completed_at = NULL, updated_at = ?2, version = version + 1, projected_status = NULL,
             lease_until = NULL, next_attempt_at = ?2, notify_at = NULL
          WHERE task_id = ?1 AND status IN ('failed', 'cancelled') RETURNING {COLUMNS}"
    );
    one(database, &sql, vec![task_id.into(), now.into()]).await
}

/// Claims up to `most` finished tasks whose agents are to be told, or one of them; each is due again
/// after a while that doubles, until it was tried [`NOTIFY_ATTEMPTS`] times.
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

/// A finished task's agent has been told of this version of it.
pub(crate) async fn notified(database: &dyn Database, task: &Task) -> Result<(), DatabaseError> {
    database
        .execute(
            "UPDATE aigc_tasks SET notify_at = NULL WHERE task_id = ?1 AND version = ?2",
            vec![task.task_id.as_str().into(), task.version.into()],
        )
        .await?;
    Ok(())
}

/// How often an agent is told at most: over some three hours.
pub(crate) const NOTIFY_ATTEMPTS: u32 = 10;

/// The waits after the first notification and before the last, in seconds.
const FIRST_NOTIFY_WAIT: i64 = 20;
const LONGEST_NOTIFY_WAIT: i64 = FIRST_NOTIFY_WAIT << (NOTIFY_ATTEMPTS - 1);

/// Seconds between two polls of a task. One less than between two ticks of the poller, so that a poll
/// that was a little late does not miss the next tick.
pub(crate) const POLL_SECONDS: i64 = 9;

async fn changed(
    database: &dyn Database,
    sql: &str,
    parameters: Vec<Value>,
) -> Result<bool, DatabaseError> {
    Ok(!database.execute(sql, parameters).await?.is_empty())
}
