//! Deleting a room with its project.

use platform::{Database, DatabaseError};

/// Deletes everything that is kept of a room. To be done once its project is deleted, for then nothing more is
/// appended; a compaction that was under way may still bring a snapshot back, so it is to be done again
/// later.
///
/// # Errors
/// When the database fails. Doing it again is harmless.
pub async fn delete(database: &impl Database, project: &str) -> Result<(), DatabaseError> {
    for table in ["loro_updates", "loro_snapshots", "loro_quarantine"] {
        let sql = format!("DELETE FROM {table} WHERE project_id = ?1");
        database.execute(&sql, vec![project.into()]).await?;
    }
    Ok(())
}
