//! Storing updates.

use std::collections::{HashMap, VecDeque};

use platform::{Clock, Condition, Database, DatabaseError, Value};
use wire::{Outcome, Update};

use crate::{error::RoomError, head::head_sql, update};

/// Stores updates for any number of rooms with one statement, in the order of the list, and returns the
/// outcome of each. An update that does not decode is refused, and so is one for a deleted project; the
/// others are stored all the same. The caller has checked that each `project` is a project id.
///
/// Its cost does not depend on how much a room already holds.
///
/// # Errors
/// If the database fails. Then all of the updates may be stored or none, and appending them again is
/// harmless.
pub async fn append(
    database: &dyn Database,
    clock: &dyn Clock,
    origin: &str,
    updates: Vec<Update>,
) -> Result<Vec<Outcome>, RoomError> {
    let refusals: Vec<Option<String>> = updates
        .iter()
        .map(|update| update::check(&update.payload).err())
        .collect();
    // The rows come back in no particular order, so the order in each room is noted here.
    let order: Vec<Option<String>> = updates
        .iter()
        .zip(&refusals)
        .map(|(update, refusal)| refusal.is_none().then(|| update.project.clone()))
        .collect();
    let accepted = updates
        .into_iter()
        .zip(&refusals)
        .filter_map(|(update, refusal)| refusal.is_none().then_some(update));
    let mut revs = insert(database, clock, origin, accepted, None).await?;
    refusals
        .into_iter()
        .zip(order)
        .map(|(refusal, project)| match (refusal, project) {
            (Some(reason), _) => Ok(Outcome::Refused { reason }),
            (None, project) => match project.and_then(|project| revs.get_mut(&project)) {
                Some(revs) => {
                    let rev = revs.pop_front().ok_or_else(|| {
                        DatabaseError::Unexpected("a stored row is missing".into())
                    })?;
                    Ok(Outcome::Stored { rev })
                }
                None => Ok(Outcome::Refused {
                    reason: "the project was deleted".into(),
                }),
            },
        })
        .collect()
}

/// Stores an update that was made from the room as it was at the rev `read`, and returns its rev. Stores
/// nothing and returns `None` if another update of the same origin came after that rev, or a compaction
/// that may hide one, or if the condition does not hold.
///
/// # Errors
/// If the database fails. Then the update may be stored or not.
pub async fn append_if(
    database: &dyn Database,
    clock: &dyn Clock,
    origin: &str,
    update: Update,
    read: u64,
    condition: Condition,
) -> Result<Option<u64>, DatabaseError> {
    let updates = std::iter::once(update);
    let guard = Some((read, condition));
    let revs = insert(database, clock, origin, updates, guard).await?;
    Ok(revs.into_values().flatten().next())
}

/// Inserts the rows and returns each room's new revs, in order.
async fn insert(
    database: &dyn Database,
    clock: &dyn Clock,
    origin: &str,
    updates: impl Iterator<Item = Update>,
    guard: Option<(u64, Condition)>,
) -> Result<HashMap<String, VecDeque<u64>>, DatabaseError> {
    let (read, condition) = guard.unzip();
    let Condition {
        sql: condition,
        mut parameters,
    } = condition.unwrap_or_default();
    let (by, at) = (parameters.len() + 1, parameters.len() + 2);
    parameters.extend([Value::from(origin), clock.unix_seconds().into()]);
    let guard = read.map_or_else(String::new, |read| {
        parameters.push(read.into());
        let read = parameters.len();
        format!(
            "AND NOT EXISTS (SELECT 1 FROM loro_updates u
                              WHERE u.project_id = i.project_id AND u.rev > ?{read} AND u.origin = ?{by})
             AND NOT EXISTS (SELECT 1 FROM loro_snapshots s
                              WHERE s.project_id = i.project_id AND s.rev > ?{read})
             AND ({condition})"
        )
    });
    let mut incoming = String::new();
    for (n, update) in updates.enumerate() {
        let first = parameters.len() + 1;
        let separator = if n == 0 { "" } else { "," };
        incoming += &format!("{separator}({n},?{first},?{})", first + 1);
        parameters.push(update.project.into());
        parameters.push(Vec::from(update.payload).into());
    }
    if incoming.is_empty() {
        return Ok(HashMap::new());
    }
    let head = head_sql("i.project_id");
    let sql = format!(
        "WITH incoming (n, project_id, payload) AS (VALUES {incoming})
         INSERT INTO loro_updates (project_id, rev, payload, origin, created_at)
         SELECT i.project_id, {head} + row_number() OVER (PARTITION BY i.project_id ORDER BY i.n),
                i.payload, ?{by}, ?{at}
           FROM incoming i
          WHERE NOT EXISTS (SELECT 1 FROM projects p
                             WHERE p.project_id = i.project_id AND p.deleted_at IS NOT NULL) {guard}
         RETURNING project_id, rev"
    );
    let mut revs: HashMap<String, VecDeque<u64>> = HashMap::new();
    for mut row in database.execute(&sql, parameters).await? {
        let rev = row.unsigned(1)?;
        revs.entry(row.text(0)?).or_default().push_back(rev);
    }
    for room in revs.values_mut() {
        room.make_contiguous().sort_unstable();
    }
    Ok(revs)
}
