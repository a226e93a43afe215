//! Computes the state of a room.

use loro::{ExportMode, LoroDoc, LoroError, ToJson, VersionVector};
use platform::{Clock, Database};

use crate::{
    bisection::first_that_fails,
    cost::{Cost, Newer},
    depth, effect,
    error::{RoomError, first_line},
    history::{History, Refused},
    memory::Memory,
    operations,
    quarantine::quarantine,
    rows::{self, LogRow, Rows, SnapshotRow},
    stages::{self, Stages},
    way::Way,
};

/// The reason if Loro imports an update whose bytes are damaged, and exports fewer or more operations than it imported.
const NOT_READ_BACK: &str = "its operations cannot be read back";

/// The number that stands for the whole log in place of a rev.
const ALL: u64 = u64::MAX;

/// A room's document with its state.
#[derive(Debug)]
pub struct Merged {
    doc: LoroDoc,
    /// The rev up to which it is complete.
    pub rev: u64,
    way: Way,
    /// The operations of its history, if they count.
    pub(crate) operations: Option<u64>,
    /// The updates that wait for others that have not come. They are part of the room's state, but Loro
    /// leaves them out of every export.
    pub(crate) pending: Vec<LogRow>,
}

/// Computes the state of a room, if that is cheap and fits an instance of this memory. An update that Loro refuses is
/// quarantined on the way.
///
/// This may trap, so it is called through a [`crate::supervise::Merger`], or in an instance that may be lost.
///
/// # Errors
/// [`RoomError::StateUnavailable`] if it is not cheap: a merge of its own may compute the state later.
/// [`RoomError::TooLarge`] if it does not fit. Else if the database fails, or the stored snapshot cannot be read.
pub async fn merge(
    database: &dyn Database,
    clock: &dyn Clock,
    project: &str,
    memory: Memory,
) -> Result<Merged, RoomError> {
    let cost = Cost::CHEAP;
    merge_within(database, clock, project, Bounds { cost, memory }).await
}

/// The cost and the memory that the computation of a state may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) cost: Cost,
    pub(crate) memory: Memory,
}

/// Merges a room like [`merge`], within these bounds.
pub(crate) async fn merge_within(
    database: &dyn Database,
    clock: &dyn Clock,
    project: &str,
    bounds: Bounds,
) -> Result<Merged, RoomError> {
    let room = Room {
        database,
        project,
        bounds,
    };
    loop {
        // No update is moved aside unless it fails a second time.
        let refused = match room.until(ALL).await? {
            Ok(merged) => return Ok(merged),
            Err(Fault::Updates(refused)) => {
                let rows = rows::unmerged(database, project).await?;
                refused_again(&rows, refused)?
            }
            Err(Fault::Together(reason)) => {
                let update = room.blamed(reason).await?;
                let fails = room.fails(update.rev).await?;
                fails.then_some(update).into_iter().collect()
            }
        };
        if refused.is_empty() {
            let words = "it failed once and not again";
            return Err(RoomError::Merge(words.to_owned()));
        }
        move_aside(database, clock, project, &refused).await?;
    }
}

/// Imports all of a room without its state. An update that Loro refuses is quarantined on the way.
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
        move_aside(database, clock, project, &refused).await?;
        rows = rows::unmerged(database, project).await?;
        history = History::of(&rows)?;
    }
    match history.refused.first() {
        None => Ok((rows, history)),
        Some(refused) => Err(RoomError::Merge(refused.reason.clone())),
    }
}

/// Keeps those of the updates that Loro refuses a second time.
fn refused_again(rows: &Rows, mut refused: Vec<Refused>) -> Result<Vec<Refused>, RoomError> {
    let again = History::of(rows)?.refused;
    refused.retain(|update| again.contains(update));
    Ok(refused)
}

/// Quarantines these updates.
///
/// # Errors
/// If the database fails.
pub(crate) async fn move_aside(
    database: &dyn Database,
    clock: &dyn Clock,
    project: &str,
    refused: &[Refused],
) -> Result<(), RoomError> {
    for update in refused {
        quarantine(database, clock, project, update.rev, &update.reason).await?;
    }
    Ok(())
}

/// Computes the state of the log up to the update of this rev, in the order of the effects, reads it as a reader does,
/// and drops it, to find out whether that traps. Returns the reason, in words, if the log has no state, or none that a
/// reader can import, although it does not trap.
///
/// # Errors
/// If the database fails, or the stored snapshot cannot be read.
pub(crate) async fn try_until(
    database: &dyn Database,
    project: &str,
    rev: u64,
    memory: Memory,
) -> Result<Option<String>, RoomError> {
    let cost = Cost::LONG;
    let bounds = Bounds { cost, memory };
    let room = Room {
        database,
        project,
        bounds,
    };
    room.fails_looking(rev, |merged| {
        let reader = LoroDoc::new();
        reader
            .import(&merged.snapshot()?)
            .map_err(RoomError::of_loro)?;
        if depth::check(&reader).is_ok() {
            drop(reader.get_deep_value().to_json());
        }
        Ok(())
    })
    .await
}

/// The reason why a log has no state.
enum Fault {
    /// A fault of each of these updates: Loro refuses it.
    Updates(Vec<Refused>),
    /// A fault of the updates together: they have no state. The reason is in words.
    Together(String),
}

impl Fault {
    fn into_words(self) -> String {
        match self {
            Self::Together(words) => words,
            Self::Updates(refused) => {
                let mut words = refused.into_iter().map(|update| update.reason);
                words.next().unwrap_or_default()
            }
        }
    }
}

/// A room whose state is computed within bounds. Its rows are read anew for each try, because they are
/// dropped while the state is computed: a large document fits an instance only once.
struct Room<'a> {
    database: &'a dyn Database,
    project: &'a str,
    bounds: Bounds,
}

impl Room<'_> {
    /// Computes the state of the log up to `rev`.
    ///
    /// # Errors
    /// The outer error if the database fails, the snapshot cannot be read, or the state would exceed the bounds; the inner
    /// one if an update is at fault.
    async fn until(&self, rev: u64) -> Result<Result<Merged, Fault>, RoomError> {
        let rows = rows::unmerged(self.database, self.project).await?;
        Merged::until(rows, rev, self.bounds, None)
    }

    /// Computes the state like [`Room::until`], in one way, or in the cheapest; `None` if a way that is not the
    /// cheapest would exceed the bounds.
    async fn until_by(
        &self,
        rev: u64,
        way: Option<Way>,
    ) -> Result<Option<Result<Merged, Fault>>, RoomError> {
        let rows = rows::unmerged(self.database, self.project).await?;
        match Merged::until(rows, rev, self.bounds, way) {
            Err(RoomError::StateUnavailable | RoomError::TooLarge { .. }) if way.is_some() => {
                Ok(None)
            }
            merged => merged.map(Some),
        }
    }

    /// Returns whether the log up to `rev` has no state.
    async fn fails(&self, rev: u64) -> Result<bool, RoomError> {
        let fault = self.fails_looking(rev, |_| Ok(())).await?;
        Ok(fault.is_some())
    }

    /// Computes the state of the log up to `rev` in every way, looks at each, and returns the reason if one fails. It also
    /// fails if Loro does when the state is looked at, because a state that no reader can import is of no use. The updates
    /// that follow decide which way is the cheapest, and a damaged update may pass in one way and fail in another. Because
    /// every way is tried, this update is blamed, and none that follows.
    async fn fails_looking(
        &self,
        rev: u64,
        look: impl Fn(Merged) -> Result<(), RoomError>,
    ) -> Result<Option<String>, RoomError> {
        let mut cheapest = None;
        for way in std::iter::once(None).chain(Way::ALL.map(Some)) {
            if way.is_some() && way == cheapest {
                continue;
            }
            match self.until_by(rev, way).await? {
                Some(Ok(merged)) => {
                    cheapest = cheapest.or(Some(merged.way));
                    match look(merged) {
                        Err(RoomError::Loro(reason)) => {
                            return Ok(Some(first_line(&reason).to_owned()));
                        }
                        looked => looked?,
                    }
                }
                Some(Err(fault)) => return Ok(Some(fault.into_words())),
                None => {}
            }
        }
        Ok(None)
    }

    /// Finds the update at the end of the shortest log that has no state.
    ///
    /// # Errors
    /// [`RoomError::Merge`] if the snapshot alone has none, so that no update is to blame.
    async fn blamed(&self, reason: String) -> Result<Refused, RoomError> {
        let rows = rows::unmerged(self.database, self.project).await?;
        let revs: Vec<u64> = effect::in_order(&rows).iter().map(|row| row.rev).collect();
        drop(rows);
        if self.fails(0).await? {
            return Err(RoomError::Merge(reason));
        }
        let place = first_that_fails(&revs, |rev| self.fails(rev)).await?;
        match revs.get(place) {
            Some(rev) => Ok(Refused { rev: *rev, reason }),
            None => Err(RoomError::Merge(reason)),
        }
    }
}

/// The steps by which a state is computed.
struct Steps {
    /// The snapshot with which it begins, if it begins with one.
    base: Option<Vec<u8>>,
    /// The updates that follow, in their order.
    updates: Vec<Vec<u8>>,
}

/// Makes the steps to a state, with updates of at most about `stage` bytes if they are more together. `history` was made
/// of `rows`.
///
/// # Errors
/// [`RoomError::StateUnavailable`] if applying the parts costs more than `most`; else if Loro cannot export.
fn steps(
    mut rows: Rows,
    history: &History,
    way: Way,
    most: Cost,
    stage: usize,
) -> Result<Steps, RoomError> {
    let whole = rows.bytes();
    let begins = |row: &SnapshotRow| row.has_state && way != Way::Whole;
    let base = rows.snapshot.take_if(|row| begins(row)).map(|row| row.blob);
    let bytes = whole - base.as_ref().map_or(0, Vec::len);
    if bytes <= stage && way == Way::OneByOne {
        // What is in the snapshot's place, but has no state, is the first update.
        let first = rows.snapshot.into_iter().map(|row| row.blob);
        let log = rows.log.into_iter().map(|row| row.payload);
        let updates = first.chain(log).collect();
        return Ok(Steps { base, updates });
    }
    drop(rows);
    let nothing = VersionVector::default();
    let known = match way {
        Way::OneByOne | Way::AsOne | Way::InParts => history.base(),
        Way::Whole => &nothing,
    };
    if bytes <= stage && way != Way::InParts {
        let updates = vec![history.since(known)?];
        return Ok(Steps { base, updates });
    }
    let newer = Newer::than(known, history.doc())?;
    let pairs = newer.pairs();
    let mut count = bytes / stage + 1;
    if pairs == Cost::NONE {
        count = count.max(newer.small_parts());
    }
    if newer.in_parts(pairs, count) > most {
        return Err(RoomError::StateUnavailable);
    }
    let updates = stages::parts(history, &newer, count, stage)?;
    Ok(Steps { base, updates })
}

impl Merged {
    /// Computes the state of the log up to `until`, by this way, or else by the cheapest. Whatever is not needed any
    /// more is dropped meanwhile, because rows, history and state of a large document do not fit an instance together.
    ///
    /// # Errors
    /// The outer error if the snapshot cannot be read or the state would exceed the bounds; the inner one if an
    /// update is at fault.
    fn until(
        mut rows: Rows,
        until: u64,
        bounds: Bounds,
        way: Option<Way>,
    ) -> Result<Result<Self, Fault>, RoomError> {
        if until != ALL {
            effect::keep_until(&mut rows, until);
        }
        // Importing so much may need more memory than there is, which an instance must not risk while a caller waits.
        let is_cheap = bounds.cost <= Cost::CHEAP;
        if is_cheap && !bounds.memory.exports(rows.bytes_without_state()) {
            return Err(RoomError::StateUnavailable);
        }
        let history = History::of(&rows)?;
        if !history.refused.is_empty() {
            return Ok(Err(Fault::Updates(history.refused)));
        }
        match Self::of(rows, history, bounds, way) {
            // Loro could read the snapshot, so most likely an update is at fault. If none is, a trial of the snapshot
            // alone fails, too.
            Err(RoomError::Loro(reason)) => {
                Ok(Err(Fault::Together(first_line(&reason).to_owned())))
            }
            merged => merged,
        }
    }

    /// Computes the state of a history that was made of these rows.
    fn of(
        rows: Rows,
        history: History,
        bounds: Bounds,
        way: Option<Way>,
    ) -> Result<Result<Self, Fault>, RoomError> {
        let stored = rows.bytes();
        let saved = rows.saved();
        let operations = operations::count(&history, bounds.memory, stored + saved)?;
        let counted = operations::with_saved(operations, saved);
        let stage = bounds.memory.stage(stored, counted)?;
        let (way, cost) = match way {
            Some(way) => (way, way.cost(&rows, &history)?),
            None => Way::cheapest(&rows, &history, stage).map(|(way, cost)| (way, Some(cost)))?,
        };
        if cost.is_none_or(|cost| cost > bounds.cost) {
            return Err(RoomError::StateUnavailable);
        }
        if way == Way::OneByOne && !history.reads_back()? {
            return Ok(Err(Fault::Together(NOT_READ_BACK.to_owned())));
        }
        let head = rows.head;
        let Steps { base, updates } = steps(rows, &history, way, bounds.cost, stage)?;
        let version = history.version();
        let pending = history.into_pending();
        let mut stages = Stages::new(base, stage)?;
        let applied = updates
            .into_iter()
            .try_for_each(|update| stages.apply(update));
        let doc = stages.into_doc();
        let checked = applied
            .map_err(|error| first_line(&error.to_string()).to_owned())
            .and_then(|()| {
                if doc.oplog_vv() == version {
                    Ok(())
                } else {
                    Err(NOT_READ_BACK.to_owned())
                }
            });
        if let Err(reason) = checked {
            return Ok(Err(Fault::Together(reason)));
        }
        Ok(Ok(Self {
            doc,
            rev: head,
            way,
            operations,
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

    /// Returns whether the document shows every update of the room: none waits for others.
    pub fn is_whole(&self) -> bool {
        self.pending.is_empty()
    }

    /// The document's encoded version vector.
    pub fn version(&self) -> Vec<u8> {
        self.doc.oplog_vv().encode()
    }

    /// The document as JSON text.
    ///
    /// # Errors
    /// [`RoomError::TooDeep`] if it is nested too deeply for that, as containers may become over several updates.
    pub fn json(self) -> Result<String, RoomError> {
        depth::check(&self.doc).map_err(|_| RoomError::TooDeep)?;
        let value = self.doc.get_deep_value();
        drop(self.doc);
        Ok(value.to_json())
    }
}

#[cfg(test)]
mod tests;
