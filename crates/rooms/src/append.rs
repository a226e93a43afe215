//! Stores updates.

use std::collections::{HashMap, HashSet, VecDeque};

use auth::conditions;
use platform::{Clock, Condition, Database, DatabaseError, Value};
use wire::{Outcome, Update};

use crate::{
    error::RoomError,
    full::NotTaken,
    head::head_sql,
    peers::{self, Place},
    quarantine, receipts,
    refusal::Refusal,
    request::{Disputed, Request},
    supervise::{self, Merger},
    update::{self, Outline},
    waiting,
};

/// The key by which the updates of a request are told apart. Updates of the same key are told apart by their order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    project: String,
    serial: Option<u64>,
    digest: i64,
}

/// The reason for refusing an update that would fit only by accident.
const BUILDS_ON_REFUSED: &str = "it builds on an update that was refused";

/// An update with its place among the operations of its room.
type Placed = (Update, Place);

/// The rev of a row, and whether its update may wait for others.
type Inserted = (u64, bool);

/// Stores updates for any number of rooms with one statement, in the order of the list, and returns the
/// outcome of each. An update that does not decode is refused, and so is one for a deleted project; the
/// others are stored all the same. An update whose serial number `origin` has used before, in
/// [`wire::REPEATED_WITHIN`], is not stored again: its outcome is the first one. The caller has checked that
/// each `project` is a project id.
///
/// An update with operations whose ids are stored already is not stored, unless it repeats the last update of its
/// peers: its outcome is [`Outcome::Suspect`], and [`append_surely`] decides it. The same holds for later updates of
/// the list that build on it, and for an update that may wait, if too many in its room may. The cost of an append does
/// not depend on how much a room already holds.
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
    let keys: Vec<Key> = updates
        .iter()
        .map(|update| Key {
            project: update.project.clone(),
            serial: update.serial,
            digest: peers::digest(&update.payload),
        })
        .collect();
    let lengths: Vec<usize> = updates.iter().map(|update| update.payload.len()).collect();
    let mut request = Request::default();
    let verdicts: Vec<Verdict> = updates
        .iter()
        .zip(&keys)
        .map(|(update, key)| {
            let mut place = match update::check(&update.payload) {
                Ok(outline) => Place::new(outline, key.digest),
                Err(reason) => return Verdict::Refused(reason),
            };
            if request.take(&key.project, &mut place) {
                Verdict::Placed(place)
            } else {
                Verdict::Suspect
            }
        })
        .collect();
    let mut placed = Vec::with_capacity(updates.len());
    let mut outcomes = Vec::with_capacity(updates.len());
    let mut relies = Vec::with_capacity(updates.len());
    for (update, verdict) in updates.into_iter().zip(verdicts) {
        relies.push(matches!(&verdict, Verdict::Placed(place) if place.relies));
        outcomes.push(match verdict {
            Verdict::Placed(place) => {
                placed.push((update, place));
                None
            }
            Verdict::Refused(reason) => Some(Outcome::Refused { reason, code: None }),
            Verdict::Suspect => Some(Outcome::Suspect),
        });
    }
    let guard = Guard::NoOverlap {
        heads: request.heads_json(),
    };
    let mut rows = insert(database, clock, origin, placed, guard).await?;
    let absent = absent(&keys, &outcomes, &rows);
    let repeated =
        receipts::find(database, origin, absent.iter().filter_map(|key| key.serial)).await?;
    let not_taken = NotTaken::ask(database, absent.iter().map(|key| &*key.project)).await?;
    let mut decided = Vec::with_capacity(keys.len());
    for ((outcome, key), length) in outcomes.into_iter().zip(&keys).zip(lengths) {
        let refused = not_taken.refusal(&key.project, length);
        let repeated = key.serial.and_then(|serial| repeated.get(&serial));
        let row = rows.get_mut(key).and_then(VecDeque::pop_front);
        decided.push(match (outcome, row, repeated) {
            (Some(Outcome::Suspect), _, Some(row)) => stored(*row),
            (Some(outcome), ..) => outcome,
            (None, Some(row), _) => stored(row),
            (None, None, Some(row)) => stored(*row),
            (None, None, None) => refused.unwrap_or(Outcome::Suspect),
        });
    }
    doubt(database, &keys, &relies, &mut decided).await?;
    Ok(decided)
}

/// Marks the updates that build on others of the request as ones that may wait, if an earlier update of their room was
/// refused because the room is too full; and forgets what the statement noted of that room's peers.
async fn doubt(
    database: &dyn Database,
    keys: &[Key],
    relies: &[bool],
    outcomes: &mut [Outcome],
) -> Result<(), DatabaseError> {
    let (mut lacking, mut doubted) = (HashSet::new(), HashSet::new());
    for ((outcome, key), relies) in outcomes.iter_mut().zip(keys).zip(relies) {
        let project = &key.project;
        match outcome {
            Outcome::Refused { code: Some(_), .. } => {
                lacking.insert(project);
            }
            Outcome::Stored { waits, .. } if *relies && lacking.contains(project) => {
                *waits = Some(true);
                doubted.insert(project);
            }
            _ => {}
        }
    }
    for project in doubted {
        peers::forget(database, project).await?;
    }
    Ok(())
}

/// The facts that are known of an update before the statement.
enum Verdict {
    Placed(Place),
    Refused(String),
    Suspect,
}

fn stored((rev, waits): Inserted) -> Outcome {
    Outcome::Stored {
        rev,
        waits: waits.then_some(true),
    }
}

/// The updates that the statement did not insert, and the suspects, which it was not given.
fn absent<'a>(
    keys: &'a [Key],
    outcomes: &[Option<Outcome>],
    rows: &HashMap<Key, VecDeque<Inserted>>,
) -> Vec<&'a Key> {
    keys.iter()
        .zip(outcomes)
        .filter(|(key, outcome)| match outcome {
            None => !rows.contains_key(*key),
            Some(outcome) => *outcome == Outcome::Suspect,
        })
        .map(|(key, _)| key)
        .collect()
}

/// Appends like [`append`], and decides each suspect. A suspect is refused with [`wire::DUPLICATE_PEER`] if an
/// operation of it differs from the stored one with the same id, or if it builds on another of the list that was
/// refused for that reason. It is refused with [`wire::QUARANTINED`] if an operation of it is in quarantine, and with
/// [`wire::WAITING_FULL`] if it waits and too many others do. Otherwise, or if that cannot be found out, it is stored.
/// This imports the room's log, so no other update should wait for it.
///
/// # Errors
/// As [`append`]; and [`RoomError::Busy`] if no instance is free for a comparison just now.
pub async fn append_surely(
    database: &dyn Database,
    clock: &dyn Clock,
    merger: &dyn Merger,
    origin: &str,
    updates: Vec<Update>,
) -> Result<Vec<Outcome>, RoomError> {
    let mut outcomes = append(database, clock, origin, updates.clone()).await?;
    let mut disputed = Disputed::default();
    for (outcome, update) in outcomes.iter_mut().zip(&updates) {
        if *outcome != Outcome::Suspect {
            continue;
        }
        let (project, outline) = (&*update.project, Outline::read(&update.payload));
        let outline = outline.unwrap_or_default();
        let refusal = if disputed.builds_on(project, &outline) {
            Some(Refusal::of_duplicate(BUILDS_ON_REFUSED))
        } else {
            match quarantine::refusal(database, project, &outline).await? {
                None => supervise::refusal(database, clock, merger, update).await?,
                refusal => refusal,
            }
        };
        *outcome = match refusal {
            Some(refusal) if refusal.code == wire::WAITING_FULL => {
                waiting_already(database, update, refusal).await?
            }
            Some(refusal) => refusal.into(),
            None => append_unguarded(database, clock, origin, update.clone()).await?,
        };
        if outcome.is_duplicate_peer() {
            disputed.add(project, &outline);
        }
    }
    Ok(outcomes)
}

/// The outcome of an update that waits beside too many others: the refusal, or, if its sender has sent it before, the
/// rev under which it is stored.
async fn waiting_already(
    database: &dyn Database,
    update: &Update,
    refusal: Refusal,
) -> Result<Outcome, DatabaseError> {
    let rev = waiting::stored(database, &update.project, &update.payload).await?;
    Ok(rev.map_or_else(|| refusal.into(), |rev| stored((rev, true))))
}

async fn append_unguarded(
    database: &dyn Database,
    clock: &dyn Clock,
    origin: &str,
    update: Update,
) -> Result<Outcome, RoomError> {
    let (project, serial, length) = (update.project.clone(), update.serial, update.payload.len());
    let placed = place(update).into_iter().collect();
    let rows = insert(database, clock, origin, placed, Guard::Room).await?;
    if let Some(row) = rows.into_values().flatten().next() {
        return Ok(stored(row));
    }
    let repeated = receipts::find(database, origin, serial.into_iter()).await?;
    if let Some(row) = repeated.into_values().next() {
        return Ok(stored(row));
    }
    let not_taken = NotTaken::ask(database, std::iter::once(&*project)).await?;
    // If there is no reason for a refusal any more, the project was full a moment ago.
    not_taken.refusal(&project, length).ok_or(RoomError::Busy)
}

/// An update that was checked before, with its place; `None` if it cannot be read.
fn place(update: Update) -> Option<Placed> {
    let digest = peers::digest(&update.payload);
    let place = Place::new(Outline::read(&update.payload)?, digest);
    Some((update, place))
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
    let placed = place(update).into_iter().collect();
    let guard = Guard::Since(read, condition);
    let rows = insert(database, clock, origin, placed, guard).await?;
    Ok(rows.into_values().flatten().next().map(|(rev, _)| rev))
}

/// The condition under which an update is inserted.
enum Guard {
    /// The project is not too full for the update.
    Room,
    /// The condition of `Room`. In addition, no operation of the update's chain has the id of a stored one, unless the
    /// update is a resend, and the update does not wait beside many others. The field has the
    /// [heads](Request::heads_json) of the chains.
    NoOverlap { heads: String },
    /// The room got no update of the same origin, and no compaction, after this rev, and the condition holds.
    Since(u64, Condition),
}

/// Inserts the rows, except those of serial numbers that are stored already and those that the guard keeps out,
/// and returns those that it inserted, in the order of their revs.
async fn insert(
    database: &dyn Database,
    clock: &dyn Clock,
    origin: &str,
    updates: Vec<Placed>,
    mut guard: Guard,
) -> Result<HashMap<Key, VecDeque<Inserted>>, DatabaseError> {
    if updates.is_empty() {
        return Ok(HashMap::new());
    }
    let mut parameters = Vec::new();
    // The parameters of a condition come first.
    if let Guard::Since(_, condition) = &mut guard {
        parameters.append(&mut condition.parameters);
    }
    let (by, at) = (parameters.len() + 1, parameters.len() + 2);
    parameters.extend([Value::from(origin), clock.unix_seconds().into()]);
    let waits = peers::waits_sql("i.project_id", "i.needs");
    let takes = quota::takes_sql("i.project_id", "length(i.payload)");
    let guard = match guard {
        Guard::Room => format!("AND {takes}"),
        Guard::NoOverlap { heads } => {
            parameters.push(heads.into());
            let overlapping = peers::overlapping_sql(&format!("?{}", parameters.len()));
            // The log is counted only for an update that may wait.
            format!(
                "AND {takes} AND i.chain NOT IN ({overlapping}) AND NOT ({waits} AND {})",
                waiting::may_be_too_many_sql()
            )
        }
        // What the app itself writes is small and is always taken.
        Guard::Since(read, Condition { sql: condition, .. }) => {
            parameters.push(read.into());
            let read = parameters.len();
            format!(
                "AND NOT EXISTS (SELECT 1 FROM loro_updates u
                                  WHERE u.project_id = i.project_id AND u.rev > ?{read} AND u.origin = ?{by})
                 AND NOT EXISTS (SELECT 1 FROM loro_snapshots s
                                  WHERE s.project_id = i.project_id AND s.rev > ?{read})
                 AND ({condition})"
            )
        }
    };
    let incoming = incoming(updates, &mut parameters);
    let head = head_sql("i.project_id");
    let is_deleted = conditions::deleted("i.project_id");
    let is_known = receipts::is_known_sql(&format!("?{by}"), "i.serial");
    let sql = format!(
        "WITH incoming (n, project_id, payload, serial, digest, spans, needs, chain) AS (VALUES {incoming})
         INSERT INTO loro_updates (project_id, rev, payload, origin, created_at, serial, digest, spans, waits)
         SELECT i.project_id, {head} + row_number() OVER (PARTITION BY i.project_id ORDER BY i.n),
                i.payload, ?{by}, ?{at}, i.serial, i.digest, i.spans, {waits}
           FROM incoming i
          WHERE NOT {is_deleted} AND NOT {is_known} {guard}
         RETURNING project_id, rev, serial, waits, digest"
    );
    let mut rows: HashMap<Key, VecDeque<Inserted>> = HashMap::new();
    for mut row in database.execute(&sql, parameters).await? {
        let stored = (row.unsigned(1)?, row.integer(3)? != 0);
        let key = Key {
            serial: row.optional_integer(2)?.map(i64::unsigned_abs),
            digest: row.integer(4)?,
            project: row.text(0)?,
        };
        rows.entry(key).or_default().push_back(stored);
    }
    for of_key in rows.values_mut() {
        of_key.make_contiguous().sort_unstable();
    }
    Ok(rows)
}

/// The updates as a list of SQL values, whose parameters are added.
fn incoming(updates: Vec<Placed>, parameters: &mut Vec<Value>) -> String {
    let mut incoming = String::new();
    for (n, (update, place)) in updates.into_iter().enumerate() {
        let first = parameters.len() + 1;
        let places: Vec<String> = (first..first + 7)
            .map(|place| format!("?{place}"))
            .collect();
        let separator = if n == 0 { "" } else { "," };
        incoming += &format!("{separator}({n},{})", places.join(","));
        parameters.push(update.project.into());
        parameters.push(Vec::from(update.payload).into());
        parameters.push(update.serial.map_or(Value::Null, Value::from));
        parameters.push(place.digest.into());
        parameters.push(place.spans_json().into());
        parameters.push(place.needs_json().into());
        parameters.push((place.chain as u64).into());
    }
    incoming
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Memory, compact, head, merge};
    use loro::{ExportMode, LoroDoc};
    use platform::native::{SetClock, SqliteFile, block_on};

    /// An update of a client of its own.
    fn update(peer: u64) -> Update {
        let doc = LoroDoc::new();
        doc.set_peer_id(peer).unwrap();
        doc.get_map("map").insert("key", peer as i64).unwrap();
        doc.commit();
        Update {
            project: "p".into(),
            payload: doc.export(ExportMode::all_updates()).unwrap().into(),
            serial: None,
        }
    }

    #[test]
    fn what_the_app_made_from_an_older_room_is_not_stored() {
        let (database, clock) = (SqliteFile::with_schema(), SetClock::default());
        let is_five = |number: u64| Condition {
            sql: "?1 = 5".into(),
            parameters: vec![number.into()],
        };
        let tried = |peer, read, condition| {
            block_on(append_if(
                &database,
                &clock,
                "app",
                update(peer),
                read,
                condition,
            ))
            .unwrap()
        };
        assert_eq!(tried(1, 0, is_five(5)), Some(1));
        let others = block_on(append(&database, &clock, "relay", vec![update(2)])).unwrap();
        assert_eq!(others, [stored((2, false))]);
        // What clients write in between is merged. What the app wrote itself must have been read.
        assert_eq!(tried(3, 1, is_five(5)), Some(3));
        assert_eq!(tried(4, 2, is_five(5)), None);
        assert_eq!(tried(4, 3, is_five(6)), None);
        // A compaction may hide that the app wrote.
        let merged = block_on(merge(&database, &clock, "p", Memory::default())).unwrap();
        block_on(compact(&database, &clock, "p", &merged)).unwrap();
        assert_eq!(tried(4, 2, is_five(5)), None);
        assert_eq!(block_on(head(&database, "p")).unwrap(), 3);
        assert_eq!(tried(4, 3, is_five(5)), Some(4));
    }
}
