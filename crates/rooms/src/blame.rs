//! Finds the update that is to blame for a panic.

use platform::Database;
use wire::Job;

use crate::{
    bisection::first_that_fails,
    effect,
    error::RoomError,
    rows,
    supervise::{MergeError, Merger},
};

/// Finds the update without which the log passes and with which it fails, twice, and the reason in words. If no update
/// is proved to be the one, none is blamed, because quarantine takes away a user's work. An update that Loro refuses
/// with an error is to blame, too, because it may be the reason why Loro panics on later ones.
///
/// # Errors
/// If the database or a trial fails.
pub(crate) async fn culprit(
    database: &dyn Database,
    merger: &dyn Merger,
    project: &str,
) -> Result<Option<(u64, String)>, RoomError> {
    let rows = rows::unmerged(database, project).await?;
    let revs: Vec<u64> = effect::in_order(&rows).iter().map(|row| row.rev).collect();
    drop(rows);
    let Some(last) = revs.last() else {
        return Ok(None);
    };
    let fails = async |rev| Ok::<_, RoomError>(fails_until(merger, project, rev).await?.is_some());
    if fails(0).await? || !fails(*last).await? {
        return Ok(None);
    }
    let place = first_that_fails(&revs, fails).await?;
    let rev = revs[place];
    let before = if place == 0 { 0 } else { revs[place - 1] };
    let Some(words) = fails_until(merger, project, rev).await? else {
        return Ok(None);
    };
    let passes_without = fails_until(merger, project, before).await?.is_none();
    Ok(passes_without.then_some((rev, words)))
}

/// The reason in words if the log up to the update of this rev panics or is refused, in the order of its effects.
async fn fails_until(
    merger: &dyn Merger,
    project: &str,
    rev: u64,
) -> Result<Option<String>, RoomError> {
    match merger.run(project, &Job::Until { rev }).await {
        Ok(answer) => {
            let answer = answer.decoded();
            let answer = answer.map_err(|error| RoomError::Merge(error.to_string()))?;
            let words = answer.blobs.first();
            Ok(words.map(|words| String::from_utf8_lossy(words).into_owned()))
        }
        Err(MergeError::Panicked(words)) => Ok(Some(words)),
        Err(MergeError::Failed(error)) => Err(error),
        Err(MergeError::Busy) => Err(RoomError::Busy),
        Err(MergeError::Died(reason) | MergeError::NoPlace(reason)) => {
            Err(RoomError::Merge(reason))
        }
    }
}
