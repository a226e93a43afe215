//! Computing a state in stages.
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

    /// Applies an update. What it builds upon must have been applied, because the encoded form holds no update that waits.
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

/// Makes updates of at most about `stage` bytes of these operations of a history, each of which builds upon nothing but
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
    // The last one comes first.
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
