//! Deletes what an operator keeps for a limited number of days: tasks, updates in quarantine, and assets that nothing
//! needs.
//!
//! An asset is needed if a task refers to it, or if the state of its project's document has its id anywhere. Nothing is
//! deleted if that state is not the whole document: while it cannot be computed, and while updates wait for others or are
//! in quarantine, because their owner may restore them.

use std::num::NonZero;

use platform::Ports;
use rooms::{Memory, RoomError};
use tasks::{AssetError, AssetStore, Retention, TaskError};

/// The most updates in quarantine that one round deletes.
const QUARANTINED_AT_ONCE: u64 = 64;

/// Runs one round of the poller: it deletes a bounded number of old tasks and updates in quarantine, goes on with
/// deletions of assets, and returns the projects whose documents are to be [looked at](drop_unneeded) for old assets.
///
/// # Errors
/// If the database fails, or the bucket's settings are wrong. What is left stays due.
pub async fn drop_old(ports: Ports<'_>) -> Result<Vec<String>, TaskError> {
    let Ports { database, .. } = ports;
    let (retention, now) = (Retention::of(ports.config), ports.clock.unix_seconds());
    let ended = retention.drop_old_tasks(database, now).await?;
    if let Some(tasks) = NonZero::new(ended) {
        tracing::info!(tasks, "old tasks were deleted");
    }
    if let Some(kept_for) = retention.quarantine {
        let dropped = rooms::discard_old(database, now - kept_for, QUARANTINED_AT_ONCE).await?;
        if let Some(updates) = NonZero::new(dropped) {
            tracing::warn!(updates, "old updates in quarantine were deleted");
        }
    }
    let assets = AssetStore::open(database, ports.http, ports.config)?;
    assets.finish_removals(now).await?;
    match retention.assets {
        Some(kept_for) => Ok(assets.claim_looks(now, kept_for).await?),
        None => Ok(Vec::new()),
    }
}

/// Deletes a bounded number of a project's old assets that no task and no document needs. `memory` is the memory of the
/// instance.
///
/// This merges the room, and so may trap: the caller must be ready to lose the instance. Then nothing is deleted.
///
/// # Errors
/// If the database fails, or the room cannot be merged.
pub async fn drop_unneeded(
    ports: Ports<'_>,
    memory: Memory,
    project_id: &str,
) -> Result<(), RoomError> {
    let Ports {
        database, clock, ..
    } = ports;
    let Some(kept_for) = Retention::of(ports.config).assets else {
        return Ok(());
    };
    let now = clock.unix_seconds();
    let assets = AssetStore::open(database, ports.http, ports.config).map_err(of_asset)?;
    let old = assets.old(project_id, now, kept_for).await;
    let old = old.map_err(of_asset)?;
    if old.is_empty() {
        return Ok(());
    }
    let Some((rev, document)) = whole_document(ports, memory, project_id).await? else {
        return Ok(());
    };
    for asset in old {
        if asset.is_in(&document) {
            let noted = assets.still_needed(&asset.id, now).await;
            noted.map_err(of_asset)?;
            continue;
        }
        let removed = assets.remove(&asset.id, rev, rooms::head_sql).await;
        if removed.map_err(of_asset)? {
            tracing::info!(
                project = project_id,
                asset_id = asset.id,
                "an old asset was deleted, because neither a task nor the document needs it"
            );
        }
    }
    assets.finish_removals(now).await.map_err(of_asset)
}

/// The state of the document as JSON text, and its rev; `None` if it may lack something that the room has.
async fn whole_document(
    ports: Ports<'_>,
    memory: Memory,
    project_id: &str,
) -> Result<Option<(u64, String)>, RoomError> {
    let Ports {
        database, clock, ..
    } = ports;
    let merged = rooms::merge(database, clock, project_id, memory).await?;
    // The quarantine is read after the document, because a merge may move an update there.
    let quarantined = rooms::quarantined(database, project_id, 0, 1).await?;
    let is_whole = merged.is_whole() && quarantined.is_empty();
    if !is_whole {
        return Ok(None);
    }
    let rev = merged.rev;
    Ok(Some((rev, merged.json()?)))
}

fn of_asset(error: AssetError) -> RoomError {
    match error {
        AssetError::Database(error) => RoomError::Database(error),
        error => RoomError::Merge(error.to_string()),
    }
}
