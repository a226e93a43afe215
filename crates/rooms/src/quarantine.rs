//! The quarantine: updates that cannot be applied are moved there, and the owner restores or deletes them.

use platform::{Clock, Database, DatabaseError};

use crate::{
    error::RoomError, head::head_sql, own_peer, peers, supervise::Refusal, update::Outline,
};

/// The most updates in quarantine with which one that is sent again is compared. Another one is taken, and moved aside
/// again.
const MOST_COMPARED: u64 = 256;

/// Moves an update from the log to the quarantine table. Its row stays, empty, so that its rev is
/// never given to another. A blob that holds it is dropped, because the log holds all the others too.
/// Doing it twice is harmless, and so is a kill between its statements.
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
    own_peer::renew(database, project).await?;
    database
        .execute(
            "UPDATE loro_updates SET payload = x'' WHERE project_id = ?1 AND rev = ?2",
            vec![project.into(), rev.into()],
        )
        .await?;
    database
        .execute(
            "DELETE FROM loro_blobs WHERE project_id = ?1 AND rev >= ?2",
            vec![project.into(), rev.into()],
        )
        .await?;
    let payload = quarantined_update(database, project, rev).await?;
    if let Some(outline) = payload.and_then(|payload| Outline::read(&payload)) {
        peers::written(database, project, &outline).await?;
    }
    tracing::warn!(project, rev, reason, "an update was moved to quarantine");
    Ok(())
}

/// The refusal of an update with operations that are in quarantine: clients that have them send them again whenever they
/// join.
///
/// # Errors
/// If the database fails.
pub(crate) async fn refusal(
    database: &dyn Database,
    project: &str,
    outline: &Outline,
) -> Result<Option<Refusal>, DatabaseError> {
    for update in quarantined(database, project, 0, MOST_COMPARED).await? {
        let payload = quarantined_update(database, project, update.rev).await?;
        let aside = payload.and_then(|payload| Outline::read(&payload));
        if aside.is_some_and(|aside| aside.overlaps(outline)) {
            let reason = format!(
                "it has operations of update {}, which was moved to quarantine: {}",
                update.rev, update.reason
            );
            let code = wire::QUARANTINED.to_owned();
            return Ok(Some(Refusal { reason, code }));
        }
    }
    Ok(None)
}

/// The origin of restored updates in the log. It is no relay's id, so every relay takes them.
const RESTORED: &str = "restored";

/// An update in quarantine.
#[derive(Debug, Clone, PartialEq)]
pub struct Quarantined {
    /// The rev that it had in the log.
    pub rev: u64,
    /// Its bytes.
    pub bytes: u64,
    /// The writer, such as a relay's id.
    pub origin: String,
    /// The time at which it was stored, in Unix seconds.
    pub created_at: i64,
    /// The time at which it was moved aside, in Unix seconds.
    pub quarantined_at: i64,
    /// Loro's reason, in words.
    pub reason: String,
}

/// Lists up to `most` updates of a room that are in quarantine, by their revs, beginning after a rev.
///
/// # Errors
/// If the database fails.
pub async fn quarantined(
    database: &dyn Database,
    project: &str,
    after: u64,
    most: u64,
) -> Result<Vec<Quarantined>, DatabaseError> {
    let rows = database
        .execute(
            "SELECT rev, length(payload), origin, created_at, quarantined_at, reason FROM loro_quarantine
              WHERE project_id = ?1 AND rev > ?2 ORDER BY rev LIMIT ?3",
            vec![project.into(), after.into(), most.into()],
        )
        .await?;
    rows.into_iter()
        .map(|mut row| {
            Ok(Quarantined {
                rev: row.unsigned(0)?,
                bytes: row.unsigned(1)?,
                origin: row.text(2)?,
                created_at: row.integer(3)?,
                quarantined_at: row.integer(4)?,
                reason: row.text(5)?,
            })
        })
        .collect()
}

/// Counts the updates of each of these rooms that are in quarantine, in their order.
///
/// # Errors
/// If the database fails.
pub async fn quarantine_counts(
    database: &dyn Database,
    projects: &[String],
) -> Result<Vec<u64>, DatabaseError> {
    // Project ids need no escape in JSON.
    let sql = "SELECT j.key, count(*) FROM json_each(?1) j JOIN loro_quarantine q ON q.project_id = j.value
                GROUP BY j.key";
    let list = format!("[\"{}\"]", projects.join("\",\""));
    let mut counts = vec![0; projects.len()];
    for row in database.execute(sql, vec![list.into()]).await? {
        let index = usize::try_from(row.unsigned(0)?).unwrap_or(usize::MAX);
        if let Some(count) = counts.get_mut(index) {
            *count = row.unsigned(1)?;
        }
    }
    Ok(counts)
}

/// Reads an update that is in quarantine; `None` if there is none of this rev.
///
/// # Errors
/// If the database fails.
pub async fn quarantined_update(
    database: &dyn Database,
    project: &str,
    rev: u64,
) -> Result<Option<Vec<u8>>, DatabaseError> {
    let sql = "SELECT payload FROM loro_quarantine WHERE project_id = ?1 AND rev = ?2";
    let rows = database
        .execute(sql, vec![project.into(), rev.into()])
        .await?;
    rows.into_iter()
        .next()
        .map(|mut row| row.blob(0))
        .transpose()
}

/// Appends an update that is in quarantine to the log again and returns its new rev; `None` if there is none
/// of this rev. If it still cannot be applied, it is moved aside again. Killed between its two statements it
/// leaves the update in both places, which is harmless.
///
/// # Errors
/// If the database fails.
pub async fn restore(
    database: &dyn Database,
    clock: &dyn Clock,
    project: &str,
    rev: u64,
) -> Result<Option<u64>, DatabaseError> {
    let sql = format!(
        "INSERT INTO loro_updates (project_id, rev, payload, origin, created_at)
         SELECT q.project_id, {} + 1, q.payload, ?3, ?4 FROM loro_quarantine q
          WHERE q.project_id = ?1 AND q.rev = ?2
         RETURNING rev",
        head_sql("?1")
    );
    let parameters = vec![
        project.into(),
        rev.into(),
        RESTORED.into(),
        clock.unix_seconds().into(),
    ];
    let rows = database.execute(&sql, parameters).await?;
    let restored = rows.first().map(|row| row.unsigned(0)).transpose()?;
    if restored.is_some() {
        discard(database, project, rev).await?;
    }
    Ok(restored)
}

/// Puts an update of another room into quarantine here, as an import does. It gets a rev of this room, in whose log its row
/// is empty. Killed between its two statements it leaves the empty row, which is harmless.
///
/// # Errors
/// If the database fails.
pub async fn adopt_quarantined(
    database: &dyn Database,
    project: &str,
    update: &Quarantined,
    payload: Vec<u8>,
) -> Result<(), DatabaseError> {
    let sql = format!(
        "INSERT INTO loro_updates (project_id, rev, payload, origin, created_at)
         VALUES (?1, {} + 1, x'', ?2, ?3) RETURNING rev",
        head_sql("?1")
    );
    let parameters = vec![
        project.into(),
        update.origin.as_str().into(),
        update.created_at.into(),
    ];
    let rows = database.execute(&sql, parameters).await?;
    let rev = rows.first().map(|row| row.unsigned(0)).transpose()?;
    let rev = rev.ok_or_else(|| DatabaseError::Unexpected("an insert returned no row".into()))?;
    let sql = "INSERT INTO loro_quarantine
                   (project_id, rev, payload, origin, created_at, quarantined_at, reason)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let parameters = vec![
        project.into(),
        rev.into(),
        payload.into(),
        update.origin.as_str().into(),
        update.created_at.into(),
        update.quarantined_at.into(),
        update.reason.as_str().into(),
    ];
    database.execute(sql, parameters).await?;
    Ok(())
}

/// Deletes an update that is in quarantine for good, and returns whether there was one of this rev.
///
/// # Errors
/// If the database fails.
pub async fn discard(
    database: &dyn Database,
    project: &str,
    rev: u64,
) -> Result<bool, DatabaseError> {
    let sql = "DELETE FROM loro_quarantine WHERE project_id = ?1 AND rev = ?2 RETURNING rev";
    let rows = database
        .execute(sql, vec![project.into(), rev.into()])
        .await?;
    Ok(!rows.is_empty())
}

/// Deletes up to `most` updates, of any room, that were moved to quarantine at this time or before, and returns how many.
///
/// # Errors
/// If the database fails.
pub async fn discard_old(
    database: &dyn Database,
    until: i64,
    most: u64,
) -> Result<usize, DatabaseError> {
    let sql = "DELETE FROM loro_quarantine WHERE (project_id, rev) IN (
                   SELECT project_id, rev FROM loro_quarantine
                    WHERE quarantined_at <= ?1 ORDER BY quarantined_at LIMIT ?2)
               RETURNING rev";
    let rows = database.execute(sql, vec![until.into(), most.into()]);
    Ok(rows.await?.len())
}
