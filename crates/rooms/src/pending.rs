//! Updates that wait for others.
//!
//! Loro takes them in and leaves them out of every export. So each stays in the log, as a row of its own, until what it
//! waits for comes: then it can still be blamed alone. A reader gets all of them as one update.

use loro::{EncodedBlobMode, LoroDoc};
use xxhash_rust::xxh32::xxh32;

// A Loro update is a name, a checksum of what follows, the encoding, and then blocks of changes, each with its length.
// See loro's docs/encoding.md.
const NAME: &[u8] = b"loro";
/// The bytes of a checksum, of which the last four are in use.
const CHECKSUM: usize = 16;
const CHECKED_FROM: usize = NAME.len() + CHECKSUM;
const BLOCKS_FROM: usize = CHECKED_FROM + 2;
const SEED: u32 = u32::from_le_bytes(*b"LORO");

/// Joins updates into one, in their order. Loro does the same with it as with each of them, except that an update that
/// Loro refuses would take the others with it: so these are only updates that wait. If they cannot be joined,
/// because one has another encoding, they come back as they were.
pub(crate) fn together(updates: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    if updates.len() < 2 {
        return updates;
    }
    match joined(&updates) {
        Some(joined) => vec![joined],
        None => updates,
    }
}

fn joined(updates: &[Vec<u8>]) -> Option<Vec<u8>> {
    let encoding = updates.first()?.get(CHECKED_FROM..BLOCKS_FROM)?;
    let length = updates.iter().map(Vec::len).sum();
    let mut joined = Vec::with_capacity(length);
    joined.extend_from_slice(NAME);
    joined.extend_from_slice(&[0; CHECKSUM]);
    joined.extend_from_slice(encoding);
    for update in updates {
        if update.get(CHECKED_FROM..BLOCKS_FROM)? != encoding {
            return None;
        }
        joined.extend_from_slice(update.get(BLOCKS_FROM..)?);
    }
    let checksum = xxh32(joined.get(CHECKED_FROM..)?, SEED);
    joined
        .get_mut(CHECKED_FROM - 4..CHECKED_FROM)?
        .copy_from_slice(&checksum.to_le_bytes());
    let meta = LoroDoc::decode_import_blob_meta(&joined, true).ok()?;
    (meta.mode == EncodedBlobMode::Updates).then_some(joined)
}

#[cfg(test)]
mod tests {
    use super::*;
    use loro::{ExportMode, VersionVector};

    /// Updates of one document, one after the other, of which the first is not among them.
    fn waiting(count: usize) -> (Vec<u8>, Vec<Vec<u8>>, LoroDoc) {
        let doc = LoroDoc::new();
        let mut updates = Vec::new();
        for n in 0..=count {
            let before = doc.oplog_vv();
            doc.get_map("map").insert(&n.to_string(), n as i64).unwrap();
            doc.get_text("text").insert(n / 2, "hello").unwrap();
            doc.commit();
            updates.push(doc.export(ExportMode::updates(&before)).unwrap());
        }
        let first = updates.remove(0);
        (first, updates, doc)
    }

    #[test]
    fn what_is_joined_does_as_its_parts_do() {
        for detached in [false, true] {
            for count in [2, 3, 200] {
                let (first, updates, whole) = waiting(count);
                let blobs = together(updates);
                assert_eq!(blobs.len(), 1);
                let reader = LoroDoc::new();
                if detached {
                    reader.detach();
                }
                let status = reader.import(&blobs[0]).unwrap();
                assert!(status.pending.is_some());
                assert_eq!(reader.oplog_vv(), VersionVector::default());
                // Twice is harmless.
                reader.import(&blobs[0]).unwrap();
                reader.import(&first).unwrap();
                assert_eq!(reader.oplog_vv(), whole.oplog_vv());
                if !detached {
                    assert_eq!(reader.get_deep_value(), whole.get_deep_value());
                }
            }
        }
    }

    #[test]
    fn parts_that_overlap_or_are_repeated_do_no_harm() {
        let (first, updates, whole) = waiting(5);
        let longer = whole
            .export(ExportMode::updates(
                &LoroDoc::decode_import_blob_meta(&first, false)
                    .unwrap()
                    .partial_end_vv,
            ))
            .unwrap();
        let mut parts = updates.clone();
        parts.reverse();
        parts.extend([longer, updates[2].clone()]);
        let blobs = together(parts);
        assert_eq!(blobs.len(), 1);
        let reader = LoroDoc::new();
        reader.import(&blobs[0]).unwrap();
        reader.import(&first).unwrap();
        assert_eq!(reader.get_deep_value(), whole.get_deep_value());
    }

    #[test]
    fn what_cannot_be_joined_stays_apart() {
        let (_, updates, whole) = waiting(2);
        let snapshot = whole.export(ExportMode::Snapshot).unwrap();
        for mut parts in [vec![snapshot], vec![b"nonsense".to_vec()], vec![Vec::new()]] {
            parts.extend(updates.clone());
            assert_eq!(together(parts.clone()), parts);
            parts.rotate_left(1);
            assert_eq!(together(parts.clone()), parts);
        }
        assert_eq!(together(Vec::new()), Vec::<Vec<u8>>::new());
        assert_eq!(together(vec![b"one".to_vec()]), [b"one"]);
    }
}
