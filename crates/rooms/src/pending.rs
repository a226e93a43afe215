//! The updates that wait for others.
//!
//! Loro imports them and leaves them out of every export. So each stays in the log, as a row of its own, until the
//! operations for which it waits come, and can still be blamed alone. A reader gets all of them as one update.

use std::borrow::Cow;

use loro::{ExportMode, LoroDoc};
use xxhash_rust::xxh32::xxh32;

// A Loro update is a name, a checksum of what follows, the encoding, and then blocks of changes, each with its length.
// See loro's docs/encoding.md.
const NAME: &[u8] = b"loro";
/// The bytes of a checksum, of which the last four are in use.
const CHECKSUM: usize = 16;
const CHECKED_FROM: usize = NAME.len() + CHECKSUM;
const BLOCKS_FROM: usize = CHECKED_FROM + 2;
const SEED: u32 = u32::from_le_bytes(*b"LORO");

/// Joins updates into one, in their order. Importing it has the effect of importing each of them, except that an update
/// that Loro refuses would take the others with it: so only updates that wait are joined. If they cannot be joined,
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

/// Joins updates into one, in their order; `None` if one of them has another encoding, or if Loro cannot read the whole.
pub(crate) fn joined(updates: &[impl AsRef<[u8]>]) -> Option<Vec<u8>> {
    let joined = joined_unread(updates)?;
    LoroDoc::decode_import_blob_meta(&joined, true).ok()?;
    Some(joined)
}

/// Joins updates that were checked one by one. This takes no more memory than their bytes, because Loro doesn't read the whole.
pub(crate) fn joined_unread(updates: &[impl AsRef<[u8]>]) -> Option<Vec<u8>> {
    let encoding = encoding()?;
    let mut blocks = Vec::with_capacity(updates.len());
    for update in updates.iter().map(AsRef::as_ref) {
        if !has_encoding(update, &encoding) {
            return None;
        }
        blocks.push(update.get(BLOCKS_FROM..)?);
    }
    framed(&encoding, blocks.into_iter())
}

/// The encoding of updates, as Loro names it.
fn encoding() -> Option<Vec<u8>> {
    let nothing = LoroDoc::new().export(ExportMode::all_updates()).ok()?;
    nothing.get(CHECKED_FROM..BLOCKS_FROM).map(<[u8]>::to_vec)
}

fn has_encoding(update: &[u8], encoding: &[u8]) -> bool {
    update.starts_with(NAME) && update.get(CHECKED_FROM..BLOCKS_FROM) == Some(encoding)
}

/// Returns whether the checksum of an update is right.
fn is_whole(update: &[u8]) -> bool {
    let checksum = update.get(CHECKED_FROM - 4..CHECKED_FROM);
    let checked = update.get(CHECKED_FROM..).unwrap_or_default();
    checksum == Some(&xxh32(checked, SEED).to_le_bytes())
}

/// Makes an update of blocks.
fn framed<'a>(encoding: &[u8], blocks: impl Iterator<Item = &'a [u8]> + Clone) -> Option<Vec<u8>> {
    let length: usize = blocks.clone().map(<[u8]>::len).sum();
    let mut update = Vec::with_capacity(BLOCKS_FROM + length);
    update.extend_from_slice(NAME);
    update.extend_from_slice(&[0; CHECKSUM]);
    update.extend_from_slice(encoding);
    blocks.for_each(|blocks| update.extend_from_slice(blocks));
    let checksum = xxh32(update.get(CHECKED_FROM..)?, SEED);
    update
        .get_mut(CHECKED_FROM - 4..CHECKED_FROM)?
        .copy_from_slice(&checksum.to_le_bytes());
    Some(update)
}

/// Parts an update into updates of about `most` bytes, none smaller than one block of changes, so that Loro need not
/// unpack all of it at once. An update that cannot be parted comes back as it was.
pub(crate) fn parted(update: &[u8], most: usize) -> Vec<Cow<'_, [u8]>> {
    let parts = (update.len() > most).then(|| parts(update, most)).flatten();
    match parts {
        Some(parts) => parts.into_iter().map(Cow::Owned).collect(),
        None => vec![Cow::Borrowed(update)],
    }
}

fn parts(update: &[u8], most: usize) -> Option<Vec<Vec<u8>>> {
    // Loro itself would read the whole update to find this out.
    let encoding = encoding().filter(|encoding| has_encoding(update, encoding))?;
    if !is_whole(update) {
        return None;
    }
    let mut blocks = update.get(BLOCKS_FROM..)?;
    let mut parts = Vec::new();
    while !blocks.is_empty() {
        let mut end = 0;
        while end < blocks.len() && (end == 0 || end < most) {
            end += block_length(blocks.get(end..)?)?;
        }
        let (part, rest) = blocks.split_at_checked(end)?;
        parts.push(framed(&encoding, std::iter::once(part))?);
        blocks = rest;
    }
    Some(parts)
}

/// The bytes of the block at the beginning, with those of its length, which has seven bits in each byte.
fn block_length(blocks: &[u8]) -> Option<usize> {
    let mut length = 0_usize;
    for (at, byte) in blocks.iter().take(5).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return length.checked_add(at + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use loro::VersionVector;

    /// Makes updates of one document that follow each other. The first is returned apart, so that the others wait for
    /// it.
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
    fn parts_do_together_as_the_whole_does() {
        let (first, updates, whole) = waiting(300);
        let mut all = vec![first];
        all.extend(updates);
        // They come in the order in which a client sends them, in the reverse order, and as one update that Loro makes.
        let sent = joined(&all).unwrap();
        all.reverse();
        let turned = joined(&all).unwrap();
        let made = whole.export(ExportMode::all_updates()).unwrap();
        for (update, least) in [(sent, 301), (turned, 301), (made, 1)] {
            let mut counts = Vec::new();
            for most in [1, 100, 1000, update.len()] {
                let parts = parted(&update, most);
                assert!(parts.len() <= update.len() / most + 1, "{most}");
                counts.push(parts.len());
                let reader = LoroDoc::new();
                for part in &parts {
                    reader.import(part).unwrap();
                }
                assert_eq!(reader.oplog_vv(), whole.oplog_vv());
                assert_eq!(reader.get_deep_value(), whole.get_deep_value());
                assert_eq!(joined(&parts).unwrap(), update);
            }
            assert!(counts[0] >= least);
            assert!(least == 1 || counts[..3].is_sorted_by(|more, fewer| more > fewer));
            assert_eq!(counts[3], 1);
        }
    }

    #[test]
    fn a_block_has_its_length_before_it() {
        for (bytes, length) in [
            (&[0][..], Some(1)),
            (&[5, 9], Some(6)),
            (&[0x80, 1], Some(130)),
            (&[0xff, 0x7f], Some(16_385)),
            (&[0x80, 0x80, 0x80, 0x80, 1], Some((1 << 28) + 5)),
            (&[0x80, 0x80, 0x80, 0x80, 0x80, 1], None),
            (&[0x80], None),
            (&[], None),
        ] {
            assert_eq!(block_length(bytes), length, "{bytes:?}");
        }
    }

    #[test]
    fn what_cannot_be_parted_stays_whole() {
        let (_, updates, whole) = waiting(2);
        let snapshot = whole.export(ExportMode::Snapshot).unwrap();
        let mut cut = updates[0].clone();
        cut.pop();
        for update in [snapshot, cut, b"nonsense".to_vec(), Vec::new()] {
            assert_eq!(parted(&update, 1), [&update[..]]);
        }
        // The damage is in the name, the checksum, the encoding, or the first or the last byte of what follows.
        let update = joined(&updates).unwrap();
        for at in [
            0,
            CHECKED_FROM - 1,
            CHECKED_FROM + 1,
            BLOCKS_FROM,
            update.len() - 1,
        ] {
            let mut damaged = update.clone();
            damaged[at] ^= 1;
            assert_eq!(parted(&damaged, 1), [&damaged[..]], "{at}");
            // Only updates that were checked are joined unread.
            let is_named = ![0, CHECKED_FROM + 1].contains(&at);
            assert_eq!(joined_unread(&[damaged]).is_some(), is_named, "{at}");
        }
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
