//! Merges in an instance of its own, so that a trap harms nothing else.
//!
//! Loro may trap on an update that decodes but cannot be applied, and a trap ends the whole Wasm
//! instance. So a merge runs in an instance of its own, behind the [`Merger`] port. If that instance
//! dies, an update is to blame only on proof: the instance reported a panic of its own code, the log up to
//! that update panics twice, and the log before it doesn't. That update is quarantined, and the merge goes
//! on without it. A lack of time, of memory or of a free instance proves nothing.

use std::time::Duration;

use async_trait::async_trait;
use loro::VersionVector;
use platform::{Clock, Database};
use thiserror::Error;
use wire::{EncodedState, Job, State, Update};

use crate::{
    blame::culprit,
    compact::{compact as store, pack},
    conflict,
    cost::Cost,
    error::RoomError,
    fold::fold,
    head::head,
    history::History,
    lease::{self, Lease, Work},
    limits,
    memory::Memory,
    merge::{Bounds, merge as merge_cheap, merge_within, try_until},
    operations, own_peer,
    pending::together,
    quarantine::quarantine,
    refusal::Refusal,
    rows::{self, Rows},
    unread::Unread,
    waiting,
};

/// Runs a [`Job`] in a place of its own, such as a Wasm instance, so that a trap harms nothing else.
#[async_trait(?Send)]
pub trait Merger {
    /// Runs [`work`] for the room.
    ///
    /// # Errors
    /// A [`MergeError`], which says what failed. It is [`MergeError::Panicked`] only if the instance itself reported
    /// that.
    async fn run(&self, project: &str, job: &Job) -> Result<EncodedState, MergeError>;

    /// The memory of such a place.
    fn memory(&self) -> Memory {
        Memory::default()
    }
}

/// A failed merge.
#[derive(Debug, Error)]
pub enum MergeError {
    /// The code in the instance panicked: most likely because of an update.
    #[error("the merge panicked: {0}")]
    Panicked(String),
    /// The instance died for an unknown reason: it may have had no time or no memory left.
    #[error("the merge died: {0}")]
    Died(String),
    /// The host has no free instance just now. Nothing was done.
    #[error("no instance is free for a merge just now")]
    Busy,
    /// The merge ended with an error.
    #[error(transparent)]
    Failed(RoomError),
    /// An instance for the merge can never start, because the host does not let the app call itself.
    #[error("an instance for the merge could not start: {0}")]
    NoPlace(String),
}

/// The most updates that a run quarantines. If it panics without them, too, the updates are most likely not the cause.
const MOST_CULPRITS: usize = 8;

/// The pause of a caller that waits for a compaction, before it looks again whether the compaction has ended.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The most times that such a caller looks.
const LOOKS: u32 = 50;

/// Runs a job through the merger, and again without each update that is proved to panic.
///
/// # Errors
/// If the job fails, or if it dies and no single update is to blame.
pub async fn run(
    database: &dyn Database,
    clock: &dyn Clock,
    merger: &dyn Merger,
    project: &str,
    job: &Job,
) -> Result<EncodedState, RoomError> {
    for quarantined in 0..=MOST_CULPRITS {
        let reason = match merger.run(project, job).await {
            Ok(state) => return Ok(state),
            Err(MergeError::Failed(error)) => return Err(error),
            Err(MergeError::Busy) => return Err(RoomError::Busy),
            Err(MergeError::Died(reason)) => return Err(RoomError::Merge(reason)),
            Err(MergeError::NoPlace(reason)) => {
                tracing::warn!(
                    project,
                    reason,
                    "a merge gets no instance of its own: it runs in this one, and a trap ends the request"
                );
                return Ok(work(database, clock, project, job, merger.memory())
                    .await?
                    .into());
            }
            Err(MergeError::Panicked(reason)) => reason,
        };
        tracing::warn!(project, reason, "a merge panicked");
        if quarantined == MOST_CULPRITS {
            break;
        }
        match culprit(database, merger, project).await? {
            Some((rev, words)) => quarantine(database, clock, project, rev, &words).await?,
            None => return Err(RoomError::Merge(reason)),
        }
    }
    Err(RoomError::Merge("too many updates panic".into()))
}

/// Compares an update with the document, and returns its refusal if one of its operations differs there, or if it
/// waits and too many others do. A comparison that dies proves nothing.
///
/// # Errors
/// If the database fails, or [`RoomError::Busy`].
pub(crate) async fn refusal(
    database: &dyn Database,
    clock: &dyn Clock,
    merger: &dyn Merger,
    update: &Update,
) -> Result<Option<Refusal>, RoomError> {
    let project = update.project.as_str();
    let job = Job::Compare {
        update: update.payload.clone(),
    };
    let answer = match merger.run(project, &job).await {
        Ok(answer) => answer,
        Err(MergeError::NoPlace(_)) => work(database, clock, project, &job, merger.memory())
            .await?
            .into(),
        Err(MergeError::Busy) => return Err(RoomError::Busy),
        Err(MergeError::Failed(RoomError::Database(error))) => return Err(error.into()),
        Err(error) => {
            tracing::warn!(project, %error, "an update was not compared");
            return Ok(None);
        }
    };
    let answer = answer
        .decoded()
        .map_err(|error| RoomError::Merge(error.to_string()))?;
    let text = |blob: &[u8]| String::from_utf8_lossy(blob).into_owned();
    Ok(match &answer.blobs[..] {
        [reason, code] => Some(Refusal {
            reason: text(reason),
            code: text(code),
        }),
        _ => None,
    })
}

/// Says whether a caller waits for a compaction that another instance has under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The caller waits, for a few seconds at most.
    Briefly,
    /// The caller does not wait.
    No,
}

/// Compacts a room. All callers that want a room compacted call this. One compaction of a room runs at a time, and
/// after a failure the next one waits: meanwhile, this returns without doing anything. If the state cannot be
/// computed now, the log is compacted without it.
///
/// # Errors
/// If the compaction fails, or the database.
pub async fn compact(
    database: &dyn Database,
    clock: &dyn Clock,
    merger: &dyn Merger,
    project: &str,
    wait: Wait,
) -> Result<(), RoomError> {
    let rev = head(database, project).await?;
    let Some(lease) = Lease::take(database, clock, project, Work::Compact, rev).await? else {
        if wait == Wait::Briefly {
            for _ in 0..LOOKS {
                if !lease::is_held(database, clock, project, Work::Compact).await? {
                    break;
                }
                clock.sleep(LOOK_EVERY).await;
            }
        }
        return Ok(());
    };
    let compacted = match run(database, clock, merger, project, &Job::Compact).await {
        Err(error) if !matches!(error, RoomError::Database(_) | RoomError::Busy) => {
            tracing::warn!(project, %error, "a room was compacted without its state");
            run(database, clock, merger, project, &Job::Pack).await
        }
        compacted => compacted,
    };
    end(database, clock, lease, compacted).await
}

/// The number of failed merges after which the log beside the blob is deleted. They take about three quarters of an
/// hour.
const FOLDED_AFTER: u64 = 9;

/// Computes the state of a room whose log was compacted without it. One such merge of a room runs at a time;
/// after a failure the next one waits, up to an hour. This takes minutes. If it fails again and again, the whole
/// room becomes one update, because otherwise the log would grow for ever.
///
/// # Errors
/// If the merge fails, or the database.
pub async fn merge(
    database: &dyn Database,
    clock: &dyn Clock,
    merger: &dyn Merger,
    project: &str,
) -> Result<(), RoomError> {
    let rev = head(database, project).await?;
    let Some(lease) = Lease::take(database, clock, project, Work::Merge, rev).await? else {
        return Ok(());
    };
    let merged = run(database, clock, merger, project, &Job::Merge).await;
    let is_failed = !matches!(
        &merged,
        Ok(_) | Err(RoomError::Database(_) | RoomError::Busy)
    );
    if is_failed && lease.tries() >= FOLDED_AFTER {
        let folded = run(database, clock, merger, project, &Job::Fold).await;
        if let Err(error) = folded {
            tracing::warn!(project, %error, "a log that cannot be merged was not put together, and still grows");
        }
    }
    end(database, clock, lease, merged).await
}

async fn end(
    database: &dyn Database,
    clock: &dyn Clock,
    lease: Lease,
    result: Result<EncodedState, RoomError>,
) -> Result<(), RoomError> {
    match &result {
        Ok(_) => lease.succeeded(database).await?,
        Err(RoomError::Busy) => lease.given_back(database, clock).await?,
        Err(_) => lease.failed(database, clock).await?,
    }
    result.map(drop)
}

/// Does the work of a job in this instance. A [`Merger`] runs it in an instance of its own.
///
/// # Errors
/// If the database fails, Loro reports an error, or the job needs a state that is not cheap, or that does not fit an
/// instance of this memory.
pub async fn work(
    database: &dyn Database,
    clock: &dyn Clock,
    project: &str,
    job: &Job,
    memory: Memory,
) -> Result<State, RoomError> {
    match job {
        Job::Snapshot => snapshot(database, clock, project, memory).await,
        Job::Updates => updates(database, project, memory).await,
        Job::UpdatesSince { version } => {
            let version = VersionVector::decode(version).map_err(|_| RoomError::BadVersion)?;
            updates_since(database, project, &version).await
        }
        Job::Json => {
            let merged = merge_cheap(database, clock, project, memory).await?;
            let (rev, version) = (merged.rev, merged.version().into());
            let json = match merged.json() {
                Ok(json) => Some(json.into_bytes().into()),
                // An answer without a blob means this to the caller.
                Err(RoomError::TooDeep) => None,
                Err(error) => return Err(error),
            };
            Ok(State {
                rev,
                version,
                blobs: json.into_iter().collect(),
                revs: None,
            })
        }
        Job::Compact => {
            store_or_pack(database, clock, project, memory).await?;
            Ok(State::default())
        }
        Job::Pack => {
            pack(database, clock, project, memory).await?;
            Ok(State::default())
        }
        Job::Fold => {
            fold(database, clock, project, memory).await?;
            Ok(State::default())
        }
        Job::Merge => {
            let cost = Cost::LONG;
            let bounds = Bounds { cost, memory };
            let rev = head(database, project).await?;
            let merged = merge_within(database, clock, project, bounds).await;
            if let Err(RoomError::TooLarge { operations }) = merged {
                operations::note(database, project, rev, Some(operations)).await?;
            }
            store(database, clock, project, &merged?).await?;
            Ok(State::default())
        }
        Job::Compare { update } => compare(database, project, update).await,
        Job::Until { rev } => {
            let words = try_until(database, project, *rev, memory).await?;
            Ok(State {
                blobs: words
                    .into_iter()
                    .map(|words| words.into_bytes().into())
                    .collect(),
                ..State::default()
            })
        }
    }
}

/// Compacts the log into a snapshot, or without its state if that is not cheap or does not fit an instance of this
/// memory.
async fn store_or_pack(
    database: &dyn Database,
    clock: &dyn Clock,
    project: &str,
    memory: Memory,
) -> Result<(), RoomError> {
    // While there is a blob, a merge of its own is due, and only that merge computes the state.
    if rows::lacks_state(database, project).await?
        || rows::bytes(database, project).await? > limits::MERGE_AT_ONCE_BYTES
    {
        return pack(database, clock, project, memory).await;
    }
    match merge_cheap(database, clock, project, memory).await {
        Ok(merged) => store(database, clock, project, &merged).await,
        Err(RoomError::StateUnavailable | RoomError::TooLarge { .. }) => {
            pack(database, clock, project, memory).await
        }
        Err(error) => Err(error),
    }
}

/// Compares an update with what is stored. The answer has a reason and a code if the update must be refused.
async fn compare(
    database: &dyn Database,
    project: &str,
    update: &[u8],
) -> Result<State, RoomError> {
    let rows = rows::all(database, project).await?;
    let history = History::of(&rows)?;
    let refusal = match conflict::find(&history, update)? {
        Some(id) => Some(Refusal::of_duplicate(&format!(
            "another client has written under the peer id {}; take a new one (operation {})",
            id.peer, id.counter
        ))),
        None => waiting::refusal(database, project, &rows, &history, update).await?,
    };
    let blobs =
        refusal.map(|refusal| [refusal.reason, refusal.code].map(|text| text.into_bytes().into()));
    Ok(State {
        blobs: blobs.into_iter().flatten().collect(),
        ..State::default()
    })
}

/// Answers the whole document as a snapshot, or as one update if its state is not cheap.
async fn snapshot(
    database: &dyn Database,
    clock: &dyn Clock,
    project: &str,
    memory: Memory,
) -> Result<State, RoomError> {
    match merge_cheap(database, clock, project, memory).await {
        Ok(merged) => {
            let pending = merged.pending.iter().map(|row| row.payload.clone());
            let pending = together(pending.collect());
            Ok(State {
                rev: merged.rev,
                version: merged.version().into(),
                blobs: std::iter::once(merged.snapshot()?)
                    .chain(pending)
                    .map(Into::into)
                    .collect(),
                revs: None,
            })
        }
        Err(RoomError::StateUnavailable | RoomError::TooLarge { .. }) => {
            updates(database, project, memory).await
        }
        Err(error) => Err(error),
    }
}

/// Answers the whole document as one update, then the updates that are not in it.
async fn updates(
    database: &dyn Database,
    project: &str,
    memory: Memory,
) -> Result<State, RoomError> {
    let rows = rows::all(database, project).await?;
    if memory.exports(rows.bytes()) {
        drop(rows);
        return updates_since(database, project, &VersionVector::default()).await;
    }
    unread(rows, memory)
}

/// Answers the same as [`updates`], without Loro reading the document as a whole.
///
/// # Errors
/// If Loro cannot read the room's snapshot, or the updates cannot be joined.
pub(crate) fn unread(rows: Rows, memory: Memory) -> Result<State, RoomError> {
    let rev = rows.head;
    let unread = Unread::whole(rows, memory)?;
    let left = together(unread.left.into_iter().map(|row| row.payload).collect());
    Ok(State {
        rev,
        version: unread.version.encode().into(),
        blobs: std::iter::once(unread.update)
            .chain(left)
            .map(Into::into)
            .collect(),
        revs: None,
    })
}

/// Exports what a document of this version lacks, as one update, and then the updates that wait for others.
async fn updates_since(
    database: &dyn Database,
    project: &str,
    version: &VersionVector,
) -> Result<State, RoomError> {
    let rows = rows::all(database, project).await?;
    let rev = rows.head;
    let history = History::of(&rows)?;
    drop(rows);
    let lacking = history.since(version)?;
    own_peer::renew_if_behind(database, project, &history.version(), version).await?;
    let version = history.version().encode();
    let pending = history.into_pending();
    let pending = together(pending.into_iter().map(|row| row.payload).collect());
    Ok(State {
        rev,
        version: version.into(),
        blobs: std::iter::once(lacking)
            .chain(pending)
            .map(Into::into)
            .collect(),
        revs: None,
    })
}
