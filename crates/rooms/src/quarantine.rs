//! Moving aside an update that cannot be applied.

use platform::{Clock, Database};

use crate::error::RoomError;

/// The reason of an update that traps.
pub(crate) const REASON_TRAPPED: &str = "applying it traps";

/// Moves an update from the log to the quarantine table. Its row stays, empty, so that its rev is
/// never given to another. Doing it twice is harmless, and so is a kill between its two statements.
///
/// # Errors
/// If the database fails.
pub(crate) async fn quarantine(
    database: &dyn Database,
    clock: &dyn Clock,
    project: &str,
    rev: u64,
    reason: &str,
) -> Result<(), RoomError> {
    database
        .execute(
            "INSERT OR IGNORE INTO loro_quarantine
                 (project_id, rev, payload, origin, created_at, quarantined_at, reason)
             SELECT project_id, rev, payload, origin, created_at, ?3, ?4 FROM loro_updates
              WHERE project_id = ?1 AND rev = ?2 AND length(payload) > 0",
            vec![
                project.into(),
                rev.into(),
                clock.unix_seconds().into(),
                reason.into(),
            ],
        )
        .await?;
    database
        .execute(
            "UPDATE loro_updates SET payload = x'' WHERE project_id = ?1 AND rev = ?2",
            vec![project.into(), rev.into()],
        )
        .await?;
    tracing::warn!(project, rev, reason, "update quarantined");
    Ok(())
}
