//! Storing updates.

use std::collections::{HashMap, VecDeque};

use platform::{Clock, Database, DatabaseError, Value};

use crate::{RoomError, update};

/// An update on its way into a room.
#[derive(Debug, Clone, PartialEq)]
pub struct NewUpdate {
    /// The room. Whoever calls has checked that it can name one.
    pub project: String,
    /// The Loro blob.
    pub payload: Vec<u8>,
}

/// What became of a [`NewUpdate`].
#[derive(Debug, Clone, PartialEq)]
pub enum Appended {
    /// It is on disk, at this place in the room's log.
    Stored {
        /// Its rev.
        rev: u64,
    },
    /// It was refused, and nothing of it was kept.
    Refused {
        /// Why, in words for the sender.
        reason: String,
    },
}

/// Stores updates for any number of rooms with one statement, in the order of the list, and says
/// for each what became of it. What does not decode is refused, and what is for a project that was
/// deleted; the others are stored all the same.
///
/// Its cost does not depend on how much a room already holds.
///
/// # Errors
/// When the database fails. Then all of it may be stored or none, and doing it again is harmless.
pub async fn append(
    database: &impl Database,
    clock: &impl Clock,
    origin: &str,
    updates: Vec<NewUpdate>,
) -> Result<Vec<Appended>, RoomError> {
    let refusals: Vec<Option<String>> = updates
        .iter()
        .map(|new| update::check(&new.payload).err())
        .collect();
    // Whose turn it is in each room, for the rows come back in no particular order.
    let order: Vec<Option<String>> = updates
        .iter()
        .zip(&refusals)
        .map(|(new, refusal)| refusal.is_none().then(|| new.project.clone()))
        .collect();
    let accepted = updates
        .into_iter()
        .zip(&refusals)
        .filter_map(|(new, refusal)| refusal.is_none().then_some(new));
    let mut revs = insert(database, clock, origin, accepted, None).await?;
    refusals
        .into_iter()
        .zip(order)
        .map(|(refusal, project)| match (refusal, project) {
            (Some(reason), _) => Ok(Appended::Refused { reason }),
            (None, project) => match project.and_then(|project| revs.get_mut(&project)) {
                Some(revs) => {
                    let rev = revs.pop_front().ok_or_else(|| {
                        DatabaseError::Unexpected("a stored row is missing".into())
                    })?;
                    Ok(Appended::Stored { rev })
                }
                None => Ok(Appended::Refused {
                    reason: "the project was deleted".into(),
                }),
            },
        })
        .collect()
}

/// A condition of an append, in SQL: a boolean expression with parameters of its own, `?1` and so on.
#[derive(Debug, Clone)]
pub struct Guard {
    /// The expression.
    pub sql: String,
    /// Its parameters.
    pub parameters: Vec<Value>,
}

/// Stores an update of our own making, if the guard holds at that moment; `None` where it does not.
///
/// # Errors
/// When the database fails. Then it may be stored or not.
pub async fn append_if(
    database: &impl Database,
    clock: &impl Clock,
    origin: &str,
    update: NewUpdate,
    guard: Guard,
) -> Result<Option<u64>, DatabaseError> {
    let updates = std::iter::once(update);
    let revs = insert(database, clock, origin, updates, Some(guard)).await?;
    Ok(revs.into_values().flatten().next())
}

/// Inserts the rows and returns each room's new revs, in order.
async fn insert(
    database: &impl Database,
    clock: &impl Clock,
    origin: &str,
    updates: impl Iterator<Item = NewUpdate>,
    guard: Option<Guard>,
) -> Result<HashMap<String, VecDeque<u64>>, DatabaseError> {
    let (guard, mut parameters) = match guard {
        Some(Guard { sql, parameters }) => (format!("AND ({sql})"), parameters),
        None => (String::new(), Vec::new()),
    };
    let (by, at) = (parameters.len() + 1, parameters.len() + 2);
    parameters.extend([Value::from(origin), clock.unix_seconds().into()]);
    let mut incoming = String::new();
    for (n, new) in updates.enumerate() {
        let first = parameters.len() + 1;
        let separator = if n == 0 { "" } else { "," };
        incoming += &format!("{separator}({n},?{first},?{})", first + 1);
        parameters.push(new.project.into());
        parameters.push(new.payload.into());
    }
    if incoming.is_empty() {
        return Ok(HashMap::new());
    }
    // A room's newest rev is in its log, or, after a compaction, only in its snapshot's row.
    let sql = format!(
        "WITH incoming (n, project_id, payload) AS (VALUES {incoming})
         INSERT INTO loro_updates (project_id, rev, payload, origin, created_at)
         SELECT i.project_id,
                max(ifnull((SELECT max(u.rev) FROM loro_updates u WHERE u.project_id = i.project_id), 0),
                    ifnull((SELECT s.rev FROM loro_snapshots s WHERE s.project_id = i.project_id), 0))
                    + row_number() OVER (PARTITION BY i.project_id ORDER BY i.n),
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
