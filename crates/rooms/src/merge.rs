//! Computing the state of a room.

use loro::{ExportMode, LoroDoc, LoroError, ToJson, VersionVector};
use platform::{Clock, Database};

use crate::{
    cost::Cost,
    depth,
    error::{RoomError, first_line},
    history::{History, Refused},
    quarantine::quarantine,
    rows::{self, LogRow, Rows},
    way::Way,
};

/// A room's document with its state.
#[derive(Debug)]
pub struct Merged {
    doc: LoroDoc,
    /// The rev up to which it is complete.
    pub rev: u64,
    /// Updates that wait for others that never came. They are part of the room's state, but Loro
    /// leaves them out of every export.
    pub(crate) pending: Vec<LogRow>,
}

/// Computes the state of a room, if that is cheap. An update that Loro refuses is quarantined on the way.
///
/// This may trap, so it is called through a [`crate::supervise::Merger`], or in an instance that may be lost.
///
/// # Errors
/// [`RoomError::StateUnavailable`] if it is not cheap: a merge of its own computes the state later. Else if
/// the database fails, or the stored snapshot cannot be read.
pub async fn merge(
    database: &dyn Database,
    clock: &dyn Clock,
    project: &str,
) -> Result<Merged, RoomError> {
    merge_within(database, clock, project, Cost::CHEAP).await
}

/// As [`merge`], if the estimate is at most `most`.
pub(crate) async fn merge_within(
    database: &dyn Database,
    clock: &dyn Clock,
    project: &str,
    most: Cost,
) -> Result<Merged, RoomError> {
    let mut rows = rows::unmerged(database, project).await?;
    loop {
        // The log before each of these passes, and a second try proves that the log with it fails.
        let refused = match Merged::until(&rows, u64::MAX, most)? {
            Ok(merged) => return Ok(merged),
            Err(Fault::Updates(refused)) => refused_again(&rows, refused)?,
            Err(Fault::Together(reason)) => {
                let update = blamed(&rows, reason, most)?;
                let fails = fails(&rows, update.rev, most)?;
                fails.then_some(update).into_iter().collect()
            }
        };
        if refused.is_empty() {
            let words = "it failed once and not again";
            return Err(RoomError::Merge(words.to_owned()));
        }
        move_aside(database, clock, project, &mut rows, &refused).await?;
    }
}

/// Takes in all of a room without its state. An update that Loro refuses is quarantined on the way.
///
/// # Errors
/// If the database fails, the stored snapshot cannot be read, or Loro still refuses an update.
pub(crate) async fn take_in(
    database: &dyn Database,
    clock: &dyn Clock,
    project: &str,
) -> Result<(Rows, History), RoomError> {
    let mut rows = rows::unmerged(database, project).await?;
    let mut history = History::of(&rows)?;
    if !history.refused.is_empty() {
        let refused = refused_again(&rows, history.refused)?;
        move_aside(database, clock, project, &mut rows, &refused).await?;
        history = History::of(&rows)?;
    }
    match history.refused.first() {
        None => Ok((rows, history)),
        Some(refused) => Err(RoomError::Merge(refused.reason.clone())),
    }
}

/// Those of the updates that Loro refuses a second time.
fn refused_again(rows: &Rows, mut refused: Vec<Refused>) -> Result<Vec<Refused>, RoomError> {
    let again = History::of(rows)?.refused;
    refused.retain(|update| again.contains(update));
    Ok(refused)
}

/// Quarantines these updates, and takes them out of the rows.
async fn move_aside(
    database: &dyn Database,
    clock: &dyn Clock,
    project: &str,
    rows: &mut Rows,
    refused: &[Refused],
) -> Result<(), RoomError> {
    for update in refused {
        quarantine(database, clock, project, update.rev, &update.reason).await?;
    }
    rows.log
        .retain(|row| refused.iter().all(|update| update.rev != row.rev));
    Ok(())
}

/// Computes the state of the log up to `rev`, reads it as a reader does, and drops it: a trial whether it
/// traps.
///
/// # Errors
/// If the database fails, or the stored snapshot cannot be read.
pub(crate) async fn try_until(
    database: &dyn Database,
    project: &str,
    rev: u64,
) -> Result<(), RoomError> {
    let rows = rows::unmerged(database, project).await?;
    // An update that Loro refuses with an error does not trap, so the trial passes.
    let Ok(merged) = Merged::until(&rows, rev, Cost::LONG)? else {
        return Ok(());
    };
    let reader = LoroDoc::new();
    reader
        .import(&merged.snapshot()?)
        .map_err(RoomError::of_loro)?;
    drop(reader.get_deep_value().to_json());
    Ok(())
}

/// Why a log has no state.
enum Fault {
    /// Loro refuses each of these updates.
    Updates(Vec<Refused>),
    /// The updates together have no state; the reason in words.
    Together(String),
}

/// Finds the update at the end of the shortest log that has no state.
///
/// # Errors
/// [`RoomError::Merge`] if the snapshot alone has none, so that no update is to blame.
fn blamed(rows: &Rows, reason: String, most: Cost) -> Result<Refused, RoomError> {
    let revs: Vec<u64> = rows.log.iter().map(|row| row.rev).collect();
    if fails(rows, 0, most)? {
        return Err(RoomError::Merge(reason));
    }
    let (mut fine, mut bad) = (0, revs.len());
    while bad - fine > 1 {
        let middle = fine + (bad - fine) / 2;
        if fails(rows, revs[middle - 1], most)? {
            bad = middle;
        } else {
            fine = middle;
        }
    }
    let rev = revs.get(bad.wrapping_sub(1)).copied();
    rev.map(|rev| Refused {
        rev,
        reason: reason.clone(),
    })
    .ok_or(RoomError::Merge(reason))
}

/// Whether the log up to `rev` has no state.
fn fails(rows: &Rows, rev: u64, most: Cost) -> Result<bool, RoomError> {
    Ok(Merged::until(rows, rev, most)?.is_err())
}

impl Merged {
    /// Computes the state of the log up to `until`.
    ///
    /// # Errors
    /// The outer error if the snapshot cannot be read or the estimate exceeds `most`; the inner one if an
    /// update is at fault.
    fn until(rows: &Rows, until: u64, most: Cost) -> Result<Result<Self, Fault>, RoomError> {
        let history = History::until(rows, until)?;
        if !history.refused.is_empty() {
            return Ok(Err(Fault::Updates(history.refused)));
        }
        let (way, cost) = Way::cheapest(rows, &history)?;
        if cost > most {
            return Err(RoomError::StateUnavailable);
        }
        let update = match way {
            Way::OneByOne => None,
            Way::AsOne => Some(history.since_state()?),
            Way::Whole => Some(history.since(&VersionVector::default())?),
        };
        // The document without state goes before the one with state comes, because both may be large.
        let pending = history.into_pending();
        let doc = LoroDoc::new();
        if let Some(snapshot) = rows.snapshot.as_ref()
            && snapshot.has_state
            && way != Way::Whole
        {
            doc.import(&snapshot.blob).map_err(RoomError::of_loro)?;
        }
        let applied = match update {
            Some(update) => doc.import(&update).map(drop),
            None => rows
                .log
                .iter()
                .filter(|row| row.rev <= until)
                .try_for_each(|row| doc.import(&row.payload).map(drop)),
        }
        .map_err(|error| first_line(&error.to_string()).to_owned());
        if let Err(reason) = applied.and_then(|()| depth::check(&doc)) {
            return Ok(Err(Fault::Together(reason)));
        }
        Ok(Ok(Self {
            doc,
            rev: rows.head,
            pending,
        }))
    }

    /// The document as one Loro snapshot.
    ///
    /// # Errors
    /// If Loro cannot make it.
    pub(crate) fn snapshot(&self) -> Result<Vec<u8>, RoomError> {
        self.doc
            .export(ExportMode::Snapshot)
            .map_err(RoomError::of_loro)
    }

    /// Changes the document under this peer id, and returns the change as an update for the log;
    /// `None` if nothing was changed.
    ///
    /// No other change under the same peer id may be made to the same state: see [`crate::append_if`].
    ///
    /// # Errors
    /// If Loro refuses the change or cannot export it.
    pub fn change(
        &self,
        peer: u64,
        change: impl FnOnce(&LoroDoc) -> Result<(), LoroError>,
    ) -> Result<Option<Vec<u8>>, RoomError> {
        let before = self.doc.oplog_vv();
        self.doc.set_peer_id(peer).map_err(RoomError::of_loro)?;
        change(&self.doc).map_err(RoomError::of_loro)?;
        self.doc.commit();
        if self.doc.oplog_vv() == before {
            return Ok(None);
        }
        self.doc
            .export(ExportMode::updates(&before))
            .map(Some)
            .map_err(RoomError::of_loro)
    }

    /// The document's encoded version vector.
    pub fn version(&self) -> Vec<u8> {
        self.doc.oplog_vv().encode()
    }

    /// The document as JSON text.
    pub fn json(&self) -> String {
        self.doc.get_deep_value().to_json()
    }
}
