//! Reads a room.

use loro::{ExportMode, LoroDoc, VersionVector};
use platform::{Clock, Database};
use wire::{EncodedState, Job, State};

use crate::{
    error::RoomError,
    lease::{self, Work},
    limits,
    pending::together,
    rows::{self, Rows},
    supervise::{self, Merger, Wait},
};

/// The state of a room for a client that joins: all of it, or the part that `version` (an encoded
/// version vector) lacks. A client whose version is empty gets all of it, with the snapshot, so that it need not
/// compute the state itself. There is always at least one blob, also for an empty room. If nothing can be merged now,
/// the blobs come as they are stored.
///
/// # Errors
/// If the database fails, or `version` is not a version vector.
pub async fn state(
    database: &dyn Database,
    clock: &dyn Clock,
    merger: &dyn Merger,
    project: &str,
    version: Option<&[u8]>,
) -> Result<EncodedState, RoomError> {
    if let Some(version) = version
        && has_operations(version)?
    {
        let version = version.to_vec().into();
        let job = Job::UpdatesSince { version };
        if let Some(state) = tried(database, clock, merger, project, &job).await? {
            return Ok(state);
        }
    }
    let mut rows = rows::all(database, project).await?;
    if rows.uncompacted() > limits::STATE_UPDATES {
        let asked = supervise::compact(database, clock, merger, project, Wait::Briefly).await;
        if let Err(error) = asked {
            tracing::warn!(project, %error, "a long log is sent as it is");
        }
        rows = rows::all(database, project).await?;
        // If another compaction was under way, it began before many of these updates came.
        if rows.uncompacted() > limits::STATE_UPDATES
            && let Some(state) = shortened(database, clock, merger, project, &rows).await?
        {
            return Ok(state);
        }
    } else if rows.uncompacted() > 0
        && rows.count() > 1
        && rows.blob.is_none()
        && rows.bytes() <= limits::MERGE_ON_READ_BYTES
        && let Some(state) = tried(database, clock, merger, project, &Job::Snapshot).await?
    {
        return Ok(state);
    }
    Ok(as_stored(rows)?.into())
}

/// Returns whether an encoded version vector, which may be empty bytes, has any operation.
///
/// # Errors
/// If it is not a version vector.
fn has_operations(version: &[u8]) -> Result<bool, RoomError> {
    if version.is_empty() {
        return Ok(false);
    }
    let version = VersionVector::decode(version).map_err(|_| RoomError::BadVersion)?;
    Ok(!version.is_empty())
}

/// Answers the stored snapshot, then everything after it as one update, or the whole room as one update if there is no
/// snapshot with a state; `None` if no instance can make that update now.
async fn shortened(
    database: &dyn Database,
    clock: &dyn Clock,
    merger: &dyn Merger,
    project: &str,
    rows: &Rows,
) -> Result<Option<EncodedState>, RoomError> {
    // If a room was folded, its version may claim operations of updates that stayed in the log. An answer that begins
    // at that version would leave them out.
    let Some(snapshot) = rows.snapshot.as_ref().filter(|row| row.has_state) else {
        return tried(database, clock, merger, project, &Job::Updates).await;
    };
    let version = snapshot.version.clone().into();
    let job = Job::UpdatesSince { version };
    let Some(newer) = tried(database, clock, merger, project, &job).await? else {
        return Ok(None);
    };
    let newer = newer
        .decoded()
        .map_err(|error| RoomError::Merge(error.to_string()))?;
    let blobs = newer.blobs.iter().map(|blob| blob.to_vec());
    Ok(Some(
        State {
            rev: newer.rev,
            version: newer.version.to_vec().into(),
            blobs: std::iter::once(snapshot.blob.clone())
                .chain(blobs)
                .map(Into::into)
                .collect(),
            revs: None,
        }
        .into(),
    ))
}

/// Runs a job and returns its answer; `None` if it fails for another reason than the database.
async fn tried(
    database: &dyn Database,
    clock: &dyn Clock,
    merger: &dyn Merger,
    project: &str,
    job: &Job,
) -> Result<Option<EncodedState>, RoomError> {
    match supervise::run(database, clock, merger, project, job).await {
        Ok(state) => Ok(Some(state)),
        Err(RoomError::Database(error)) => Err(error.into()),
        Err(error) => {
            tracing::warn!(project, %error, "a room is sent as it is stored");
            Ok(None)
        }
    }
}

/// The part of a room that a relay lacks if it knows the room up to `rev`; nothing if it knows all.
///
/// # Errors
/// If the database fails.
pub async fn updates_after(
    database: &dyn Database,
    project: &str,
    rev: u64,
) -> Result<State, RoomError> {
    let rows = rows::after(database, project, rev).await?;
    if rows.snapshot.is_some() || rows.log.len() > limits::STATE_UPDATES {
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

/// The whole room as one Loro blob: a snapshot, or, while its state is not known, one update. If no instance can make that
/// now, the calling instance joins what is stored, without Loro reading it as a whole.
///
/// # Errors
/// If the database fails, or Loro cannot read the room's snapshot.
pub async fn snapshot(
    database: &dyn Database,
    clock: &dyn Clock,
    merger: &dyn Merger,
    project: &str,
) -> Result<EncodedState, RoomError> {
    let rows = rows::all(database, project).await?;
    // Updates that wait for others are left out of a whole document.
    let is_stored_whole = rows.snapshot.is_none() || rows.blob.is_none();
    if is_stored_whole && rows.uncompacted() == 0 {
        return Ok(as_stored(rows)?.into());
    }
    let job = match rows.blob {
        Some(_) => Job::Updates,
        None => Job::Snapshot,
    };
    drop(rows);
    if let Some(state) = tried(database, clock, merger, project, &job).await? {
        return Ok(state);
    }
    let rows = rows::all(database, project).await?;
    Ok(supervise::unread(rows, merger.memory())?.into())
}

/// The whole document as JSON text, which needs its state. If the state is not cheap, the log is compacted without it, so that
/// the next sweep merges the room, however short its log is.
///
/// # Errors
/// [`RoomError::StateUnavailable`] or [`RoomError::TooLarge`] if it is not there and could not be computed now.
/// [`RoomError::TooDeep`] if it has no JSON, [`RoomError::Busy`] if no instance is free, and else if the database
/// fails.
pub async fn json(
    database: &dyn Database,
    clock: &dyn Clock,
    merger: &dyn Merger,
    project: &str,
) -> Result<EncodedState, RoomError> {
    let is_due = rows::lacks_state(database, project).await?;
    // A state that no merge has tried to compute yet may be cheap.
    if is_due && lease::has_failed(database, clock, project, Work::Merge).await? {
        return Err(RoomError::StateUnavailable);
    }
    match supervise::run(database, clock, merger, project, &Job::Json).await {
        Ok(state) if state.decoded().is_ok_and(|state| state.blobs.is_empty()) => {
            Err(RoomError::TooDeep)
        }
        Err(error @ RoomError::Merge(_)) => {
            tracing::warn!(project, %error, "a document has no JSON for now");
            Err(RoomError::StateUnavailable)
        }
        Err(error @ (RoomError::StateUnavailable | RoomError::TooLarge { .. })) if !is_due => {
            if let Err(error) = supervise::compact(database, clock, merger, project, Wait::No).await
            {
                tracing::warn!(project, %error, "a room was not compacted");
            }
            Err(error)
        }
        answer => answer,
    }
}

/// The rows as they are: the snapshot, the blob, what waits for others, then the log.
fn as_stored(mut rows: Rows) -> Result<State, RoomError> {
    let version = rows.version();
    let mut blobs = Vec::with_capacity(rows.count() + 1);
    let mut revs = Vec::with_capacity(rows.count() + 1);
    if rows.count() == 0 {
        let empty = LoroDoc::new().export(ExportMode::Snapshot);
        revs.push(rows.head);
        blobs.push(empty.map_err(RoomError::of_loro)?.into());
    }
    let pending = rows.take_pending();
    if let Some(snapshot) = rows.snapshot {
        revs.push(snapshot.rev);
        blobs.push(snapshot.blob.into());
    }
    if let Some(blob) = rows.blob {
        revs.push(blob.rev);
        blobs.push(blob.blob.into());
    }
    if let Some(rev) = pending.last().map(|row| row.rev) {
        let waiting = together(pending.into_iter().map(|row| row.payload).collect());
        revs.resize(revs.len() + waiting.len(), rev);
        blobs.extend(waiting.into_iter().map(Into::into));
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

#[cfg(test)]
mod tests;
