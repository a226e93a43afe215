//! The bytes of a snapshot before Loro compressed them.
//!
//! A state takes memory for all that it holds, and a snapshot of values that repeat themselves may have a hundredth of
//! these bytes.

use std::ops::Bound;

use bytes::Bytes;
use loro_kv_store::{MemKvStore, mem_store::MemKvConfig};

/// The name of the format, the checksum, and the kind.
const HEADER: usize = 4 + 16 + 2;

/// The largest snapshot, in bytes, that is not looked at, because uncompressed it has 2 MiB at most.
const SMALL: usize = 8 * 1024;

/// The most uncompressed bytes for each stored byte that do not count in addition. The figures of
/// [`memory`](crate::memory) are for each stored byte, and were measured with snapshots that Loro had compressed, canvases
/// to half of their bytes. So they cover a snapshot whose uncompressed bytes are up to four times its stored ones, and only
/// what compression saves beyond that counts.
const COVERED: usize = 4;

/// The bytes that compression saves in a snapshot, beyond what the figures of [`memory`](crate::memory) cover; 0 if it is
/// small, or cannot be read here.
pub(crate) fn saved(snapshot: &[u8]) -> usize {
    if snapshot.len() <= SMALL {
        return 0;
    }
    let unpacked = unpacked(snapshot).unwrap_or(0);
    unpacked.saturating_sub(COVERED * snapshot.len())
}

fn unpacked(snapshot: &[u8]) -> Option<usize> {
    let (history, rest) = part(snapshot.get(HEADER..)?)?;
    let (state, _) = part(rest)?;
    // The state of an empty document is no store.
    Some(bytes_in(history)? + bytes_in(state).unwrap_or(0))
}

/// Takes the first part, which has its length before it.
fn part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

fn bytes_in(part: &[u8]) -> Option<usize> {
    let store = store(part)?;
    let pairs = store.scan(Bound::Unbounded, Bound::Unbounded);
    Some(pairs.map(|(key, value)| key.len() + value.len()).sum())
}

/// Opens a part of a snapshot, whose values are decompressed as they are read; `None` if it is not such a store.
pub(crate) fn store(part: &[u8]) -> Option<MemKvStore> {
    let mut store = MemKvStore::new(MemKvConfig::default());
    store.import_all(Bytes::copy_from_slice(part)).ok()?;
    Some(store)
}

#[cfg(test)]
mod tests {
    use loro::{ExportMode, LoroDoc, LoroMap};

    use super::*;

    /// The snapshot of a document with a value of these letters.
    fn snapshot(letters: &str) -> Vec<u8> {
        let doc = LoroDoc::new();
        doc.get_map("map").insert("x", letters).unwrap();
        doc.commit();
        doc.export(ExportMode::Snapshot).unwrap()
    }

    #[test]
    fn what_repeats_itself_is_counted_as_it_is() {
        let whole = 4 << 20;
        let packed = snapshot(&"x".repeat(whole));
        assert!(packed.len() < whole / 50);
        // History and state have it.
        let saved = saved(&packed);
        assert!((whole..=2 * whole).contains(&saved), "{saved}");
    }

    #[test]
    fn what_is_compressed_as_usual_saves_nothing() {
        let doc = LoroDoc::new();
        let nodes = doc.get_map("nodes");
        for number in 0..5000 {
            let name = format!("{:08x}", number * 7919);
            let node = nodes.insert_container(&name, LoroMap::new()).unwrap();
            node.insert("x", number).unwrap();
            node.insert("status", "done").unwrap();
        }
        doc.commit();
        let packed = doc.export(ExportMode::Snapshot).unwrap();
        let bytes = unpacked(&packed).unwrap();
        assert!(bytes > packed.len() * 3 / 2, "{bytes} of {}", packed.len());
        assert_eq!(saved(&packed), 0);
    }

    #[test]
    fn what_is_no_snapshot_saves_nothing() {
        let packed = snapshot(&"x".repeat(4 << 20));
        for cut in [0, 10, HEADER + 2, packed.len() / 2] {
            assert_eq!(saved(&packed[..cut]), 0);
        }
        assert_eq!(saved(&[7; 10_000]), 0);
        assert_eq!(
            saved(&LoroDoc::new().export(ExportMode::Snapshot).unwrap()),
            0
        );
    }
}
