//! Folding the log into the snapshot.

use platform::{Clock, Database, DatabaseError, Value};

use crate::{error::RoomError, limits, merge::Merged, receipts};

/// Stores a merged room as its snapshot, over a lower rev only, then deletes the part of the log
/// that the snapshot holds. Idempotent, safe twice at once, safe to kill between its statements.
///
/// # Errors
/// If the database fails or Loro cannot export.
pub async fn compact(
    database: &dyn Database,
    clock: &dyn Clock,
    project: &str,
    merged: &Merged,
) -> Result<(), RoomError> {
    if merged.rev == 0 {
        return Ok(());
    }
    database
        .execute(
            "INSERT INTO loro_snapshots (project_id, snapshot, version, updated_at, rev)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (project_id) DO UPDATE SET
                 snapshot = excluded.snapshot, version = excluded.version,
                 updated_at = excluded.updated_at, rev = excluded.rev
             WHERE excluded.rev > loro_snapshots.rev",
            vec![
                project.into(),
                merged.snapshot()?.into(),
                merged.version().into(),
                clock.unix_seconds().into(),
                merged.rev.into(),
            ],
        )
        .await?;
    // The stored snapshot is now this one or one of a higher rev, and that one was made from all of
    // these rows or from a snapshot that holds them.
    let mut parameters: Vec<Value> = vec![project.into(), merged.rev.into()];
    let mut kept = Vec::with_capacity(merged.pending.len());
    for row in &merged.pending {
        parameters.push(row.rev.into());
        kept.push(format!("?{}", parameters.len()));
    }
    receipts::keep(database, clock, project, merged.rev).await?;
    database
        .execute(
            &format!(
                "DELETE FROM loro_updates WHERE project_id = ?1 AND rev <= ?2 AND rev NOT IN ({})",
                kept.join(",")
            ),
            parameters,
        )
        .await?;
    tracing::debug!(project, rev = merged.rev, "room compacted");
    Ok(())
}

/// Whether a room's log has grown past a limit of count or bytes.
///
/// # Errors
/// If the database fails.
pub async fn is_due(database: &dyn Database, project: &str) -> Result<bool, DatabaseError> {
    let rows = database
        .execute(
            "SELECT count(*), sum(length(payload)) FROM loro_updates WHERE project_id = ?1",
            vec![project.into()],
        )
        .await?;
    let Some(row) = rows.first() else {
        return Ok(false);
    };
    Ok(row.unsigned(0)? >= limits::COMPACT_UPDATES || row.unsigned(1)? >= limits::COMPACT_BYTES)
}

/// Up to `most` rooms whose log is due for compaction by its age, count or bytes.
///
/// # Errors
/// If the database fails.
pub async fn sweep(
    database: &dyn Database,
    clock: &dyn Clock,
    most: u64,
) -> Result<Vec<String>, DatabaseError> {
    // Rows at or below the snapshot's rev wait for other updates; they alone do not make a room due.
    let rows = database
        .execute(
            "SELECT u.project_id
               FROM loro_updates u LEFT JOIN loro_snapshots s ON s.project_id = u.project_id
              WHERE u.rev > ifnull(s.rev, 0)
              GROUP BY u.project_id
             HAVING min(u.created_at) <= ?1 OR count(*) >= ?2 OR sum(length(u.payload)) >= ?3
              ORDER BY min(u.created_at)
              LIMIT ?4",
            vec![
                (clock.unix_seconds() - limits::COMPACT_SECONDS).into(),
                limits::COMPACT_UPDATES.into(),
                limits::COMPACT_BYTES.into(),
                most.into(),
            ],
        )
        .await?;
    rows.into_iter().map(|mut row| row.text(0)).collect()
}
