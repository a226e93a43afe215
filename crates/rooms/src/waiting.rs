//! Which stored updates still wait for operations that the room has not got, and for which.

use std::collections::HashSet;

use loro::VersionVector;
use platform::Database;
use wire::Waiting;

use crate::{error::RoomError, history::History, peers, rows, update::Outline};

/// Those of these updates of a room that wait, by their revs. This takes in the log without its state, unless all of them
/// have left the log, which no update does while it waits.
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
    // The next update that builds upon these operations is known not to wait.
    peers::reached(database, project, &version).await?;
    let revs: HashSet<u64> = revs.iter().copied().collect();
    let pending = history.into_pending();
    let waiting = pending.iter().filter(|row| revs.contains(&row.rev));
    Ok(waiting
        .filter_map(|row| missing(row.rev, &Outline::read(&row.payload)?, &version))
        .collect())
}

/// The first operation that an update waits for.
fn missing(rev: u64, outline: &Outline, version: &VersionVector) -> Option<Waiting> {
    let reached = |peer| version.get(&peer).copied().unwrap_or(0);
    let (peer, _) = outline
        .needs()
        .find(|(peer, counter)| reached(*peer) < *counter)?;
    let counter = u32::try_from(reached(peer)).unwrap_or(0);
    Some(Waiting { rev, peer, counter })
}
