//! Computes a state in stages.
//!
//! A container whose state was changed takes many times the memory of its encoded form: a small map some 50 times. So
//! the document goes back into its encoded form after each stage, which is a number of bytes of updates, and what a
//! later stage doesn't touch stays in that form.

use loro::{ExportMode, IdSpan, LoroDoc};

use crate::{cost::Newer, error::RoomError, history::History};

/// A document to which updates are applied.
#[derive(Debug)]
pub(crate) struct Stages {
    doc: LoroDoc,
    /// The bytes of the updates since the document was last in its encoded form.
    applied: usize,
    /// The most that these may be.
    stage: usize,
}

impl Stages {
    /// Begins with this snapshot, and applies up to `stage` bytes at a time.
    ///
    /// # Errors
    /// If Loro cannot read the snapshot.
    pub(crate) fn new(base: Option<Vec<u8>>, stage: usize) -> Result<Self, RoomError> {
        let doc = LoroDoc::new();
        if let Some(snapshot) = base {
            doc.import(&snapshot).map_err(RoomError::of_loro)?;
        }
        Ok(Self {
            doc,
            applied: 0,
            stage,
        })
    }

    /// Applies an update. The updates on which it builds must be applied before, because the encoded form does not keep
    /// an update that waits.
    ///
    /// # Errors
    /// If Loro refuses it.
    pub(crate) fn apply(&mut self, update: Vec<u8>) -> Result<(), RoomError> {
        if self.applied > 0 && self.applied + update.len() > self.stage {
            self.encode()?;
        }
        self.doc.import(&update).map_err(RoomError::of_loro)?;
        self.applied += update.len();
        Ok(())
    }

    fn encode(&mut self) -> Result<(), RoomError> {
        let doc = std::mem::take(&mut self.doc);
        let snapshot = doc.export(ExportMode::Snapshot);
        let snapshot = snapshot.map_err(RoomError::of_loro)?;
        drop(doc);
        self.doc.import(&snapshot).map_err(RoomError::of_loro)?;
        self.applied = 0;
        Ok(())
    }

    /// The document.
    pub(crate) fn into_doc(self) -> LoroDoc {
        self.doc
    }
}

/// Puts these operations of a history into updates of at most about `stage` bytes. Each update builds on nothing but
/// those before it.
///
/// # Errors
/// If Loro cannot export.
pub(crate) fn parts(
    history: &History,
    newer: &Newer<'_>,
    count: usize,
    stage: usize,
) -> Result<Vec<Vec<u8>>, RoomError> {
    let mut parts = Vec::new();
    // The parts are taken from the end, so the last one is put first.
    let mut open: Vec<Vec<IdSpan>> = newer.parts(count);
    open.reverse();
    while let Some(mut spans) = open.pop() {
        let update = history
            .doc()
            .export(ExportMode::updates_in_range(&spans[..]));
        let update = update.map_err(RoomError::of_loro)?;
        history.doc().compact_change_store();
        if update.len() > stage && spans.len() > 1 {
            let later = spans.split_off(spans.len() / 2);
            open.extend([later, spans]);
        } else {
            parts.push(update);
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{LogRow, Rows};
    use loro::VersionVector;

    /// A document of four peers, and an update of each.
    fn written() -> (LoroDoc, Vec<Vec<u8>>) {
        let doc = LoroDoc::new();
        let updates = (1..=4).map(|peer| {
            doc.set_peer_id(peer).unwrap();
            let before = doc.oplog_vv();
            let text = "x".repeat(100);
            doc.get_map("map").insert(&peer.to_string(), text).unwrap();
            doc.commit();
            doc.export(ExportMode::updates(&before)).unwrap()
        });
        let updates = updates.collect();
        (doc, updates)
    }

    #[test]
    fn a_document_is_encoded_before_more_is_applied_than_a_stage_has() {
        let (doc, updates) = written();
        let length = |n: usize| updates[n].len();
        let one_by_one = [length(0), length(1), length(2), length(3)];
        let (first, last) = (length(0) + length(1), length(2) + length(3));
        assert!(first <= last, "later ones name what they build on");
        let all = [length(0), first, first + length(2), first + last];
        for (stage, applied) in [
            (1, one_by_one),
            (last, [length(0), first, length(2), last]),
            (usize::MAX, all),
        ] {
            let mut stages = Stages::new(None, stage).unwrap();
            for (update, applied) in updates.iter().zip(applied) {
                stages.apply(update.clone()).unwrap();
                assert_eq!(stages.applied, applied, "{stage}");
            }
            assert_eq!(stages.into_doc().get_deep_value(), doc.get_deep_value());
        }
    }

    #[test]
    fn parts_are_halved_until_they_fit_a_stage_or_are_of_one_peer() {
        let (doc, updates) = written();
        let rows = (1..)
            .zip(updates)
            .map(|(rev, payload)| LogRow { rev, payload });
        let rows = Rows {
            log: rows.collect(),
            ..Rows::default()
        };
        let history = History::of(&rows).unwrap();
        let nothing = VersionVector::default();
        let newer = Newer::than(&nothing, history.doc()).unwrap();
        let whole = history.since(&nothing).unwrap().len();
        for (stage, count) in [(whole, 1), (whole - 1, 2), (1, 4)] {
            let parts = parts(&history, &newer, 1, stage).unwrap();
            assert_eq!(parts.len(), count, "{stage} of {whole}");
            let read = LoroDoc::new();
            for part in &parts {
                let status = read.import(part).unwrap();
                assert!(status.pending.is_none(), "{stage}");
            }
            assert_eq!(read.get_deep_value(), doc.get_deep_value());
        }
    }
}
