//! Merging in a place of its own, so that a trap harms nothing else.
//!
//! Loro may trap on an update that decodes but cannot be applied, and a trap ends the whole Wasm
//! instance. So a merge runs in an instance of its own, behind the [`Merger`] port. When that
//! instance traps, [`run`] looks for the update that causes it: the shortest log that traps ends with
//! it. That update is quarantined, and the merge goes on without it.

use async_trait::async_trait;
use platform::{Clock, Database};
use thiserror::Error;
use wire::{EncodedState, Job, State};

use crate::{
    compact::compact,
    error::RoomError,
    merge::{merge, merge_until},
    quarantine::{REASON_TRAPPED, quarantine},
    rows,
};

/// Runs a [`Job`] in a place of its own, such as a Wasm instance, so that a trap harms nothing else.
#[async_trait(?Send)]
pub trait Merger {
    /// Runs [`work`] for the room.
    ///
    /// # Errors
    /// [`MergeError::Trapped`] only if the instance died on the way; see the others.
    async fn run(&self, project: &str, job: &Job) -> Result<EncodedState, MergeError>;
}

/// A failed merge.
#[derive(Debug, Error)]
pub enum MergeError {
    /// The instance died: most likely an update traps.
    #[error("the merge trapped: {0}")]
    Trapped(String),
    /// The merge ended with an error.
    #[error(transparent)]
    Failed(RoomError),
    /// There is no such place: the host does not let the app call itself.
    #[error("no instance to merge in: {0}")]
    NoPlace(String),
}

/// The most updates that one run quarantines. If more than a few trap at once, the updates are not the
/// cause.
const MOST_CULPRITS: usize = 8;

/// Runs a job through the merger, and again without each update that traps.
///
/// # Errors
/// If the job fails, or if it traps and no single update is to blame.
pub async fn run(
    database: &dyn Database,
    clock: &dyn Clock,
    merger: &dyn Merger,
    project: &str,
    job: &Job,
) -> Result<EncodedState, RoomError> {
    for _ in 0..=MOST_CULPRITS {
        let reason = match merger.run(project, job).await {
            Ok(state) => return Ok(state),
            Err(MergeError::Failed(error)) => return Err(error),
            Err(MergeError::NoPlace(reason)) => {
                tracing::warn!(project, reason, "merging without protection from traps");
                return Ok(work(database, clock, project, job).await?.into());
            }
            Err(MergeError::Trapped(reason)) => reason,
        };
        tracing::warn!(project, reason, "merge trapped");
        match culprit(database, merger, project).await? {
            Some(rev) => quarantine(database, clock, project, rev, REASON_TRAPPED).await?,
            None => return Err(RoomError::Merge(reason)),
        }
    }
    Err(RoomError::Merge("too many updates trap".into()))
}

/// The update without which the log does not trap and with which it does, twice. Anything less certain
/// blames no update, because quarantine takes away a user's work.
async fn culprit(
    database: &dyn Database,
    merger: &dyn Merger,
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

async fn traps_until(merger: &dyn Merger, project: &str, rev: u64) -> Result<bool, RoomError> {
    match merger.run(project, &Job::Until { rev }).await {
        Ok(_) => Ok(false),
        Err(MergeError::Trapped(_)) => Ok(true),
        Err(MergeError::Failed(error)) => Err(error),
        Err(MergeError::NoPlace(reason)) => Err(RoomError::Merge(reason)),
    }
}

/// Does the work of a job in this instance. A [`Merger`] runs it in an instance of its own.
///
/// # Errors
/// If the database fails, or Loro reports an error.
pub async fn work(
    database: &dyn Database,
    clock: &dyn Clock,
    project: &str,
    job: &Job,
) -> Result<State, RoomError> {
    if let Job::Until { rev } = job {
        merge_until(database, project, *rev).await?;
        return Ok(State::default());
    }
    let merged = merge(database, clock, project).await?;
    let mut blobs = match job {
        Job::Snapshot => vec![merged.snapshot()?.into()],
        Job::UpdatesSince { version } => vec![merged.updates_since(version)?.into()],
        Job::Json => vec![merged.json().into_bytes().into()],
        Job::Compact => {
            compact(database, clock, project, &merged).await?;
            Vec::new()
        }
        Job::Until { .. } => Vec::new(),
    };
    if matches!(job, Job::Snapshot | Job::UpdatesSince { .. }) {
        blobs.extend(merged.pending().map(|update| update.to_vec().into()));
    }
    Ok(State {
        rev: merged.rev,
        version: merged.version().into(),
        blobs,
        revs: None,
    })
}
