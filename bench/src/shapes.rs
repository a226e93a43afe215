//! The shapes of logs that are hard to merge, each in one way.

use anyhow::Result;
use loro::{ExportMode, LoroDoc, VersionVector};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A way in which a log is written. The size of its text is given to [`Shape::updates`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A single writer appends pieces of this many bytes to the end of a text.
    Appended { piece: usize },
    /// Ten writers insert 1 KiB at random places, and see each other's updates only after each round.
    TenWriters,
    /// Two writers append 10 KiB at a time, and never see each other's updates.
    NeverMeet,
    /// Two writers paste half of the text each, at the same time.
    TwoPastes,
}

impl Shape {
    /// The list of all shapes.
    pub(crate) const ALL: [Self; 6] = [
        Self::Appended { piece: 1 << 10 },
        Self::Appended { piece: 10 << 10 },
        Self::Appended { piece: 16 << 10 },
        Self::TenWriters,
        Self::NeverMeet,
        Self::TwoPastes,
    ];

    /// A few words for the table.
    pub(crate) fn words(self) -> String {
        match self {
            Self::Appended { piece } => format!("one appends {} KiB", piece >> 10),
            Self::TenWriters => "ten writers, 1 KiB anywhere".to_owned(),
            Self::NeverMeet => "two who never meet, 10 KiB".to_owned(),
            Self::TwoPastes => "two pastes".to_owned(),
        }
    }

    /// Makes the updates of this shape, in the order of a log, after the document `base`.
    ///
    /// # Errors
    /// If Loro cannot make an edit.
    pub(crate) fn updates(self, base: &LoroDoc, bytes: usize) -> Result<Vec<Vec<u8>>> {
        let writer = |peer: u64| -> Result<LoroDoc> {
            let doc = base.fork();
            doc.set_peer_id(peer)?;
            Ok(doc)
        };
        match self {
            Self::Appended { piece } => {
                let doc = writer(101)?;
                (0..bytes / piece).map(|_| append(&doc, piece)).collect()
            }
            Self::TenWriters => ten_writers(&writer, bytes),
            Self::NeverMeet => {
                let (one, two) = (writer(101)?, writer(102)?);
                let mut updates = Vec::new();
                for _ in 0..bytes / (20 << 10) {
                    updates.push(append(&one, 10 << 10)?);
                    updates.push(append(&two, 10 << 10)?);
                }
                Ok(updates)
            }
            Self::TwoPastes => [101, 102]
                .into_iter()
                .map(|peer| append(&writer(peer)?, bytes / 2))
                .collect(),
        }
    }
}

/// Makes updates in rounds: in each, every writer inserts once, and then sees what the others inserted.
fn ten_writers(writer: &dyn Fn(u64) -> Result<LoroDoc>, bytes: usize) -> Result<Vec<Vec<u8>>> {
    let mut random = StdRng::seed_from_u64(7);
    let writers: Vec<LoroDoc> = (101..111).map(writer).collect::<Result<_>>()?;
    let mut updates = Vec::new();
    for _ in 0..bytes / (10 << 10) {
        for doc in &writers {
            let from = doc.oplog_vv();
            let text = doc.get_text("text");
            let at = random.random_range(0..=text.len_unicode());
            text.insert(at, &"x".repeat(1 << 10))?;
            doc.commit();
            updates.push(doc.export(ExportMode::updates(&from))?);
        }
        let seen = &updates[updates.len() - writers.len()..];
        for (number, doc) in writers.iter().enumerate() {
            for (other, update) in seen.iter().enumerate() {
                if other != number {
                    doc.import(update)?;
                }
            }
        }
    }
    Ok(updates)
}

fn append(doc: &LoroDoc, length: usize) -> Result<Vec<u8>> {
    let before = doc.oplog_vv();
    let text = doc.get_text("text");
    text.insert(text.len_unicode(), &"x".repeat(length))?;
    doc.commit();
    Ok(doc.export(ExportMode::updates(&before))?)
}

/// The version of a room after these updates, without computing its state.
///
/// # Errors
/// If Loro cannot import them.
pub(crate) fn version(snapshot: &[u8], updates: &[Vec<u8>]) -> Result<VersionVector> {
    Ok(detached(snapshot, updates)?.oplog_vv())
}

/// The history of a snapshot and these updates, in a document without its state.
///
/// # Errors
/// If Loro cannot import them.
pub(crate) fn detached(snapshot: &[u8], updates: &[Vec<u8>]) -> Result<LoroDoc> {
    let doc = LoroDoc::new();
    doc.import(snapshot)?;
    doc.detach();
    for update in updates {
        doc.import(update)?;
    }
    Ok(doc)
}
