//! The panics that an instance reported before it died.
//!
//! An instance may die because it has no memory or no time left, and then nothing is to blame. If the code in
//! it panicked, its panic hook reports that, by this table, before the instance ends.

use platform::{Clock, Database, DatabaseError};

/// The longest reason that is kept, in bytes.
pub const MAX_REASON: usize = 500;

/// The age, in seconds, at which a report that no caller asked for is deleted.
const KEPT_SECONDS: i64 = 3600;

/// The statement that reports a panic, for a panic hook. Its parameters are the id of the run, the project,
/// the reason, and the time in Unix seconds.
pub const REPORT: &str = "INSERT OR IGNORE INTO loro_panics (run, project_id, reason, created_at) VALUES (?1, ?2, ?3, ?4)";

/// Makes the id of a run: random, so that no other run has it.
pub fn new_run() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Takes the report of a run: the reason in words if it panicked.
///
/// # Errors
/// If the database fails.
pub async fn take(
    database: &dyn Database,
    clock: &dyn Clock,
    run: &str,
) -> Result<Option<String>, DatabaseError> {
    let old = clock.unix_seconds() - KEPT_SECONDS;
    let rows = database
        .execute(
            "DELETE FROM loro_panics WHERE run = ?1 OR created_at <= ?2 RETURNING run, reason",
            vec![run.into(), old.into()],
        )
        .await?;
    for mut row in rows {
        if row.text(0)? == run {
            return row.text(1).map(Some);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::native::{SetClock, SqliteFile, block_on};

    #[test]
    fn a_report_is_taken_once_and_old_ones_go() {
        let (database, clock) = (SqliteFile::with_schema(), SetClock::default());
        let (ours, theirs) = (new_run(), new_run());
        assert_ne!(ours, theirs);
        for (run, reason) in [(&ours, "out of range"), (&theirs, "another")] {
            let parameters = vec![run.as_str().into(), "p".into(), reason.into(), 0_i64.into()];
            block_on(database.execute(REPORT, parameters)).unwrap();
        }
        let take = |run: &str| block_on(take(&database, &clock, run)).unwrap();
        assert_eq!(take(&ours).as_deref(), Some("out of range"));
        assert_eq!(take(&ours), None);
        let left = || {
            let rows = block_on(database.execute("SELECT 1 FROM loro_panics", vec![]));
            rows.unwrap().len()
        };
        clock.0.set(KEPT_SECONDS - 1);
        assert_eq!((take("no run"), left()), (None, 1));
        clock.0.set(KEPT_SECONDS);
        assert_eq!((take("no run"), left()), (None, 0));
    }
}
