//! The operations of large rooms, which the quota counts beside their bytes, because a state takes memory for each. A
//! state takes as much for every [`BYTES_OF_OPERATION`] bytes that compression saves in the snapshot, so these count as
//! one more operation.

use platform::{Database, DatabaseError};

use quota::BYTES_OF_OPERATION;

use crate::{error::RoomError, history::History, memory::Memory};

/// The fewest bytes that compression must save in the snapshot of a small room to count.
const NOT_COUNTED: usize = 1024 * 1024;

/// Counts the operations of a room of this many bytes before compression; `None` if it is too small for them to count.
///
/// # Errors
/// If Loro cannot read the history.
pub(crate) fn count(
    history: &History,
    memory: Memory,
    bytes: usize,
) -> Result<Option<u64>, RoomError> {
    if !memory.counts_operations(bytes) {
        return Ok(None);
    }
    history.operations().map(Some)
}

/// Adds what compression saves in the snapshot to the operations.
pub(crate) fn with_saved(operations: Option<u64>, saved: usize) -> Option<u64> {
    if operations.is_none() && saved < NOT_COUNTED {
        return None;
    }
    Some(operations.unwrap_or(0) + saved as u64 / BYTES_OF_OPERATION)
}

/// Notes how many operations a room has at a rev, if they were counted. A count is dropped unless its rev is higher
/// than that of the stored one.
///
/// # Errors
/// If the database fails. Doing it again is harmless.
pub(crate) async fn note(
    database: &dyn Database,
    project: &str,
    rev: u64,
    operations: Option<u64>,
) -> Result<(), DatabaseError> {
    let Some(operations) = operations else {
        return Ok(());
    };
    let sql = "INSERT INTO loro_operations (project_id, rev, operations) VALUES (?1, ?2, ?3)
               ON CONFLICT (project_id) DO UPDATE SET rev = excluded.rev, operations = excluded.operations
               WHERE excluded.rev > loro_operations.rev";
    let parameters = vec![project.into(), rev.into(), operations.into()];
    database.execute(sql, parameters).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{LogRow, Rows};
    use loro::{ExportMode, LoroDoc};
    use platform::native::{SqliteFile, block_on};

    #[test]
    fn what_compression_saves_counts_from_a_mebibyte_on_or_beside_operations() {
        let bytes = usize::try_from(BYTES_OF_OPERATION).unwrap();
        let mebibyte = 1 << 20;
        for (operations, saved, expected) in [
            (None, 0, None),
            (None, mebibyte - 1, None),
            (None, mebibyte, Some((mebibyte / bytes) as u64)),
            (Some(5), 0, Some(5)),
            (Some(5), bytes - 1, Some(5)),
            (Some(5), 3 * bytes, Some(8)),
        ] {
            let counted = with_saved(operations, saved);
            assert_eq!(counted, expected, "{operations:?} {saved}");
        }
    }

    #[test]
    fn operations_are_counted_if_they_may_take_too_much_memory() {
        let doc = LoroDoc::new();
        for key in ["a", "b", "c"] {
            doc.get_map("map").insert(key, 1).unwrap();
        }
        doc.commit();
        let payload = doc.export(ExportMode::all_updates()).unwrap();
        let rows = Rows {
            log: vec![LogRow { rev: 1, payload }],
            ..Rows::default()
        };
        let history = History::of(&rows).unwrap();
        for (bytes, expected) in [(35_849, None), (35_850, Some(3))] {
            let counted = count(&history, Memory::of_mib(10), bytes).unwrap();
            assert_eq!(counted, expected, "{bytes}");
        }
    }

    #[test]
    fn the_count_of_the_newest_rev_stays() {
        let database = SqliteFile::with_schema();
        for (rev, operations, expected) in [
            (5, None, &[][..]),
            (5, Some(7), &[(5, 7)]),
            (4, Some(9), &[(5, 7)]),
            (5, Some(9), &[(5, 7)]),
            (6, None, &[(5, 7)]),
            (6, Some(3), &[(6, 3)]),
        ] {
            block_on(note(&database, "p", rev, operations)).unwrap();
            let sql = "SELECT rev, operations FROM loro_operations WHERE project_id = 'p'";
            let rows = block_on(database.execute(sql, vec![])).unwrap();
            let rows = rows.iter();
            let noted = rows.map(|row| (row.unsigned(0).unwrap(), row.unsigned(1).unwrap()));
            assert_eq!(noted.collect::<Vec<_>>(), expected, "{rev} {operations:?}");
        }
    }
}
