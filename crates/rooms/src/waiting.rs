//! The stored updates that still wait for operations that the room does not have, and those operations.

use std::collections::HashSet;

use loro::VersionVector;
use platform::{Database, DatabaseError};
use wire::Waiting;

use crate::{
    error::RoomError,
    history::History,
    limits::{WAITING_BYTES, WAITING_UPDATES},
    peers,
    refusal::Refusal,
    rows::{self, LogRow, Rows},
    update::Outline,
};

/// Returns the SQL condition that more updates may wait in a room than the limit allows, if the incoming update `i`
/// waits, too. This counts the whole log, and all updates of the room that come in before it; [`refusal`] counts
/// exactly.
pub(crate) fn may_be_too_many_sql() -> String {
    format!(
        "(SELECT count(*) >= {WAITING_UPDATES} OR ifnull(sum(bytes), 0) >= {WAITING_BYTES} FROM (
            SELECT length(u.payload) AS bytes FROM loro_updates u WHERE u.project_id = i.project_id
            UNION ALL
            SELECT length(j.payload) FROM incoming j WHERE j.project_id = i.project_id AND j.n < i.n))"
    )
}

/// Finds the rev of the stored update of a room that has the same bytes as this one; `None` if there is none.
///
/// # Errors
/// If the database fails.
pub(crate) async fn stored(
    database: &dyn Database,
    project: &str,
    update: &[u8],
) -> Result<Option<u64>, DatabaseError> {
    let sql = "SELECT rev FROM loro_updates
                WHERE project_id = ?1 AND digest = ?2 AND payload = ?3 ORDER BY rev LIMIT 1";
    let parameters = vec![
        project.into(),
        peers::digest(update).into(),
        update.to_vec().into(),
    ];
    let rows = database.execute(sql, parameters).await?;
    rows.first().map(|row| row.unsigned(0)).transpose()
}

/// The reason why a room refuses an update, if the update waits and too many others do. `history` was made of `rows`.
/// If the log is long and the update does not wait, this notes how far the room's peers have written, so that the next
/// update is known to fit.
///
/// # Errors
/// If the database fails.
pub(crate) async fn refusal(
    database: &dyn Database,
    project: &str,
    rows: &Rows,
    history: &History,
    update: &[u8],
) -> Result<Option<Refusal>, RoomError> {
    let bytes = |rows: &[LogRow]| rows.iter().map(|row| row.payload.len()).sum::<usize>();
    let is_full = |rows: &[LogRow]| rows.len() >= WAITING_UPDATES || bytes(rows) >= WAITING_BYTES;
    if !is_full(&rows.log) {
        return Ok(None);
    }
    let version = history.version();
    let missing = Outline::read(update).and_then(|outline| missing(0, &outline, &version));
    let Some(missing) = missing else {
        peers::reached(database, project, &version).await?;
        return Ok(None);
    };
    let words = || {
        format!(
            "it waits for operation {} of the peer {}, and the document has no room for more updates that wait",
            missing.counter, missing.peer
        )
    };
    Ok(is_full(&history.pending).then(|| Refusal {
        reason: words(),
        code: wire::WAITING_FULL.to_owned(),
    }))
}

/// Finds which of these updates of a room wait, by their revs. This imports the log without its state, unless none of
/// them is in the log any more: no update leaves it while it waits.
///
/// # Errors
/// If the database fails, or Loro cannot read the room.
pub async fn waiting(
    database: &dyn Database,
    project: &str,
    revs: &[u64],
) -> Result<Vec<Waiting>, RoomError> {
    let asked: Vec<String> = revs.iter().map(u64::to_string).collect();
    let sql = "SELECT 1 FROM json_each(?2) r
                 JOIN loro_updates u ON u.project_id = ?1 AND u.rev = r.value AND length(u.payload) > 0
                LIMIT 1";
    let asked = format!("[{}]", asked.join(","));
    let parameters = vec![project.into(), asked.into()];
    if database.execute(sql, parameters).await?.is_empty() {
        return Ok(Vec::new());
    }
    let history = History::of(&rows::all(database, project).await?)?;
    let version = history.version();
    // The next update that builds on these operations is known not to wait.
    peers::reached(database, project, &version).await?;
    let revs: HashSet<u64> = revs.iter().copied().collect();
    let pending = history.into_pending();
    let waiting = pending.iter().filter(|row| revs.contains(&row.rev));
    Ok(waiting
        .filter_map(|row| missing(row.rev, &Outline::read(&row.payload)?, &version))
        .collect())
}

/// Finds the first operation that an update waits for.
fn missing(rev: u64, outline: &Outline, version: &VersionVector) -> Option<Waiting> {
    let reached = |peer| version.get(&peer).copied().unwrap_or(0);
    let (peer, _) = outline
        .needs()
        .find(|(peer, counter)| reached(*peer) < *counter)?;
    let counter = u32::try_from(reached(peer)).unwrap_or(0);
    Some(Waiting { rev, peer, counter })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::Span;
    use platform::native::{SqliteFile, block_on};

    #[test]
    fn the_first_operation_that_is_missing_is_told() {
        let span = Span {
            peer: 1,
            start: 5,
            end: 6,
        };
        let outline = Outline {
            spans: vec![span],
            deps: vec![loro::ID::new(2, 2)],
        };
        for (version, expected) in [
            (&[][..], Some((1, 0))),
            (&[(1, 4), (2, 9)], Some((1, 4))),
            (&[(1, 5)], Some((2, 0))),
            (&[(1, 5), (2, 2)], Some((2, 2))),
            (&[(1, 5), (2, 3)], None),
        ] {
            let version: VersionVector = version.iter().copied().collect();
            let missing = missing(7, &outline, &version);
            let expected = expected.map(|(peer, counter)| Waiting {
                rev: 7,
                peer,
                counter,
            });
            assert_eq!(missing, expected, "{version:?}");
        }
    }

    #[test]
    fn an_update_that_was_stored_is_known_by_its_bytes() {
        let database = SqliteFile::with_schema();
        let sql = "INSERT INTO loro_updates (project_id, rev, payload, origin, created_at, digest)
                   VALUES (?1, ?2, ?3, 'test', 0, ?4)";
        for (project, rev, payload) in [("p", 3_u64, "one"), ("p", 5, "one"), ("q", 7, "two")] {
            let digest = peers::digest(payload.as_bytes());
            let payload = payload.as_bytes().to_vec();
            let parameters = vec![project.into(), rev.into(), payload.into(), digest.into()];
            block_on(database.execute(sql, parameters)).unwrap();
        }
        for (project, payload, rev) in [
            ("p", "one", Some(3)),
            ("p", "two", None),
            ("q", "two", Some(7)),
        ] {
            let found = block_on(stored(&database, project, payload.as_bytes())).unwrap();
            assert_eq!(found, rev, "{payload} in {project}");
        }
    }
}
