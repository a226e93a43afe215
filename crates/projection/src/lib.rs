//! Writing tasks into the documents of their projects.
//!
//! A document shows a task as its row is. All projections of a room happen one after the other, and none of
//! an older state after a newer one, though any number of instances may project at once: a projection
//! reads the rows first and the document then, and is appended only if at that moment the rows are
//! still as they were read, and no other projection of the room came between. Otherwise it reads again.
//!
//! What an event did not bring about, the sweep does ([`due`]). It also looks again at the documents of
//! tasks that ended lately, for a node may come, or be written whole by somebody else, after its task's end.

#![forbid(unsafe_code)]

mod document;

use std::collections::HashSet;

use platform::{Clock, Database, PubSub, Value};
use rooms::{Guard, NewUpdate, RoomError};
use tasks::Task;
use wire::Notice;

/// The origin of projections in a room's log.
const ORIGIN: &str = "tasks";

/// The most tasks in one projection.
const AT_ONCE: usize = 200;

/// The most bytes of one projection. A larger update would be the room's for good, and everybody's who joins it.
const MAX_BYTES: usize = 1024 * 1024;

/// How often a projection is tried that others come before, or that is too large and so is done in parts.
const TRIES: u32 = 24;

/// For so many seconds after a task's end its document is looked at again when it has changed.
const LOOK_AGAIN: i64 = 120;

/// Of tasks that ended lately: the document has changed since it was found to show them. `?1` is now -
/// [`LOOK_AGAIN`]. An end that is still to come was noted by a clock that has been set back since.
fn changed_since() -> String {
    format!(
        "completed_at > ?1 AND completed_at <= ?1 + 2 * {LOOK_AGAIN} AND projected_rev < max(
    ifnull((SELECT max(u.rev) FROM loro_updates u WHERE u.project_id = aigc_tasks.project_id), 0),
    ifnull((SELECT s.rev FROM loro_snapshots s WHERE s.project_id = aigc_tasks.project_id), 0))"
    )
}

/// Up to `most` projects with tasks to project.
///
/// # Errors
/// When the database fails.
pub async fn due(
    database: &dyn Database,
    clock: &dyn Clock,
    most: u64,
) -> Result<Vec<String>, RoomError> {
    // Two selects, each with an index of its own.
    let sql = format!(
        "SELECT project_id FROM aigc_tasks WHERE projected_status IS NULL
         UNION SELECT project_id FROM aigc_tasks WHERE {}
         LIMIT ?2",
        changed_since()
    );
    let parameters = vec![(clock.unix_seconds() - LOOK_AGAIN).into(), most.into()];
    let rows = database.execute(&sql, parameters).await?;
    rows.into_iter().map(|mut row| Ok(row.text(0)?)).collect()
}

/// Brings a project's document up to date with its tasks, and tells the relays.
///
/// This merges the room, and so may trap: whoever calls is ready to lose the instance.
///
/// # Errors
/// When the database fails or the room cannot be merged. What was not projected stays due.
pub async fn project(
    database: &impl Database,
    clock: &impl Clock,
    pubsub: &dyn PubSub,
    project_id: &str,
) -> Result<(), RoomError> {
    let condition = format!(
        "project_id = ?2 AND (projected_status IS NULL OR ({}))
         ORDER BY projected_status IS NOT NULL, created_at, task_id LIMIT ?3",
        changed_since()
    );
    let mut most = AT_ONCE;
    // Tasks whose nodes are too large to be written.
    let mut too_large = HashSet::new();
    for _ in 0..TRIES {
        let since = clock.unix_seconds() - LOOK_AGAIN;
        let parameters = vec![since.into(), project_id.into(), (most as u64).into()];
        let tasks = tasks::rows::select(database, &condition, parameters).await?;
        if tasks.is_empty() {
            return Ok(());
        }
        let merged = rooms::merge(database, clock, project_id).await?;
        let mut update = merged.change(peer(clock), |doc| {
            document::write_entries(doc, &tasks)?;
            document::write_nodes(doc, &tasks, &too_large)
        })?;
        if let Some(bytes) = update
            .as_ref()
            .map(Vec::len)
            .filter(|bytes| *bytes > MAX_BYTES)
        {
            match &tasks[..] {
                [_, _, ..] => {
                    most = tasks.len() / 2;
                    continue;
                }
                [task] if !too_large.contains(&task.task_id) => {
                    // There are many, or they are large plain values, each of which would be written whole.
                    tracing::warn!(
                        project = project_id,
                        task_id = task.task_id,
                        bytes,
                        "nodes are too large to show their task"
                    );
                    too_large.insert(task.task_id.clone());
                    continue;
                }
                _ => {
                    tracing::error!(
                        project = project_id,
                        bytes,
                        "a task is too large for its document"
                    );
                    update = None;
                }
            }
        }
        let projected = match update {
            None => Some(merged.rev),
            Some(payload) => append(database, clock, pubsub, &tasks, merged.rev, payload).await?,
        };
        let Some(rev) = projected else {
            continue;
        };
        shown(database, &tasks, rev).await?;
        if tasks.len() < most {
            return Ok(());
        }
        most = AT_ONCE.min(2 * most);
    }
    tracing::warn!(
        project = project_id,
        "projection not finished; the sweep goes on with it"
    );
    Ok(())
}

/// Appends a projection that was made at `read`, and tells the relays. `None` where something came before.
async fn append(
    database: &impl Database,
    clock: &impl Clock,
    pubsub: &dyn PubSub,
    tasks: &[Task],
    read: u64,
    payload: Vec<u8>,
) -> Result<Option<u64>, RoomError> {
    let Some(project_id) = tasks.first().map(|task| task.project_id.as_str()) else {
        return Ok(None);
    };
    let new = NewUpdate {
        project: project_id.to_owned(),
        payload: payload.clone(),
    };
    let guard = guard(project_id, read, tasks);
    let appended = rooms::append_if(database, clock, ORIGIN, new, guard).await?;
    if let Some(rev) = appended {
        tell(pubsub, project_id, rev, payload).await;
    }
    Ok(appended)
}

/// The peer id of projections: the hour. Numbered within a room one after the other by the guard, so that
/// a room does not get a new peer with each of them. An hour that is gone is not used again, lest a
/// database that was set back to a copy gives the same number to another change.
fn peer(clock: &impl Clock) -> u64 {
    (clock.unix_seconds() / 3600).unsigned_abs()
}

/// Holds while the rows are as they were read, and nothing was projected after the rev that was read. After a
/// compaction nobody can tell, so then it does not hold.
fn guard(project_id: &str, rev: u64, tasks: &[Task]) -> Guard {
    let mut parameters: Vec<Value> = vec![
        project_id.into(),
        rev.into(),
        ORIGIN.into(),
        (tasks.len() as u64).into(),
    ];
    let read = pairs(tasks, &mut parameters);
    Guard {
        sql: format!(
            "NOT EXISTS (SELECT 1 FROM loro_updates
                          WHERE project_id = ?1 AND rev > ?2 AND origin = ?3)
             AND NOT EXISTS (SELECT 1 FROM loro_snapshots WHERE project_id = ?1 AND rev > ?2)
             AND (SELECT count(*) FROM aigc_tasks WHERE (task_id, version) IN (VALUES {read})) = ?4"
        ),
        parameters,
    }
}

/// Notes that the document shows these tasks as they were read.
async fn shown(database: &dyn Database, tasks: &[Task], rev: u64) -> Result<(), RoomError> {
    let mut parameters: Vec<Value> = vec![rev.into()];
    let read = pairs(tasks, &mut parameters);
    let sql = format!(
        "UPDATE aigc_tasks SET projected_status = status, projected_rev = ?1
          WHERE (task_id, version) IN (VALUES {read})"
    );
    database.execute(&sql, parameters).await?;
    Ok(())
}

/// `(?n,?m),…` for the ids and versions of tasks.
fn pairs(tasks: &[Task], parameters: &mut Vec<Value>) -> String {
    let mut pairs = Vec::with_capacity(tasks.len());
    for task in tasks {
        parameters.push(task.task_id.as_str().into());
        parameters.push(task.version.into());
        pairs.push(format!("(?{},?{})", parameters.len() - 1, parameters.len()));
    }
    pairs.join(",")
}

async fn tell(pubsub: &dyn PubSub, project_id: &str, rev: u64, payload: Vec<u8>) {
    let told = payload.len() <= wire::MAX_NOTICE_BYTES;
    let notice = Notice::Updates {
        origin: ORIGIN.to_owned(),
        first_rev: rev,
        last_rev: rev,
        payloads: told.then(|| payload.into()).into_iter().collect(),
    };
    let channel = wire::room_channel(project_id);
    // Revs heal a lost notice.
    if let Err(error) = pubsub.publish(&channel, wire::encode(&notice)).await {
        tracing::warn!(project = project_id, %error, "relays not told");
    }
}
