//! Writes tasks into the documents of their projects.
//!
//! A document shows a task as its row is. The projections of a room happen one after another, and an older state never
//! follows a newer one, although any number of instances may project at once: a projection reads first the rows and
//! then the document, and is appended only if at that moment the rows are still as they were read, and no other
//! projection of the room came in between. Otherwise it reads again.
//!
//! The sweep finds the projections that an event did not bring about ([`due`]). It also looks again at the documents of
//! tasks that ended lately, because a client may add a node after its task's end, or write it whole before it has
//! received the end.

#![forbid(unsafe_code)]

mod document;
mod nodes;
mod retention;
mod seen;

use std::collections::HashSet;

use platform::{Clock, Condition, Database, PubSub};
pub use rooms::Memory;
use rooms::{Merged, RoomError};
use tasks::rows::{self, Projected, Unprojected};
use wire::{Notice, Update};

use document::MAX_BYTES;

pub use retention::{drop_old, drop_unneeded};

/// The origin of projections in a room's log.
const ORIGIN: &str = "tasks";

/// The most tasks in one projection.
const AT_ONCE: usize = 200;

/// The most tries of one call: another projection may come first, and a projection that is too large is done in parts.
const TRIES: u32 = 24;

/// Finds up to `most` projects with tasks that their documents may not show.
///
/// # Errors
/// If the database fails.
pub async fn due(
    database: &dyn Database,
    clock: &dyn Clock,
    most: u64,
) -> Result<Vec<String>, RoomError> {
    let now = clock.unix_seconds();
    Ok(rows::unprojected_projects(database, rooms::head_sql, now, most).await?)
}

/// Brings a project's document up to date with its tasks, and notifies the relays. `memory` is the memory of the
/// instance.
///
/// This merges the room, and so may trap: the caller must be ready to lose the instance.
///
/// # Errors
/// If the database fails or the room cannot be merged. Tasks that were not projected stay due.
pub async fn project(
    database: &dyn Database,
    clock: &dyn Clock,
    pubsub: &dyn PubSub,
    memory: Memory,
    project_id: &str,
) -> Result<(), RoomError> {
    let mut most = AT_ONCE;
    // The ids of tasks whose nodes are too large to be written.
    let mut too_large = HashSet::new();
    for _ in 0..TRIES {
        let (now, limit) = (clock.unix_seconds(), most as u64);
        let tasks = rows::unprojected(database, rooms::head_sql, project_id, now, limit).await?;
        if tasks.is_empty() {
            return Ok(());
        }
        // The peer is read before the document. If the document then loses operations, the room has another peer, and
        // this projection is not appended.
        let peer = rooms::own_peer(database, project_id).await?;
        let merged = rooms::merge(database, clock, project_id, memory).await?;
        let (mut update, shown) = change(&merged, peer, &tasks, &too_large)?;
        if let Some(bytes) = bytes_beyond_limit(update.as_deref()) {
            if let [_, _, ..] = &tasks[..] {
                most = tasks.len() / 2;
                continue;
            }
            if leave_out_nodes(&mut too_large, &tasks, bytes) {
                continue;
            }
            tracing::error!(
                project = project_id,
                bytes,
                "a task is too large for its document"
            );
            update = None;
        }
        let projected = match update {
            None => Some(merged.rev),
            Some(payload) => {
                let unchanged = rows::unchanged(tasks.iter().map(|of| &of.task));
                let condition = rooms::and_own_peer(unchanged, project_id, peer);
                let update = Update {
                    project: project_id.to_owned(),
                    payload: payload.into(),
                    serial: None,
                };
                append(database, clock, pubsub, update, merged.rev, condition).await?
            }
        };
        let Some(rev) = projected else {
            continue;
        };
        rows::mark_projected(database, &shown, rev).await?;
        if tasks.len() < most {
            return Ok(());
        }
        most = AT_ONCE.min(2 * most);
    }
    tracing::warn!(
        project = project_id,
        "a projection was not finished; the sweep continues it"
    );
    Ok(())
}

/// Writes the tasks into the merged document. Returns the change as an update, and the notes for the rows.
fn change<'a>(
    merged: &Merged,
    peer: u64,
    tasks: &'a [Unprojected],
    too_large: &HashSet<String>,
) -> Result<(Option<Vec<u8>>, Vec<Projected<'a>>), RoomError> {
    let mut projected = Vec::new();
    let update = merged.change(peer, |doc| {
        let repaired = document::write_entries(doc, peer, tasks)?;
        projected = nodes::write(doc, peer, tasks, too_large)?;
        for one in &mut projected {
            one.is_repaired |= repaired.contains(&one.task.task_id);
        }
        Ok(())
    })?;
    Ok((update, projected))
}

/// The bytes of an update that is larger than a projection may be.
fn bytes_beyond_limit(update: Option<&[u8]>) -> Option<usize> {
    update.map(<[u8]>::len).filter(|bytes| *bytes > MAX_BYTES)
}

/// Notes that the nodes of a single task are left out. Returns `false` if they were already. A task needs this if it
/// has many nodes, or nodes that are large plain values, each of which would be written whole.
fn leave_out_nodes(too_large: &mut HashSet<String>, tasks: &[Unprojected], bytes: usize) -> bool {
    let Some(Unprojected { task, .. }) = tasks.first() else {
        return false;
    };
    let is_new = too_large.insert(task.task_id.clone());
    if is_new {
        tracing::warn!(
            project = task.project_id,
            task_id = task.task_id,
            bytes,
            "nodes are too large to show their task"
        );
    }
    is_new
}

/// Appends a projection that was made at the rev `read`, and notifies the relays. Returns `None` if another projection
/// came before it, or if the condition no longer holds.
async fn append(
    database: &dyn Database,
    clock: &dyn Clock,
    pubsub: &dyn PubSub,
    update: Update,
    read: u64,
    condition: Condition,
) -> Result<Option<u64>, RoomError> {
    let (project, payload) = (update.project.clone(), update.payload.to_vec());
    let appended = rooms::append_if(database, clock, ORIGIN, update, read, condition).await?;
    if let Some(rev) = appended {
        notify_relays(pubsub, &project, rev, payload).await;
    }
    Ok(appended)
}

async fn notify_relays(pubsub: &dyn PubSub, project_id: &str, rev: u64, payload: Vec<u8>) {
    let fits = payload.len() <= wire::MAX_NOTICE_BYTES;
    let notice = Notice::Updates {
        origin: ORIGIN.to_owned(),
        first_rev: rev,
        last_rev: rev,
        payloads: fits.then(|| payload.into()).into_iter().collect(),
    };
    let channel = wire::room_channel(project_id);
    // If the notice is lost, a relay finds out by the revs.
    if let Err(error) = pubsub.publish(&channel, wire::encode(&notice)).await {
        tracing::warn!(project = project_id, %error, "the relays were not notified");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_projection_has_a_mebibyte_at_most() {
        for (bytes, beyond) in [
            (0, None),
            (1 << 20, None),
            ((1 << 20) + 1, Some((1 << 20) + 1)),
        ] {
            let update = vec![0; bytes];
            assert_eq!(bytes_beyond_limit(Some(&update)), beyond);
        }
        assert_eq!(bytes_beyond_limit(None), None);
    }
}
