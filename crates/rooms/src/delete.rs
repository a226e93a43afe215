//! Deletes a room with its project.

use platform::{Clock, Database, DatabaseError};

use crate::receipts;

/// Deletes everything that is kept of a room. The caller has deleted its project before, so that nothing
/// more is appended. A compaction that was under way may still bring a snapshot back, so the caller does
/// this again later.
///
/// # Errors
/// If the database fails. Doing it again is harmless.
pub async fn delete(
    database: &dyn Database,
    clock: &dyn Clock,
    project: &str,
) -> Result<(), DatabaseError> {
    receipts::keep(database, clock, project, i64::MAX.unsigned_abs()).await?;
    for table in [
        "loro_updates",
        "loro_blobs",
        "loro_operations",
        "loro_snapshots",
        "loro_quarantine",
        "loro_peers",
        "loro_leases",
        "loro_panics",
        "loro_projection_peers",
    ] {
        let sql = format!("DELETE FROM {table} WHERE project_id = ?1");
        database.execute(&sql, vec![project.into()]).await?;
    }
    Ok(())
}
