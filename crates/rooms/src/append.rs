//! Storing updates.

use std::collections::{HashMap, VecDeque};

use platform::{Clock, Condition, Database, DatabaseError, Value};
use wire::{Outcome, Update};

use crate::{
    error::RoomError,
    full::{self, NotTaken},
    head::head_sql,
    receipts, update,
};

/// What tells the updates of a request apart: the project and the serial number. Only those of a project
/// without serial numbers have the same, and are told apart by their order.
type Key = (String, Option<u64>);

/// Stores updates for any number of rooms with one statement, in the order of the list, and returns the
/// outcome of each. An update that does not decode is refused, and so is one for a deleted project; the
/// others are stored all the same. An update whose serial number `origin` has used before, in
/// [`wire::REPEATED_WITHIN`], is not stored again: its outcome is the first one. The caller has checked that
/// each `project` is a project id.
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
    let keys: Vec<Key> = updates
        .iter()
        .map(|update| (update.project.clone(), update.serial))
        .collect();
    let accepted = updates
        .into_iter()
        .zip(&refusals)
        .filter_map(|(update, refusal)| refusal.is_none().then_some(update));
    let mut revs = insert(database, clock, origin, accepted, None).await?;
    let not_inserted = keys.iter().zip(&refusals).filter_map(|(key, refusal)| {
        let is_absent = refusal.is_none() && !revs.contains_key(key);
        key.1.filter(|_| is_absent)
    });
    let repeated = receipts::find(database, origin, not_inserted.collect()).await?;
    let mut not_taken = NotTaken::default();
    for ((project, serial), refusal) in keys.iter().zip(&refusals) {
        let is_stored = revs.contains_key(&(project.clone(), *serial))
            || serial.is_some_and(|serial| repeated.contains_key(&serial));
        if refusal.is_none() && !is_stored {
            not_taken.ask(database, project).await?;
        }
    }
    refusals
        .into_iter()
        .zip(keys)
        .map(|(refusal, key)| {
            if let Some(reason) = refusal {
                return Ok(Outcome::Refused { reason, code: None });
            }
            let rev = match revs.get_mut(&key) {
                Some(revs) => revs
                    .pop_front()
                    .ok_or_else(|| DatabaseError::Unexpected("a stored row is missing".into()))?,
                None => match key.1.and_then(|serial| repeated.get(&serial)) {
                    Some(rev) => *rev,
                    None => return Ok(not_taken.refusal(&key.0)),
                },
            };
            Ok(Outcome::Stored { rev })
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

/// Inserts the rows, except those of serial numbers that are stored already, and returns the revs of those
/// that it inserted, in order.
async fn insert(
    database: &dyn Database,
    clock: &dyn Clock,
    origin: &str,
    updates: impl Iterator<Item = Update>,
    guard: Option<(u64, Condition)>,
) -> Result<HashMap<Key, VecDeque<u64>>, DatabaseError> {
    let (read, condition) = guard.unzip();
    let Condition {
        sql: condition,
        mut parameters,
    } = condition.unwrap_or_default();
    let (by, at) = (parameters.len() + 1, parameters.len() + 2);
    parameters.extend([Value::from(origin), clock.unix_seconds().into()]);
    // What the app itself writes is small and is always taken.
    let guard = read.map_or_else(full::takes_sql, |read| {
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
        incoming += &format!("{separator}({n},?{first},?{},?{})", first + 1, first + 2);
        parameters.push(update.project.into());
        parameters.push(Vec::from(update.payload).into());
        parameters.push(update.serial.map_or(Value::Null, Value::from));
    }
    if incoming.is_empty() {
        return Ok(HashMap::new());
    }
    let head = head_sql("i.project_id");
    let is_known = receipts::is_known_sql(&format!("?{by}"), "i.serial");
    let sql = format!(
        "WITH incoming (n, project_id, payload, serial) AS (VALUES {incoming})
         INSERT INTO loro_updates (project_id, rev, payload, origin, created_at, serial)
         SELECT i.project_id, {head} + row_number() OVER (PARTITION BY i.project_id ORDER BY i.n),
                i.payload, ?{by}, ?{at}, i.serial
           FROM incoming i
          WHERE NOT EXISTS (SELECT 1 FROM projects p
                             WHERE p.project_id = i.project_id AND p.deleted_at IS NOT NULL)
            AND NOT {is_known} {guard}
         RETURNING project_id, rev, serial"
    );
    let mut revs: HashMap<Key, VecDeque<u64>> = HashMap::new();
    for mut row in database.execute(&sql, parameters).await? {
        let rev = row.unsigned(1)?;
        let serial = row.optional_integer(2)?.map(i64::unsigned_abs);
        let key = (row.text(0)?, serial);
        revs.entry(key).or_default().push_back(rev);
    }
    for of_key in revs.values_mut() {
        of_key.make_contiguous().sort_unstable();
    }
    Ok(revs)
}
