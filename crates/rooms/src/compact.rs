//! Merges the log into the snapshot, or puts it together as a blob beside it.

use auth::conditions::imported;
use platform::{Clock, Database, DatabaseError};

use crate::{
    error::RoomError,
    history::History,
    lease, limits,
    memory::Memory,
    merge::Merged,
    operations, packed, receipts,
    rows::{self, LogRow},
    unread::Unread,
};

/// Stores a merged room as its snapshot, unless one of a higher rev, or of the same rev with its state, is there. Then
/// deletes the part of the log that the snapshot holds. This may be repeated, may run twice at once, and may be killed
/// between its statements.
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
    let snapshot = merged.snapshot()?;
    let operations = operations::with_saved(merged.operations, packed::saved(&snapshot));
    database
        .execute(
            "INSERT INTO loro_snapshots (project_id, snapshot, version, updated_at, rev, has_state)
             VALUES (?1, ?2, ?3, ?4, ?5, 1)
             ON CONFLICT (project_id) DO UPDATE SET
                 snapshot = excluded.snapshot, version = excluded.version,
                 updated_at = excluded.updated_at, rev = excluded.rev, has_state = 1
             WHERE excluded.rev > loro_snapshots.rev
                OR excluded.rev = loro_snapshots.rev AND loro_snapshots.has_state = 0",
            vec![
                project.into(),
                snapshot.into(),
                merged.version().into(),
                clock.unix_seconds().into(),
                merged.rev.into(),
            ],
        )
        .await?;
    shorten(database, clock, project, merged.rev, &merged.pending).await?;
    operations::note(database, project, merged.rev, operations).await?;
    tracing::debug!(project, rev = merged.rev, "a room was compacted");
    Ok(())
}

/// Deletes the part of the log that a snapshot of this rev holds.
///
/// # Errors
/// If the database fails.
pub(crate) async fn shorten(
    database: &dyn Database,
    clock: &dyn Clock,
    project: &str,
    rev: u64,
    pending: &[LogRow],
) -> Result<(), DatabaseError> {
    // The stored snapshot is now this one or one of a higher rev, and that one was made from all of
    // these rows or from a snapshot that holds them.
    receipts::keep(database, clock, project, rev).await?;
    database
        .execute(
            "DELETE FROM loro_updates
              WHERE project_id = ?1 AND rev <= ?2 AND rev NOT IN (SELECT value FROM json_each(?3))",
            vec![project.into(), rev.into(), revs(pending).into()],
        )
        .await?;
    // A blob of a higher rev stays: it holds all that came after an older snapshot.
    database
        .execute(
            "DELETE FROM loro_blobs WHERE project_id = ?1 AND rev <= ?2",
            vec![project.into(), rev.into()],
        )
        .await?;
    Ok(())
}

/// Stores all updates after the room's snapshot as one blob, unless a blob of the same or a higher rev is there. They
/// stay in the log, too, until a snapshot holds them: an update may still turn out to have no state, and a single one
/// can be blamed only while they are apart.
///
/// # Errors
/// If the database fails or Loro cannot export.
pub(crate) async fn pack(
    database: &dyn Database,
    clock: &dyn Clock,
    project: &str,
    memory: Memory,
) -> Result<(), RoomError> {
    let rows = rows::all(database, project).await?;
    if rows.is_compacted() {
        return Ok(());
    }
    let head = rows.head;
    let bytes = rows.bytes();
    let (blob, version, left, operations) = if memory.exports(bytes) {
        let history = History::of(&rows)?;
        let saved = rows.saved();
        drop(rows);
        let operations = operations::count(&history, memory, bytes + saved)?;
        let operations = operations::with_saved(operations, saved);
        let blob = history.since_snapshot()?;
        let version = history.version();
        (blob, version, history.into_pending(), operations)
    } else {
        let unread = Unread::since_snapshot(rows, memory)?;
        (unread.update, unread.version, unread.left, None)
    };
    // Readers do not get updates that Loro refuses. These stay in the log for the merge, which finds out which is to
    // blame.
    database
        .execute(
            "INSERT INTO loro_blobs (project_id, rev, blob, version, waiting, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (project_id) DO UPDATE SET
                 rev = excluded.rev, blob = excluded.blob, version = excluded.version,
                 waiting = excluded.waiting, updated_at = excluded.updated_at
             WHERE excluded.rev > loro_blobs.rev",
            vec![
                project.into(),
                head.into(),
                blob.into(),
                version.encode().into(),
                revs(&left).into(),
                clock.unix_seconds().into(),
            ],
        )
        .await?;
    operations::note(database, project, head, operations).await?;
    tracing::debug!(
        project,
        rev = head,
        "a room was compacted without its state"
    );
    Ok(())
}

/// The revs of these rows as a JSON array: one parameter, however many they are.
pub(crate) fn revs(rows: &[LogRow]) -> String {
    let revs: Vec<String> = rows.iter().map(|row| row.rev.to_string()).collect();
    format!("[{}]", revs.join(","))
}

/// Returns whether the part of a room's log that is not compacted yet has reached a limit of count or bytes.
///
/// # Errors
/// If the database fails.
pub async fn is_due(database: &dyn Database, project: &str) -> Result<bool, DatabaseError> {
    let rows = database
        .execute(
            "SELECT count(*), sum(length(payload)) FROM loro_updates
              WHERE project_id = ?1
                AND rev > ifnull((SELECT rev FROM loro_snapshots WHERE project_id = ?1), 0)
                AND rev > ifnull((SELECT rev FROM loro_blobs WHERE project_id = ?1), 0)",
            vec![project.into()],
        )
        .await?;
    let Some(row) = rows.first() else {
        return Ok(false);
    };
    Ok(row.unsigned(0)? >= limits::COMPACT_UPDATES || row.unsigned(1)? >= limits::COMPACT_BYTES)
}

/// Lists up to `most` rooms whose log is due for compaction by its age, count or bytes. A room whose last
/// compaction failed is listed again after a wait, so it never holds up others. The room of a project that is being
/// imported waits, because an import that fails deletes its room, and a compaction that is under way would bring a
/// snapshot back.
///
/// # Errors
/// If the database fails.
pub async fn sweep(
    database: &dyn Database,
    clock: &dyn Clock,
    most: u64,
) -> Result<Vec<String>, DatabaseError> {
    // Rows up to the rev of a snapshot or a blob do not make a room due: they are in it, or they wait for other
    // updates.
    let sql = format!(
        "SELECT u.project_id
           FROM loro_updates u LEFT JOIN loro_snapshots s ON s.project_id = u.project_id
                LEFT JOIN loro_blobs b ON b.project_id = u.project_id
                LEFT JOIN loro_leases l ON l.project_id = u.project_id AND l.work = 'compact'
          WHERE u.rev > ifnull(s.rev, 0) AND u.rev > ifnull(b.rev, 0) AND {}
            AND NOT {}
          GROUP BY u.project_id
         HAVING min(u.created_at) <= ?1 OR count(*) >= ?2 OR sum(length(u.payload)) >= ?3
          ORDER BY min(u.created_at)
          LIMIT ?4",
        lease::due_sql("?5"),
        imported("u.project_id")
    );
    let now = clock.unix_seconds();
    let parameters = vec![
        (now - limits::COMPACT_SECONDS).into(),
        limits::COMPACT_UPDATES.into(),
        limits::COMPACT_BYTES.into(),
        most.into(),
        now.into(),
    ];
    projects(database, &sql, parameters).await
}

/// Lists up to `most` rooms whose state is to be computed by a merge of its own. Rooms whose merge failed
/// are listed again after a wait.
///
/// # Errors
/// If the database fails.
pub async fn to_merge(
    database: &dyn Database,
    clock: &dyn Clock,
    most: u64,
) -> Result<Vec<String>, DatabaseError> {
    let sql = format!(
        "SELECT b.project_id
           FROM (SELECT project_id FROM loro_blobs
                 UNION SELECT project_id FROM loro_snapshots WHERE has_state = 0) b
                LEFT JOIN loro_leases l ON l.project_id = b.project_id AND l.work = 'merge'
          WHERE {} AND NOT {}
          ORDER BY ifnull(l.due_at, 0), b.project_id
          LIMIT ?1",
        lease::due_sql("?2"),
        imported("b.project_id")
    );
    let parameters = vec![most.into(), clock.unix_seconds().into()];
    projects(database, &sql, parameters).await
}

async fn projects(
    database: &dyn Database,
    sql: &str,
    parameters: Vec<platform::Value>,
) -> Result<Vec<String>, DatabaseError> {
    let rows = database.execute(sql, parameters).await?;
    rows.into_iter().map(|mut row| row.text(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use loro::{ExportMode, LoroDoc};
    use platform::native::{SetClock, SqliteFile, block_on};
    use quota::BYTES_OF_OPERATION;

    /// A snapshot of a value that repeats itself has few bytes, but its state takes memory for all of them.
    #[test]
    fn operations_count_beside_what_compression_saves() {
        let (database, clock) = (SqliteFile::with_schema(), SetClock::default());
        let doc = LoroDoc::new();
        let map = doc.get_map("map");
        map.insert("x", "x".repeat(4 << 20)).unwrap();
        doc.commit();
        let snapshot = doc.export(ExportMode::Snapshot).unwrap();
        let version = doc.oplog_vv();
        map.insert("y", true).unwrap();
        doc.commit();
        let update = doc.export(ExportMode::updates(&version)).unwrap();
        for (sql, parameters) in [
            (
                "INSERT INTO loro_snapshots (project_id, rev, snapshot, version, updated_at, has_state)
                 VALUES ('p', 1, ?1, ?2, 0, 1)",
                vec![snapshot.into(), version.encode().into()],
            ),
            (
                "INSERT INTO loro_updates (project_id, rev, payload, origin, created_at)
                 VALUES ('p', 2, ?1, 'test', 0)",
                vec![update.into()],
            ),
        ] {
            block_on(database.execute(sql, parameters)).unwrap();
        }
        let saved = block_on(rows::all(&database, "p")).unwrap().saved();
        block_on(pack(&database, &clock, "p", Memory::default())).unwrap();
        let sql = "SELECT operations FROM loro_operations";
        let counted = block_on(database.execute(sql, vec![])).unwrap();
        let counted = counted[0].unsigned(0).unwrap();
        assert_eq!(counted, saved as u64 / BYTES_OF_OPERATION + 2);
    }
}
