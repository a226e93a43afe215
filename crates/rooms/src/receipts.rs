//! The receipts of stored updates, by which an update that its relay appends again gets the rev of the first time.
//!
//! While an update is in the log, its row is its receipt. When it leaves the log, its rev is kept for as
//! long as the relay may ask again.

use std::collections::HashMap;

use platform::{Clock, Database, DatabaseError, Value};

/// The most receipts that one statement deletes, so that no append waits for it for long.
const DELETED_AT_ONCE: usize = 5000;

/// The most statements of one call of [`forget`]. A later call goes on.
const DELETIONS: usize = 50;

/// Returns the SQL expression that an update is stored already. `origin` and `serial` are SQL expressions.
pub(crate) fn is_known_sql(origin: &str, serial: &str) -> String {
    format!(
        "(EXISTS (SELECT 1 FROM loro_updates k WHERE k.origin = {origin} AND k.serial = {serial})
          OR EXISTS (SELECT 1 FROM loro_receipts r WHERE r.origin = {origin} AND r.serial = {serial}))"
    )
}

/// The rev of each of these updates that is stored, by its serial number, and whether the update may wait for
/// others.
///
/// # Errors
/// If the database fails.
pub(crate) async fn find(
    database: &dyn Database,
    origin: &str,
    serials: impl Iterator<Item = u64>,
) -> Result<HashMap<u64, (u64, bool)>, DatabaseError> {
    let serials: Vec<u64> = serials.collect();
    if serials.is_empty() {
        return Ok(HashMap::new());
    }
    let places: Vec<String> = (0..serials.len()).map(|n| format!("?{}", n + 2)).collect();
    let places = places.join(",");
    let sql = format!(
        "SELECT serial, rev, waits FROM loro_updates WHERE origin = ?1 AND serial IN ({places})
         UNION
         SELECT serial, rev, 0 FROM loro_receipts WHERE origin = ?1 AND serial IN ({places})"
    );
    let mut parameters: Vec<Value> = vec![origin.into()];
    parameters.extend(serials.into_iter().map(Value::from));
    let rows = database.execute(&sql, parameters).await?;
    rows.into_iter()
        .map(|row| Ok((row.unsigned(0)?, (row.unsigned(1)?, row.integer(2)? != 0))))
        .collect()
}

/// Keeps the receipts of a room's recent updates up to a rev. It comes before every statement that deletes
/// rows of the log. Doing it twice is harmless.
///
/// # Errors
/// If the database fails.
pub(crate) async fn keep(
    database: &dyn Database,
    clock: &dyn Clock,
    project: &str,
    up_to: u64,
) -> Result<(), DatabaseError> {
    database
        .execute(
            "INSERT OR IGNORE INTO loro_receipts (origin, serial, rev, created_at)
             SELECT origin, serial, rev, created_at FROM loro_updates
              WHERE project_id = ?1 AND rev <= ?2 AND serial IS NOT NULL AND created_at >= ?3",
            vec![project.into(), up_to.into(), oldest(clock).into()],
        )
        .await?;
    Ok(())
}

/// Deletes the receipts that no relay asks for any more. If some remain, a later call deletes them.
///
/// # Errors
/// If the database fails.
pub async fn forget(database: &dyn Database, clock: &dyn Clock) -> Result<(), DatabaseError> {
    for _ in 0..DELETIONS {
        let deleted = database
            .execute(
                &format!(
                    "DELETE FROM loro_receipts WHERE (origin, serial) IN
                         (SELECT origin, serial FROM loro_receipts WHERE created_at < ?1
                           ORDER BY created_at LIMIT {DELETED_AT_ONCE})
                     RETURNING 1"
                ),
                vec![oldest(clock).into()],
            )
            .await?;
        if deleted.len() < DELETED_AT_ONCE {
            break;
        }
    }
    Ok(())
}

/// The time before which a receipt is of no use, in Unix seconds.
fn oldest(clock: &dyn Clock) -> i64 {
    let kept = i64::try_from(wire::REPEATED_WITHIN.as_secs()).unwrap_or(i64::MAX);
    clock.unix_seconds().saturating_sub(kept)
}
