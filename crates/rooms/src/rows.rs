//! Reads a room's rows.

use loro::VersionVector;
use platform::{Database, DatabaseError, Row};

use crate::{head::head_sql, packed};

/// The snapshot of a room.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SnapshotRow {
    /// The rev up to which it holds everything, except updates that were still waiting for others.
    pub(crate) rev: u64,
    /// The Loro snapshot; a Loro update if it has no state.
    pub(crate) blob: Vec<u8>,
    /// Says whether its state is known. If no merge could compute it, the whole document stands here as one update.
    pub(crate) has_state: bool,
    /// The encoded version vector of the snapshot. If it has no state, the version also has the operations of updates
    /// that stayed in the log only because of their encoding.
    pub(crate) version: Vec<u8>,
}

/// The updates after a room's snapshot, all of them up to a rev, as one Loro update.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct BlobRow {
    pub(crate) rev: u64,
    pub(crate) blob: Vec<u8>,
    /// The encoded version vector of snapshot and blob together.
    pub(crate) version: Vec<u8>,
}

/// An update in a room's log.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LogRow {
    pub(crate) rev: u64,
    pub(crate) payload: Vec<u8>,
}

/// The rows of a room, as they were at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Rows {
    pub(crate) snapshot: Option<SnapshotRow>,
    /// The blob that follows the snapshot, if the log was compacted without its state.
    pub(crate) blob: Option<BlobRow>,
    /// The log, ordered by rev. Quarantined updates are left out. Rows at or below the rev of snapshot and blob are
    /// updates that wait for others, or that a compaction has not deleted yet.
    pub(crate) log: Vec<LogRow>,
    /// The newest rev of the room.
    pub(crate) head: u64,
}

impl Rows {
    /// The bytes of all blobs together.
    pub(crate) fn bytes(&self) -> usize {
        let snapshot = self.snapshot.as_ref().map_or(0, |row| row.blob.len());
        let blob = self.blob.as_ref().map_or(0, |row| row.blob.len());
        snapshot + blob + self.log.iter().map(|row| row.payload.len()).sum::<usize>()
    }

    /// The bytes that compression saves in the snapshot, beyond what is [covered](packed::saved). Updates are not compressed.
    pub(crate) fn saved(&self) -> usize {
        let snapshot = self.snapshot.as_ref().filter(|row| row.has_state);
        snapshot.map_or(0, |row| packed::saved(&row.blob))
    }

    /// The bytes of all blobs whose state is not known.
    pub(crate) fn bytes_without_state(&self) -> usize {
        let known = self.snapshot.as_ref().filter(|row| row.has_state);
        self.bytes() - known.map_or(0, |row| row.blob.len())
    }

    /// The number of blobs.
    pub(crate) fn count(&self) -> usize {
        usize::from(self.snapshot.is_some()) + usize::from(self.blob.is_some()) + self.log.len()
    }

    /// The rev up to which snapshot and blob hold everything that doesn't wait for other updates.
    pub(crate) fn compacted(&self) -> u64 {
        let snapshot = self.snapshot.as_ref().map_or(0, |row| row.rev);
        self.blob.as_ref().map_or(snapshot, |row| row.rev)
    }

    /// Returns whether snapshot and blob hold everything that doesn't wait for other updates.
    pub(crate) fn is_compacted(&self) -> bool {
        self.head <= self.compacted()
    }

    /// The number of updates that no snapshot and no blob holds yet, without those that wait for others.
    pub(crate) fn uncompacted(&self) -> usize {
        let compacted = self.compacted();
        self.log.iter().filter(|row| row.rev > compacted).count()
    }

    /// Returns whether the state at the snapshot's version is known, as it is before anything was written.
    pub(crate) fn has_state(&self) -> bool {
        self.snapshot.as_ref().is_none_or(|row| row.has_state)
    }

    /// Takes out the updates that snapshot and blob should hold and do not, because they wait for others.
    pub(crate) fn take_pending(&mut self) -> Vec<LogRow> {
        let compacted = self.compacted();
        let newer = self.log.partition_point(|row| row.rev <= compacted);
        let newer = self.log.split_off(newer);
        std::mem::replace(&mut self.log, newer)
    }

    /// The encoded version vector of snapshot and blob together, with the operations of updates that are in the log only
    /// because of their encoding.
    pub(crate) fn version(&self) -> Vec<u8> {
        let snapshot = self.snapshot.as_ref().map(|row| &row.version);
        let blob = self.blob.as_ref().map(|row| &row.version);
        blob.or(snapshot)
            .cloned()
            .unwrap_or_else(|| VersionVector::default().encode())
    }
}

// One statement reads all, so that neither a compaction nor an append can come in between. A blob that a
// newer snapshot holds does not count. Of the rows that a blob covers only those are read that are not in it.
const ALL: &str = "
    WITH packed (rev, waiting) AS (
        SELECT b.rev, b.waiting FROM loro_blobs b
         WHERE b.project_id = ?1
           AND b.rev > ifnull((SELECT s.rev FROM loro_snapshots s WHERE s.project_id = ?1), 0))
    SELECT iif(has_state, 0, 4), rev, snapshot, version FROM loro_snapshots WHERE project_id = ?1
    UNION ALL
    SELECT 1, rev, blob, version FROM loro_blobs
     WHERE project_id = ?1 AND rev = (SELECT rev FROM packed)
    UNION ALL
    SELECT 2, rev, payload, NULL FROM loro_updates
     WHERE project_id = ?1 AND rev > ifnull((SELECT rev FROM packed), 0)
    UNION ALL
    SELECT 2, u.rev, u.payload, NULL
      FROM packed CROSS JOIN json_each(packed.waiting) w
           CROSS JOIN loro_updates u ON u.project_id = ?1 AND u.rev = w.value";

/// The whole room, in the form in which it is read quickest: snapshot, blob, and the log after them.
pub(crate) async fn all(database: &dyn Database, project: &str) -> Result<Rows, DatabaseError> {
    collect(database.execute(ALL, vec![project.into()]).await?)
}

/// Returns whether a merge of its own is due for a room, because its log was compacted without the state.
///
/// # Errors
/// If the database fails.
pub(crate) async fn lacks_state(
    database: &dyn Database,
    project: &str,
) -> Result<bool, DatabaseError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM loro_snapshots WHERE project_id = ?1 AND has_state = 0)
                   OR EXISTS (SELECT 1 FROM loro_blobs b WHERE b.project_id = ?1
                                 AND b.rev > ifnull((SELECT rev FROM loro_snapshots WHERE project_id = ?1), 0))";
    let rows = database.execute(sql, vec![project.into()]).await?;
    let lacks = rows.first().map_or(Ok(0), |row| row.integer(0))?;
    Ok(lacks != 0)
}

/// The bytes of a room's snapshot and log together.
///
/// # Errors
/// If the database fails.
pub(crate) async fn bytes(database: &dyn Database, project: &str) -> Result<u64, DatabaseError> {
    let sql = "SELECT ifnull((SELECT length(snapshot) FROM loro_snapshots WHERE project_id = ?1), 0)
                    + ifnull((SELECT sum(length(payload)) FROM loro_updates WHERE project_id = ?1), 0)";
    let rows = database.execute(sql, vec![project.into()]).await?;
    rows.first().map_or(Ok(0), |row| row.unsigned(0))
}

const UNMERGED: &str = "
    SELECT iif(has_state, 0, 4), rev, snapshot, version FROM loro_snapshots WHERE project_id = ?1
    UNION ALL
    SELECT 2, rev, payload, NULL FROM loro_updates WHERE project_id = ?1";

/// The whole room as its snapshot and every single update that is not in it, so that one of them can be
/// blamed. A blob is left out, because the log has all that it holds.
pub(crate) async fn unmerged(
    database: &dyn Database,
    project: &str,
) -> Result<Rows, DatabaseError> {
    collect(database.execute(UNMERGED, vec![project.into()]).await?)
}

/// The rows that a relay lacks if it knows the room up to `rev`: the log after it, and the snapshot if
/// that is newer. The log holds whatever is in a blob, too.
pub(crate) async fn after(
    database: &dyn Database,
    project: &str,
    rev: u64,
) -> Result<Rows, DatabaseError> {
    // The last row has the room's newest rev, also if nothing lies above `?2`.
    let sql = format!(
        "SELECT 0, rev, snapshot, version FROM loro_snapshots WHERE project_id = ?1 AND rev > ?2
         UNION ALL
         SELECT 2, rev, payload, NULL FROM loro_updates WHERE project_id = ?1 AND rev > ?2
         UNION ALL
         SELECT 3, {}, NULL, NULL",
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
            kind @ (0 | 4) => {
                rows.snapshot = Some(SnapshotRow {
                    rev,
                    blob: row.blob(2)?,
                    has_state: kind == 0,
                    version: row.blob(3)?,
                });
            }
            1 => {
                rows.blob = Some(BlobRow {
                    rev,
                    blob: row.blob(2)?,
                    version: row.blob(3)?,
                });
            }
            2 => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use loro::{ExportMode, LoroDoc};

    /// A snapshot of a value that repeats itself, so that compression saves much.
    fn repeated() -> Vec<u8> {
        let doc = LoroDoc::new();
        doc.get_map("map").insert("x", "x".repeat(4 << 20)).unwrap();
        doc.commit();
        doc.export(ExportMode::Snapshot).unwrap()
    }

    fn version(end: i32) -> Vec<u8> {
        VersionVector::from_iter([(1, end)]).encode()
    }

    /// A room with all kinds of rows: the log after a blob after a snapshot, and an update that waits.
    fn room(snapshot: Vec<u8>, has_state: bool) -> Rows {
        Rows {
            snapshot: Some(SnapshotRow {
                rev: 5,
                blob: snapshot,
                has_state,
                version: version(5),
            }),
            blob: Some(BlobRow {
                rev: 8,
                blob: vec![0; 20],
                version: version(8),
            }),
            log: [(3, 4), (8, 5), (9, 6), (10, 7)]
                .map(|(rev, bytes)| LogRow {
                    rev,
                    payload: vec![0; bytes],
                })
                .into(),
            head: 10,
        }
    }

    #[test]
    fn a_room_is_counted_by_its_rows() {
        for has_state in [true, false] {
            let room = room(vec![0; 100], has_state);
            assert_eq!(room.bytes(), 100 + 20 + 22);
            let without_state = if has_state { 42 } else { 142 };
            assert_eq!(room.bytes_without_state(), without_state);
            assert_eq!(room.has_state(), has_state);
            assert_eq!(room.count(), 6);
            assert_eq!(room.saved(), 0);
        }
        let nothing = Rows::default();
        assert_eq!((nothing.bytes(), nothing.bytes_without_state()), (0, 0));
        assert_eq!((nothing.count(), nothing.saved()), (0, 0));
        assert!(nothing.has_state() && nothing.is_compacted());
        let repeated = repeated();
        assert!(room(repeated.clone(), true).saved() > 1 << 20);
        // What stands in the place of a snapshot without a state is an update, which is not compressed.
        assert_eq!(room(repeated, false).saved(), 0);
    }

    #[test]
    fn what_snapshot_and_blob_should_hold_and_do_not_waits() {
        let mut whole = room(vec![0; 100], true);
        assert_eq!((whole.compacted(), whole.uncompacted()), (8, 2));
        assert!(!whole.is_compacted());
        assert_eq!(whole.version(), version(8));
        let revs = |rows: &[LogRow]| rows.iter().map(|row| row.rev).collect::<Vec<_>>();
        let waiting = whole.take_pending();
        assert_eq!(
            (revs(&waiting), revs(&whole.log)),
            (vec![3, 8], vec![9, 10])
        );
        let mut without_blob = room(vec![0; 100], true);
        without_blob.blob = None;
        assert_eq!(
            (without_blob.compacted(), without_blob.uncompacted()),
            (5, 3)
        );
        assert_eq!(without_blob.version(), version(5));
        for (head, is_compacted) in [(4, true), (5, true), (6, false)] {
            without_blob.head = head;
            assert_eq!(without_blob.is_compacted(), is_compacted, "{head}");
        }
        assert_eq!(revs(&without_blob.take_pending()), [3]);
    }
}
