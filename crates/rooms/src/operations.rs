//! The operations of large rooms, which the quota counts beside their bytes, because a state takes memory for each.

use platform::{Database, DatabaseError};

use crate::{error::RoomError, history::History, memory::Memory};

/// Counts the operations of a room of this many stored bytes; `None` if it is too small for them to count.
///
/// # Errors
/// If Loro cannot read the history.
pub(crate) fn count(
    history: &History,
    memory: Memory,
    stored: usize,
) -> Result<Option<u64>, RoomError> {
    match memory.counts_operations(stored) {
        true => history.operations().map(Some),
        false => Ok(None),
    }
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
