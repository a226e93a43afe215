//! Reading a room's rows.

use platform::{Database, DatabaseError, Row};

use crate::head::head_sql;

/// The snapshot of a room.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SnapshotRow {
    /// It holds everything up to this rev, except updates that were still waiting for others.
    pub(crate) rev: u64,
    /// The Loro snapshot.
    pub(crate) blob: Vec<u8>,
    /// Its encoded version vector.
    pub(crate) version: Vec<u8>,
}

/// An update in a room's log.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LogRow {
    pub(crate) rev: u64,
    pub(crate) payload: Vec<u8>,
}

/// Rows of a room, as they were at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Rows {
    pub(crate) snapshot: Option<SnapshotRow>,
    /// Ordered by rev. Quarantined updates are left out. Rows at or below the snapshot's rev are updates
    /// that wait for others, or that a compaction has not deleted yet.
    pub(crate) log: Vec<LogRow>,
    /// The newest rev of the room.
    pub(crate) head: u64,
}

impl Rows {
    /// The bytes of all blobs together.
    pub(crate) fn bytes(&self) -> usize {
        let snapshot = self.snapshot.as_ref().map_or(0, |s| s.blob.len());
        snapshot + self.log.iter().map(|row| row.payload.len()).sum::<usize>()
    }
}

// One statement reads all, so that neither a compaction nor an append can come in between.
const ALL: &str = "
    SELECT 0, rev, snapshot, version FROM loro_snapshots WHERE project_id = ?1
    UNION ALL
    SELECT 1, rev, payload, NULL FROM loro_updates WHERE project_id = ?1";

/// The whole room.
pub(crate) async fn all(database: &dyn Database, project: &str) -> Result<Rows, DatabaseError> {
    collect(database.execute(ALL, vec![project.into()]).await?)
}

/// The rows that a relay lacks if it knows the room up to `rev`: the log after it, and the snapshot if
/// that is newer.
pub(crate) async fn after(
    database: &dyn Database,
    project: &str,
    rev: u64,
) -> Result<Rows, DatabaseError> {
    // The last row has the room's newest rev, also if nothing lies above `?2`.
    let sql = format!(
        "SELECT 0, rev, snapshot, version FROM loro_snapshots WHERE project_id = ?1 AND rev > ?2
         UNION ALL
         SELECT 1, rev, payload, NULL FROM loro_updates WHERE project_id = ?1 AND rev > ?2
         UNION ALL
         SELECT 2, {}, NULL, NULL",
        head_sql("?1")
    );
    collect(
        database
            .execute(&sql, vec![project.into(), rev.into()])
            .await?,
    )
}

fn collect(result: Vec<Row>) -> Result<Rows, DatabaseError> {
    let mut rows = Rows::default();
    for mut row in result {
        let rev = row.unsigned(1)?;
        rows.head = rows.head.max(rev);
        match row.integer(0)? {
            0 => {
                rows.snapshot = Some(SnapshotRow {
                    rev,
                    blob: row.blob(2)?,
                    version: row.blob(3)?,
                });
            }
            1 => {
                let payload = row.blob(2)?;
                if !payload.is_empty() {
                    rows.log.push(LogRow { rev, payload });
                }
            }
            _ => {}
        }
    }
    rows.log.sort_by_key(|row| row.rev);
    Ok(rows)
}
