//! The updates of a room without the document's state.
//!
//! A detached Loro document imports updates in linear time, whatever they do, because it computes no state.
//! From it Loro exports the updates that another document lacks, or all updates as one.

use std::collections::HashMap;

use loro::{ExportMode, ID, ImportStatus, LoroDoc, LoroResult, VersionVector};

use crate::{
    cost::Newer,
    error::{RoomError, first_line},
    pending::parted,
    rows::{LogRow, Rows},
};

/// The bytes of memory that imported operations may take before they go back into their encoded form, which takes far less.
const UNPACKED: usize = 8 * 1024 * 1024;

/// The bytes of memory that an operation takes beside its text, while it is not in its encoded form.
const OPERATION: usize = 256;

/// The bytes of the parts in which many updates that were made one are imported.
const PART: usize = 128 * 1024;

/// The number of changes whose operations are counted before they go back into their encoded form.
const COUNTED_AT_ONCE: usize = 1000;

/// The updates of a room, all of them, in a document without state.
#[derive(Debug)]
pub(crate) struct History {
    doc: LoroDoc,
    /// The version of the room's snapshot.
    stored: VersionVector,
    /// The version whose state the room's snapshot has: the same, or nothing.
    base: VersionVector,
    counts: Counts,
    /// The updates that wait for others that have not come. They are part of the room's state, but Loro
    /// leaves them out of every export.
    pub(crate) pending: Vec<LogRow>,
    /// The updates that Loro refused with an error.
    pub(crate) refused: Vec<Refused>,
}

/// An update that Loro refuses, with the reason in words.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refused {
    pub(crate) rev: u64,
    pub(crate) reason: String,
}

impl History {
    /// Imports all of these rows. An update that Loro refuses is left out.
    ///
    /// # Errors
    /// If Loro cannot read the snapshot or the blob.
    pub(crate) fn of(rows: &Rows) -> Result<Self, RoomError> {
        let doc = LoroDoc::new();
        let has_state = rows.has_state();
        if !has_state {
            doc.detach();
        }
        let mut counts = Counts::default();
        match &rows.snapshot {
            // Loro keeps the state of a snapshot as bytes until it is needed, which is never here.
            Some(snapshot) if has_state => {
                doc.import(&snapshot.blob).map_err(RoomError::of_loro)?;
            }
            Some(snapshot) => counts.import_parted(&doc, &snapshot.blob)?,
            None => {}
        }
        let stored = doc.oplog_vv();
        let base = if has_state {
            stored.clone()
        } else {
            VersionVector::default()
        };
        doc.detach();
        if let Some(blob) = &rows.blob {
            counts.import_parted(&doc, &blob.blob)?;
        }
        let mut waiting = Vec::new();
        let mut refused = Vec::new();
        for row in &rows.log {
            match counts.import(&doc, &row.payload) {
                Ok(status) if status.pending.is_some() => waiting.push(row),
                Ok(_) => {}
                Err(error) => refused.push(Refused {
                    rev: row.rev,
                    reason: first_line(&error.to_string()).to_owned(),
                }),
            }
        }
        let reached = doc.oplog_vv();
        let pending = waiting
            .into_iter()
            .filter(|row| !is_within(&row.payload, &reached))
            .cloned()
            .collect();
        Ok(Self {
            doc,
            stored,
            base,
            counts,
            pending,
            refused,
        })
    }

    /// The document, which is detached.
    pub(crate) fn doc(&self) -> &LoroDoc {
        &self.doc
    }

    /// The version whose state the room's snapshot has; nothing, if it has none.
    pub(crate) fn base(&self) -> &VersionVector {
        &self.base
    }

    /// The version of everything that doesn't wait for other updates.
    pub(crate) fn version(&self) -> VersionVector {
        self.doc.oplog_vv()
    }

    /// Counts the operations. Letters that follow each other are one.
    ///
    /// # Errors
    /// If Loro cannot read the history.
    pub(crate) fn operations(&self) -> Result<u64, RoomError> {
        if self.base.is_empty() {
            return Ok(self.counts.operations());
        }
        let nothing = VersionVector::default();
        let changes = Newer::than(&nothing, &self.doc)?.into_ids();
        let mut operations = 0;
        // What Loro has read stays unpacked until it is put back into its encoded form.
        for some in changes.chunks(COUNTED_AT_ONCE) {
            operations += self.doc.with_oplog(|oplog| {
                let changes = some.iter().filter_map(|id| oplog.get_change_at(*id));
                changes.map(|change| change.ops().len() as u64).sum::<u64>()
            });
            self.doc.compact_change_store();
        }
        Ok(operations)
    }

    /// Exports what a document of this version lacks, as one update.
    ///
    /// # Errors
    /// If Loro cannot export.
    pub(crate) fn since(&self, version: &VersionVector) -> Result<Vec<u8>, RoomError> {
        self.doc
            .export(ExportMode::updates(version))
            .map_err(RoomError::of_loro)
    }

    /// Exports what the room's snapshot lacks, as one update.
    ///
    /// # Errors
    /// If Loro cannot export.
    pub(crate) fn since_snapshot(&self) -> Result<Vec<u8>, RoomError> {
        self.since(&self.stored)
    }

    /// Returns whether Loro exports all that the state lacks, and no more.
    ///
    /// # Errors
    /// If Loro cannot export.
    pub(crate) fn reads_back(&self) -> Result<bool, RoomError> {
        let written = LoroDoc::decode_import_blob_meta(&self.since(&self.base)?, false);
        let mut reached = self.base.clone();
        reached.extend_to_include_vv(written.map_err(RoomError::of_loro)?.partial_end_vv.iter());
        Ok(reached == self.version())
    }

    /// The updates that wait for others; the document is dropped.
    pub(crate) fn into_pending(self) -> Vec<LogRow> {
        self.pending
    }
}

/// The operations that were imported. They are counted while they are unpacked, because unpacking all of a large history
/// may take more memory than the instance has.
#[derive(Debug, Default)]
struct Counts {
    /// The operations of each change, by its first id, because later updates may continue a change.
    of_changes: HashMap<ID, usize>,
    /// The bytes of memory that the unpacked ones take, about.
    unpacked: usize,
}

impl Counts {
    /// Imports an update, and counts its operations.
    ///
    /// # Errors
    /// If Loro refuses it.
    fn import(&mut self, doc: &LoroDoc, update: &[u8]) -> LoroResult<ImportStatus> {
        if self.unpacked > UNPACKED {
            doc.compact_change_store();
            self.unpacked = 0;
        }
        let status = doc.import(update)?;
        self.unpacked += update.len();
        for (peer, (start, end)) in status.success.iter() {
            let mut counter = *start;
            while counter < *end
                && let Some(change) = doc.get_change(ID::new(*peer, counter))
            {
                let count = doc.with_oplog(|oplog| {
                    let change = oplog.get_change_at(change.id);
                    change.map_or(0, |change| change.ops().len())
                });
                let before = self.of_changes.insert(change.id, count);
                self.unpacked += OPERATION * count.saturating_sub(before.unwrap_or(0));
                counter = i32::try_from(change.len)
                    .map_or(*end, |length| {
                        change.id.counter.saturating_add(length.max(1))
                    })
                    .max(counter + 1);
            }
        }
        Ok(status)
    }

    /// Imports many updates that were made one. They are all in the room already, so no part of them should be refused.
    ///
    /// # Errors
    /// If Loro refuses a part of it.
    fn import_parted(&mut self, doc: &LoroDoc, update: &[u8]) -> Result<(), RoomError> {
        for part in parted(update, PART) {
            self.import(doc, &part).map_err(RoomError::of_loro)?;
        }
        Ok(())
    }

    fn operations(&self) -> u64 {
        self.of_changes.values().map(|count| *count as u64).sum()
    }
}

/// Returns whether every change of `update` is part of the version `reached`.
pub(crate) fn is_within(update: &[u8], reached: &VersionVector) -> bool {
    // An update that cannot be read is kept.
    LoroDoc::decode_import_blob_meta(update, false)
        .is_ok_and(|meta| reached.includes_vv(&meta.partial_end_vv))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::SnapshotRow;

    #[test]
    fn operations_are_counted_however_a_room_is_stored() {
        let doc = LoroDoc::new();
        let mut log = Vec::new();
        for key in 0..5 {
            // Loro joins what one peer writes.
            doc.set_peer_id(key).unwrap();
            let before = doc.oplog_vv();
            let map = doc.get_map("map");
            map.insert(&key.to_string(), true).unwrap();
            map.insert("x", key as i64).unwrap();
            doc.commit();
            log.push(doc.export(ExportMode::updates(&before)).unwrap());
        }
        let first = LoroDoc::new();
        first.import(&log[0]).unwrap();
        let snapshot = |mode, has_state| SnapshotRow {
            rev: 1,
            blob: first.export(mode).unwrap(),
            has_state,
            version: first.oplog_vv().encode(),
        };
        let with_state = snapshot(ExportMode::Snapshot, true);
        let without_state = snapshot(ExportMode::all_updates(), false);
        for (snapshot, is_base) in [
            (None, false),
            (Some(with_state), true),
            (Some(without_state), false),
        ] {
            let rows = (1..).zip(&log).map(|(rev, payload)| LogRow {
                rev,
                payload: payload.clone(),
            });
            let rows = Rows {
                log: rows.skip(usize::from(snapshot.is_some())).collect(),
                snapshot,
                ..Rows::default()
            };
            let mut history = History::of(&rows).unwrap();
            assert_eq!(history.operations().unwrap(), 10);
            assert_eq!(history.version(), doc.oplog_vv());
            assert_eq!(history.base().is_empty(), !is_base);
            assert!(history.reads_back().unwrap());
            // As if Loro left out what it has imported.
            history.base.insert(9, 1);
            assert!(!history.reads_back().unwrap());
            assert!(history.into_pending().is_empty());
        }
    }

    #[test]
    fn what_waits_is_known_by_the_end_of_the_log() {
        let doc = LoroDoc::new();
        let updates = [(); 4].map(|()| {
            let before = doc.oplog_vv();
            doc.get_text("text").insert(0, "x").unwrap();
            doc.commit();
            doc.export(ExportMode::updates(&before)).unwrap()
        });
        for (order, pending) in [
            (&[0, 1, 2, 3][..], &[][..]),
            (&[1, 0, 3], &[3]),
            (&[3, 2, 1, 0], &[]),
            (&[2, 0], &[1]),
        ] {
            let log = (1..).zip(order).map(|(rev, at): (u64, &usize)| LogRow {
                rev,
                payload: updates[*at].clone(),
            });
            let rows = Rows {
                log: log.collect(),
                ..Rows::default()
            };
            let history = History::of(&rows).unwrap();
            let revs: Vec<u64> = history.pending.iter().map(|row| row.rev).collect();
            assert_eq!(revs, pending, "{order:?}");
        }
    }

    /// The two documents have a peer id in common but no history, so what they wrote has no state together.
    #[test]
    fn what_has_no_state_is_read_without_it() {
        let [ours, theirs] = [(); 2].map(|()| {
            let doc = LoroDoc::new();
            doc.set_peer_id(1).unwrap();
            doc
        });
        for key in 0..5 {
            ours.get_map("map").insert(&key.to_string(), key).unwrap();
        }
        ours.commit();
        theirs.get_text("text").insert(0, "hello").unwrap();
        theirs.commit();
        let before = theirs.oplog_vv();
        theirs.get_text("text").insert(5, " world").unwrap();
        theirs.commit();
        let both = LoroDoc::new();
        both.detach();
        for (doc, known) in [(&ours, VersionVector::default()), (&theirs, before)] {
            both.import(&doc.export(ExportMode::updates(&known)).unwrap())
                .unwrap();
        }
        let blob = both.export(ExportMode::all_updates()).unwrap();
        assert!(LoroDoc::new().import(&blob).is_err());
        let snapshot = SnapshotRow {
            blob,
            ..SnapshotRow::default()
        };
        let rows = Rows {
            snapshot: Some(snapshot),
            ..Rows::default()
        };
        let history = History::of(&rows).unwrap();
        assert_eq!(history.version(), both.oplog_vv());
    }
}
