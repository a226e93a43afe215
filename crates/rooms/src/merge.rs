//! Applying a room's log to its snapshot.

use loro::{ExportMode, LoroDoc, LoroError, ToJson, VersionVector};
use platform::{Clock, Database};

use crate::{
    error::{RoomError, first_line},
    quarantine::quarantine,
    rows::{self, LogRow, Rows},
};

/// A room's document with its log applied.
#[derive(Debug)]
pub struct Merged {
    doc: LoroDoc,
    /// The rev up to which it is complete.
    pub rev: u64,
    /// Updates that wait for others that never came. They are part of the room's state, but Loro
    /// leaves them out of every export.
    pub(crate) pending: Vec<LogRow>,
}

/// Applies the whole log of a room. An update that Loro refuses is quarantined on the way.
///
/// This may trap, so it is called through a [`crate::supervise::Merger`], or in an instance that may be lost.
///
/// # Errors
/// If the database fails, or the stored snapshot cannot be read.
pub async fn merge(
    database: &dyn Database,
    clock: &dyn Clock,
    project: &str,
) -> Result<Merged, RoomError> {
    let mut rows = rows::all(database, project).await?;
    loop {
        match apply(&rows)? {
            Applied::All(merged) => return Ok(merged),
            Applied::Refused { rev, reason } => {
                quarantine(database, clock, project, rev, &reason).await?;
                rows.log.retain(|row| row.rev != rev);
            }
        }
    }
}

/// Applies the log of a room up to `rev` and drops the result: a trial whether it traps.
///
/// # Errors
/// If the database fails, or the stored snapshot cannot be read.
pub(crate) async fn merge_until(
    database: &dyn Database,
    project: &str,
    rev: u64,
) -> Result<(), RoomError> {
    let mut rows = rows::all(database, project).await?;
    rows.log.retain(|row| row.rev <= rev);
    // An update that Loro refuses with an error does not trap, so the trial passes.
    apply(&rows)?;
    Ok(())
}

enum Applied {
    All(Merged),
    Refused { rev: u64, reason: String },
}

fn apply(rows: &Rows) -> Result<Applied, RoomError> {
    let open = || -> Result<LoroDoc, RoomError> {
        let doc = LoroDoc::new();
        if let Some(snapshot) = &rows.snapshot {
            doc.import(&snapshot.blob).map_err(RoomError::of_loro)?;
        }
        Ok(doc)
    };
    let mut doc = open()?;
    // Importing all together is many times quicker; one by one tells which update is refused.
    if import_together(&doc, &rows.log).is_err() {
        doc = open()?;
        for row in &rows.log {
            if let Err(error) = doc.import(&row.payload) {
                return Ok(Applied::Refused {
                    rev: row.rev,
                    reason: first_line(&error.to_string()).to_owned(),
                });
            }
        }
    }
    let reached = doc.oplog_vv();
    let pending = rows
        .log
        .iter()
        .filter(|row| !is_within(&row.payload, &reached))
        .cloned()
        .collect();
    Ok(Applied::All(Merged {
        doc,
        rev: rows.head,
        pending,
    }))
}

/// The size from which an update is imported by itself, in bytes.
const LARGE: usize = 64 * 1024;

/// Imports a log, a run of small updates at a time, because a large insertion costs the square of its
/// size in one batch with others: 3 s for a text of 700 KB.
fn import_together(doc: &LoroDoc, log: &[LogRow]) -> Result<(), LoroError> {
    let is_small = |row: &LogRow| row.payload.len() < LARGE;
    for run in log.chunk_by(|one, next| is_small(one) && is_small(next)) {
        match run {
            [row] => doc.import(&row.payload)?,
            run => {
                let blobs: Vec<Vec<u8>> = run.iter().map(|row| row.payload.clone()).collect();
                doc.import_batch(&blobs)?
            }
        };
    }
    Ok(())
}

/// Whether every change of `update` is part of the version `reached`.
fn is_within(update: &[u8], reached: &VersionVector) -> bool {
    // An update that cannot be read is kept.
    LoroDoc::decode_import_blob_meta(update, false)
        .is_ok_and(|meta| reached.includes_vv(&meta.partial_end_vv))
}

impl Merged {
    /// The document as one Loro snapshot.
    ///
    /// # Errors
    /// If Loro cannot make it.
    pub(crate) fn snapshot(&self) -> Result<Vec<u8>, RoomError> {
        self.doc
            .export(ExportMode::Snapshot)
            .map_err(RoomError::of_loro)
    }

    /// The updates that a client lacks if it has `version`, an encoded version vector.
    ///
    /// # Errors
    /// If `version` is not a version vector, or Loro cannot export.
    pub(crate) fn updates_since(&self, version: &[u8]) -> Result<Vec<u8>, RoomError> {
        let version = VersionVector::decode(version).map_err(|_| RoomError::BadVersion)?;
        self.doc
            .export(ExportMode::updates(&version))
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

    /// Updates that wait for others that never came.
    pub(crate) fn pending(&self) -> impl Iterator<Item = &[u8]> {
        self.pending.iter().map(|row| row.payload.as_slice())
    }

    /// The document as JSON text.
    pub fn json(&self) -> String {
        self.doc.get_deep_value().to_json()
    }
}
