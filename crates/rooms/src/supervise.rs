//! Merging where a trap takes down nobody else.
//!
//! Loro may trap on an update that decodes but cannot be applied, and a trap ends the whole Wasm
//! instance. So a merge runs in an instance of its own, behind the [`Merger`] port. When that
//! instance traps, [`run`] looks for the update that does it: the shortest log that traps ends with
//! it. It is quarantined, and the merge goes on without it.

use async_trait::async_trait;
use platform::{Clock, Database};

use crate::{
    Merged, RoomError, State, compact, merge, merge_until, quarantine::REASON_TRAPPED,
    quarantine::quarantine, rows,
};

/// What a merge is for.
#[derive(Debug, Clone, PartialEq)]
pub enum Job {
    /// The document as one snapshot, then what waits for other updates.
    Snapshot,
    /// What somebody lacks who has this encoded version vector.
    UpdatesSince(Vec<u8>),
    /// The document as JSON text.
    Json,
    /// Store the snapshot and shorten the log.
    Compact,
    /// A trial: does the log up to this rev trap?
    Until(u64),
}

/// Runs a [`Job`] where a trap harms nobody else, such as in a Wasm instance of its own.
#[async_trait(?Send)]
pub trait Merger {
    /// Runs [`work`] for the room.
    ///
    /// # Errors
    /// [`MergeError::Trapped`] when it died on the way, and that alone; see the others.
    async fn run(&self, project: &str, job: &Job) -> Result<State, MergeError>;
}

/// A merge failed.
#[derive(Debug)]
pub enum MergeError {
    /// The instance died: most likely an update traps.
    Trapped(String),
    /// It failed in good order.
    Failed(RoomError),
    /// There is no such place here: the host doesn't let the app ask itself.
    NoPlace(String),
}

/// How many updates may be quarantined in one go. More than a few at once are not bad updates but
/// something else that fails.
const MOST_CULPRITS: usize = 8;

/// Runs a job through the merger, and again without the update that traps, if there is one.
///
/// # Errors
/// When the job fails, or it traps and no single update is to blame.
pub async fn run(
    database: &impl Database,
    clock: &impl Clock,
    merger: &impl Merger,
    project: &str,
    job: &Job,
) -> Result<State, RoomError> {
    for _ in 0..=MOST_CULPRITS {
        let words = match merger.run(project, job).await {
            Ok(state) => return Ok(state),
            Err(MergeError::Failed(error)) => return Err(error),
            Err(MergeError::NoPlace(words)) => {
                tracing::warn!(
                    project,
                    reason = words,
                    "merging without protection from traps"
                );
                return work(database, clock, project, job).await;
            }
            Err(MergeError::Trapped(words)) => words,
        };
        tracing::warn!(project, reason = words, "merge trapped");
        match culprit(database, merger, project).await? {
            Some(rev) => quarantine(database, clock, project, rev, REASON_TRAPPED).await?,
            None => return Err(RoomError::Merge(words)),
        }
    }
    Err(RoomError::Merge("too many updates trap".into()))
}

/// The update without which the log does not trap and with which it does, twice. Anything less
/// certain blames nobody, for what is moved aside is somebody's work.
async fn culprit(
    database: &impl Database,
    merger: &impl Merger,
    project: &str,
) -> Result<Option<u64>, RoomError> {
    let revs: Vec<u64> = rows::all(database, project)
        .await?
        .log
        .iter()
        .map(|row| row.rev)
        .collect();
    let (mut fine, mut traps) = (0, revs.len());
    if revs.is_empty()
        || traps_until(merger, project, 0).await?
        || !traps_until(merger, project, revs[traps - 1]).await?
    {
        return Ok(None);
    }
    while traps - fine > 1 {
        let middle = fine + (traps - fine) / 2;
        if traps_until(merger, project, revs[middle - 1]).await? {
            traps = middle;
        } else {
            fine = middle;
        }
    }
    let rev = revs[traps - 1];
    let before = if fine == 0 { 0 } else { revs[fine - 1] };
    let certain =
        traps_until(merger, project, rev).await? && !traps_until(merger, project, before).await?;
    Ok(certain.then_some(rev))
}

async fn traps_until(merger: &impl Merger, project: &str, rev: u64) -> Result<bool, RoomError> {
    match merger.run(project, &Job::Until(rev)).await {
        Ok(_) => Ok(false),
        Err(MergeError::Trapped(_)) => Ok(true),
        Err(MergeError::Failed(error)) => Err(error),
        Err(MergeError::NoPlace(words)) => Err(RoomError::Merge(words)),
    }
}

/// Does the work of a job, here and now. This is what a [`Merger`] runs in its own instance.
///
/// # Errors
/// When the database fails, or Loro does in good order.
pub async fn work(
    database: &impl Database,
    clock: &impl Clock,
    project: &str,
    job: &Job,
) -> Result<State, RoomError> {
    if let Job::Until(rev) = job {
        merge_until(database, project, *rev).await?;
        return Ok(State::default());
    }
    let merged = merge(database, clock, project).await?;
    let main = match job {
        Job::Snapshot => merged.snapshot()?,
        Job::UpdatesSince(version) => merged.updates_since(version)?,
        Job::Json => merged.json().into_bytes(),
        Job::Compact => {
            compact(database, clock, project, &merged).await?;
            return Ok(told(&merged, Vec::new()));
        }
        Job::Until(_) => Vec::new(),
    };
    let mut blobs = vec![main];
    if *job != Job::Json {
        blobs.extend(merged.pending().map(<[u8]>::to_vec));
    }
    Ok(told(&merged, blobs))
}

fn told(merged: &Merged, blobs: Vec<Vec<u8>>) -> State {
    State {
        rev: merged.rev,
        version: merged.version(),
        blobs,
        revs: Vec::new(),
    }
}
