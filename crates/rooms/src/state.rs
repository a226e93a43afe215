//! Reading a room.

use loro::{ExportMode, LoroDoc, VersionVector};
use platform::{Clock, Database};
use wire::{EncodedState, Job, State};

use crate::{
    error::RoomError,
    limits,
    rows::{self, Rows},
    supervise::{self, Merger},
};

/// The state of a room for a client that joins: all of it, or the part that `version` (an encoded
/// version vector) lacks. There is always at least one blob, also for an empty room.
///
/// # Errors
/// If the database fails, `version` is not a version vector, or the room cannot be merged.
pub async fn state(
    database: &dyn Database,
    clock: &dyn Clock,
    merger: &dyn Merger,
    project: &str,
    version: Option<&[u8]>,
) -> Result<EncodedState, RoomError> {
    if let Some(version) = version.filter(|version| !version.is_empty()) {
        VersionVector::decode(version).map_err(|_| RoomError::BadVersion)?;
        let version = version.to_vec().into();
        let job = Job::UpdatesSince { version };
        return supervise::run(database, clock, merger, project, &job).await;
    }
    let rows = rows::all(database, project).await?;
    if rows.log.len() > limits::STATE_UPDATES {
        supervise::run(database, clock, merger, project, &Job::Compact).await?;
        let rows = rows::all(database, project).await?;
        return Ok(as_stored(rows)?.into());
    }
    let blobs = rows.log.len() + usize::from(rows.snapshot.is_some());
    if blobs > 1 && rows.bytes() <= limits::MERGE_ON_READ_BYTES {
        return supervise::run(database, clock, merger, project, &Job::Snapshot).await;
    }
    Ok(as_stored(rows)?.into())
}

/// The part of a room that a relay lacks if it knows the room up to `rev`. Empty if it knows all.
///
/// # Errors
/// If the database fails.
pub async fn updates_after(
    database: &dyn Database,
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
        version: VersionVector::default().encode().into(),
        revs: Some(rows.log.iter().map(|row| row.rev).collect()),
        blobs: rows.log.into_iter().map(|row| row.payload.into()).collect(),
    })
}

/// The whole room as one Loro snapshot.
///
/// # Errors
/// If the database fails, or the room cannot be merged.
pub async fn snapshot(
    database: &dyn Database,
    clock: &dyn Clock,
    merger: &dyn Merger,
    project: &str,
) -> Result<EncodedState, RoomError> {
    let rows = rows::all(database, project).await?;
    if rows.log.is_empty() {
        return Ok(as_stored(rows)?.into());
    }
    supervise::run(database, clock, merger, project, &Job::Snapshot).await
}

/// The rows as they are: the snapshot, then the log.
fn as_stored(rows: Rows) -> Result<State, RoomError> {
    let mut version = VersionVector::default().encode();
    let mut blobs = Vec::with_capacity(rows.log.len() + 1);
    let mut revs = Vec::with_capacity(rows.log.len() + 1);
    if let Some(snapshot) = rows.snapshot {
        version = snapshot.version;
        revs.push(snapshot.rev);
        blobs.push(snapshot.blob.into());
    } else if rows.log.is_empty() {
        let empty = LoroDoc::new().export(ExportMode::Snapshot);
        revs.push(rows.head);
        blobs.push(empty.map_err(RoomError::of_loro)?.into());
    }
    for row in rows.log {
        revs.push(row.rev);
        blobs.push(row.payload.into());
    }
    Ok(State {
        rev: rows.head,
        version: version.into(),
        blobs,
        revs: Some(revs),
    })
}
