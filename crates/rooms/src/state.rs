//! Reading a room.

use loro::{ExportMode, LoroDoc, VersionVector};
use platform::{Clock, Database, DatabaseError, Value};

use crate::{
    RoomError, limits,
    merge::loro,
    rows::{self, Rows},
    supervise::{self, Job, Merger},
};

/// The state of a room, or what somebody who knows a part of it lacks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// The rev up to which this tells all.
    pub rev: u64,
    /// An encoded version vector that the room has for certain reached.
    pub version: Vec<u8>,
    /// Loro blobs, to be imported in this order.
    pub blobs: Vec<Vec<u8>>,
    /// The rev of each blob, in their order; of a snapshot, the rev up to which it tells all. Empty
    /// if the blobs were merged.
    pub revs: Vec<u64>,
}

/// The state of a room for somebody who joins: all of it, or what `version` (an encoded version
/// vector) lacks. There is always at least one blob, also of an empty room.
///
/// # Errors
/// When the database fails, the version vector is not one, or the room cannot be merged.
pub async fn state(
    database: &impl Database,
    clock: &impl Clock,
    merger: &impl Merger,
    project: &str,
    version: Option<&[u8]>,
) -> Result<State, RoomError> {
    if let Some(version) = version.filter(|version| !version.is_empty()) {
        VersionVector::decode(version).map_err(|_| RoomError::BadVersion)?;
        let job = Job::UpdatesSince(version.to_vec());
        return supervise::run(database, clock, merger, project, &job).await;
    }
    let rows = rows::all(database, project).await?;
    if rows.log.len() > limits::STATE_UPDATES {
        supervise::run(database, clock, merger, project, &Job::Compact).await?;
        let rows = rows::all(database, project).await?;
        return as_stored(rows);
    }
    let blobs = rows.log.len() + usize::from(rows.snapshot.is_some());
    if blobs > 1 && rows.bytes() <= limits::MERGE_ON_READ_BYTES {
        return supervise::run(database, clock, merger, project, &Job::Snapshot).await;
    }
    as_stored(rows)
}

/// What a relay lacks that knows the room up to `rev`. Empty where it knows all.
///
/// # Errors
/// When the database fails.
pub async fn updates_after(
    database: &impl Database,
    project: &str,
    rev: u64,
) -> Result<State, RoomError> {
    let rows = rows::after(database, project, rev).await?;
    if rows.snapshot.is_some() {
        // Updates that wait for others may lie before `rev`: send the room whole.
        return as_stored(rows::all(database, project).await?);
    }
    Ok(State {
        rev: rows.head,
        version: VersionVector::default().encode(),
        revs: rows.log.iter().map(|row| row.rev).collect(),
        blobs: rows.log.into_iter().map(|row| row.payload).collect(),
    })
}

/// The whole room as one Loro snapshot.
///
/// # Errors
/// When the database fails, or the room cannot be merged.
pub async fn snapshot(
    database: &impl Database,
    clock: &impl Clock,
    merger: &impl Merger,
    project: &str,
) -> Result<State, RoomError> {
    let rows = rows::all(database, project).await?;
    if rows.log.is_empty() {
        return as_stored(rows);
    }
    supervise::run(database, clock, merger, project, &Job::Snapshot).await
}

/// The rows as they are: the snapshot, then the log.
fn as_stored(rows: Rows) -> Result<State, RoomError> {
    let mut state = State {
        rev: rows.head,
        version: VersionVector::default().encode(),
        blobs: Vec::with_capacity(rows.log.len() + 1),
        revs: Vec::with_capacity(rows.log.len() + 1),
    };
    if let Some(snapshot) = rows.snapshot {
        state.version = snapshot.version;
        state.revs.push(snapshot.rev);
        state.blobs.push(snapshot.blob);
    } else if rows.log.is_empty() {
        state.revs.push(rows.head);
        state
            .blobs
            .push(LoroDoc::new().export(ExportMode::Snapshot).map_err(loro)?);
    }
    for row in rows.log {
        state.revs.push(row.rev);
        state.blobs.push(row.payload);
    }
    Ok(state)
}

/// The newest rev of a room; 0 where it has no updates.
///
/// # Errors
/// When the database fails.
pub async fn head(database: &impl Database, project: &str) -> Result<u64, DatabaseError> {
    let revs = heads(database, &[project.to_owned()]).await?;
    Ok(revs.first().copied().unwrap_or(0))
}

/// The newest rev of each of these rooms, in their order.
///
/// # Errors
/// When the database fails.
pub async fn heads(
    database: &impl Database,
    projects: &[String],
) -> Result<Vec<u64>, DatabaseError> {
    if projects.is_empty() {
        return Ok(Vec::new());
    }
    let asked: Vec<String> = (0..projects.len())
        .map(|n| format!("({n},?{})", n + 1))
        .collect();
    let sql = format!(
        "WITH asked (n, project_id) AS (VALUES {})
         SELECT a.n,
                max(ifnull((SELECT max(u.rev) FROM loro_updates u WHERE u.project_id = a.project_id), 0),
                    ifnull((SELECT s.rev FROM loro_snapshots s WHERE s.project_id = a.project_id), 0))
           FROM asked a",
        asked.join(",")
    );
    let parameters: Vec<Value> = projects.iter().map(|p| p.as_str().into()).collect();
    let mut revs = vec![0; projects.len()];
    for row in database.execute(&sql, parameters).await? {
        let n = usize::try_from(row.unsigned(0)?).unwrap_or(usize::MAX);
        if let Some(rev) = revs.get_mut(n) {
            *rev = row.unsigned(1)?;
        }
    }
    Ok(revs)
}
