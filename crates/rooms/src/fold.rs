//! Puts a whole room into the snapshot's place as one update, if no merge can compute its state.

use loro::VersionVector;
use platform::{Clock, Database};

use crate::{
    compact::{revs, shorten},
    error::RoomError,
    memory::Memory,
    merge::{move_aside, take_in},
    rows::{self, LogRow},
    unread::Unread,
    update::Outline,
};

/// A whole room as one update.
struct Whole {
    update: Vec<u8>,
    version: VersionVector,
    /// The updates that are not in it.
    left: Vec<LogRow>,
    /// The newest rev of the room.
    head: u64,
    /// The revs of the log from which it was made, as JSON.
    log: String,
}

/// Stores all of a room as one update in the snapshot's place, unless a snapshot of the same or a higher rev is there,
/// then deletes the part of the log that it holds. From then on none of these updates can be blamed alone, and the log
/// doesn't grow any more beside a blob that no merge replaces. An update that Loro refuses is quarantined on the way.
///
/// # Errors
/// If the database fails, the stored snapshot cannot be read, or Loro cannot export.
pub(crate) async fn fold(
    database: &dyn Database,
    clock: &dyn Clock,
    project: &str,
    memory: Memory,
) -> Result<(), RoomError> {
    let rows = rows::unmerged(database, project).await?;
    if rows.is_compacted() {
        return Ok(());
    }
    let bytes = rows.bytes();
    drop(rows);
    let whole = if memory.exports(bytes) {
        read(database, clock, project).await?
    } else {
        unread(database, clock, project, memory).await?
    };
    // An update that was quarantined since the rows were read must not come back.
    let stored = database
        .execute(
            "INSERT INTO loro_snapshots (project_id, snapshot, version, updated_at, rev, has_state)
             SELECT ?1, ?2, ?3, ?4, ?5, 0
              WHERE NOT EXISTS (SELECT 1 FROM loro_quarantine q WHERE q.project_id = ?1
                                   AND q.rev IN (SELECT value FROM json_each(?6)))
             ON CONFLICT (project_id) DO UPDATE SET
                 snapshot = excluded.snapshot, version = excluded.version,
                 updated_at = excluded.updated_at, rev = excluded.rev, has_state = 0
             WHERE excluded.rev > loro_snapshots.rev
             RETURNING rev",
            vec![
                project.into(),
                whole.update.into(),
                whole.version.encode().into(),
                clock.unix_seconds().into(),
                whole.head.into(),
                whole.log.into(),
            ],
        )
        .await?;
    if stored.is_empty() {
        return Ok(());
    }
    shorten(database, clock, project, whole.head, &whole.left).await?;
    tracing::warn!(project, rev = whole.head, "a room stays without its state");
    Ok(())
}

/// Reads the room as Loro exports it.
async fn read(
    database: &dyn Database,
    clock: &dyn Clock,
    project: &str,
) -> Result<Whole, RoomError> {
    let (rows, history) = take_in(database, clock, project).await?;
    Ok(Whole {
        head: rows.head,
        log: revs(&rows.log),
        update: history.since(&VersionVector::default())?,
        version: history.version(),
        left: history.into_pending(),
    })
}

/// Reads the room as it was sent, because it is too large for Loro to export.
async fn unread(
    database: &dyn Database,
    clock: &dyn Clock,
    project: &str,
    memory: Memory,
) -> Result<Whole, RoomError> {
    for _ in 0..2 {
        let rows = rows::unmerged(database, project).await?;
        let (head, log) = (rows.head, revs(&rows.log));
        let unread = Unread::whole(rows, memory)?;
        if unread.refused.is_empty() {
            return Ok(Whole {
                update: unread.update,
                version: unread.version,
                left: unread.left,
                head,
                log,
            });
        }
        let mut refused = unread.refused;
        let again = rows::unmerged(database, project).await?.log;
        refused.retain(|update| {
            let row = again.iter().find(|row| row.rev == update.rev);
            row.is_some_and(|row| Outline::checked(&row.payload).is_err())
        });
        move_aside(database, clock, project, &refused).await?;
    }
    Err(RoomError::Merge("Loro still refuses an update".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use loro::{ExportMode, LoroDoc};
    use platform::native::{SetClock, SqliteFile, block_on};

    /// The bytes of the update were damaged in the database.
    #[test]
    fn an_update_that_loro_refuses_is_moved_aside_also_if_the_room_is_too_large_to_be_read() {
        for mib in [7, 256] {
            let (database, clock) = (SqliteFile::with_schema(), SetClock::default());
            let doc = LoroDoc::new();
            for rev in 1..=4_u64 {
                let before = doc.oplog_vv();
                doc.set_peer_id(rev).unwrap();
                let words = "x".repeat(10_000);
                doc.get_text("text").insert(0, &words).unwrap();
                doc.commit();
                let mut payload = doc.export(ExportMode::updates(&before)).unwrap();
                if rev == 4 {
                    payload.pop();
                }
                let sql = "INSERT INTO loro_updates (project_id, rev, payload, origin, created_at)
                           VALUES ('p', ?1, ?2, 'test', 0)";
                let parameters = vec![rev.into(), payload.into()];
                block_on(database.execute(sql, parameters)).unwrap();
            }
            block_on(fold(&database, &clock, "p", Memory::of_mib(mib))).unwrap();
            let moved =
                block_on(database.execute("SELECT rev FROM loro_quarantine", vec![])).unwrap();
            let moved: Vec<u64> = moved.iter().map(|row| row.unsigned(0).unwrap()).collect();
            assert_eq!(moved, [4]);
            let rows = block_on(rows::all(&database, "p")).unwrap();
            assert!(rows.log.is_empty() && !rows.has_state());
            let read = LoroDoc::new();
            read.import(&rows.snapshot.unwrap().blob).unwrap();
            assert_eq!(read.get_text("text").len_unicode(), 30_000);
        }
    }
}
