//! The operations of large rooms, which the quota counts beside their bytes, because a state takes memory for each. It
//! takes as much for every [`BYTES_OF_OPERATION`] bytes that compression saves in the snapshot, so these count as one
//! more.

use platform::{Database, DatabaseError};

use quota::BYTES_OF_OPERATION;

use crate::{error::RoomError, history::History, memory::Memory};

/// The bytes that compression may save in the snapshot of a small room until they count.
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
    match memory.counts_operations(bytes) {
        true => history.operations().map(Some),
        false => Ok(None),
    }
}

/// Adds what compression saves in the snapshot to the operations.
pub(crate) fn with_saved(operations: Option<u64>, saved: usize) -> Option<u64> {
    if operations.is_none() && saved < NOT_COUNTED {
        return None;
    }
    Some(operations.unwrap_or(0) + saved as u64 / BYTES_OF_OPERATION)
}

/// Notes how many operations a room has at a rev, if they were counted; an older count than the stored one is dropped.
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
