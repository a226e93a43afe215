//! Puts a log together as it was sent, without Loro reading it as a whole.
//!
//! Updates that Loro has read take many times the memory of their stored form, and a large log may take more than an
//! instance has. If they are put together as they were sent, the same updates take a few times their size, however many
//! operations they hold. So a log can be compacted whatever it holds. The result is larger than what Loro makes of the
//! same updates.

use loro::{EncodedBlobMode, ExportMode, IdSpan, LoroDoc, VersionVector};

use crate::{
    cost::parted_spans,
    error::RoomError,
    history::Refused,
    memory::Memory,
    pending::joined_unread,
    rows::{LogRow, Rows},
    update::Outline,
};

/// The bytes of a snapshot's history that are exported at once.
const WRITTEN_AT_ONCE: usize = 128 * 1024;

/// A room's updates as one that was joined without Loro reading it.
#[derive(Debug)]
pub(crate) struct Unread {
    /// The updates as one Loro update.
    pub(crate) update: Vec<u8>,
    /// The version of the updates in it, of what is beneath, and of the updates that only their encoding keeps out.
    pub(crate) version: VersionVector,
    /// The updates that are not in it: they wait for others, or have another encoding and are too large to be
    /// converted.
    pub(crate) left: Vec<LogRow>,
    /// The updates that Loro refuses. They are not in it.
    pub(crate) refused: Vec<Refused>,
}

impl Unread {
    /// Joins blob and log.
    ///
    /// # Errors
    /// If Loro cannot read the version of these rows, or they cannot be joined.
    pub(crate) fn since_snapshot(rows: Rows, memory: Memory) -> Result<Self, RoomError> {
        Self::of(rows, Vec::new(), memory)
    }

    /// Puts the whole room together. The history of a snapshot is exported in parts; it fits the memory, because such
    /// an instance has made that snapshot.
    ///
    /// # Errors
    /// If Loro cannot read the snapshot or the version of these rows, or they cannot be joined.
    pub(crate) fn whole(mut rows: Rows, memory: Memory) -> Result<Self, RoomError> {
        let snapshot = rows.snapshot.as_mut();
        let beneath = match snapshot.map(|row| (row.has_state, std::mem::take(&mut row.blob))) {
            Some((true, snapshot)) => written_out(&snapshot)?,
            Some((false, update)) => vec![update],
            None => Vec::new(),
        };
        Self::of(rows, beneath, memory)
    }

    fn of(rows: Rows, mut parts: Vec<Vec<u8>>, memory: Memory) -> Result<Self, RoomError> {
        let version = VersionVector::decode(&rows.version());
        let mut version = version.map_err(RoomError::of_loro)?;
        parts.extend(rows.blob.map(|row| row.blob));
        let (mut left, mut refused) = (Vec::new(), Vec::new());
        let stored = parts.iter().map(Vec::len).sum::<usize>();
        let stored = stored + rows.log.iter().map(|row| row.payload.len()).sum::<usize>();
        let mut waiting = Vec::with_capacity(rows.log.len());
        for row in rows.log {
            match Outline::checked(&row.payload) {
                Ok(outline) => waiting.push((row, outline)),
                Err(reason) => {
                    let rev = row.rev;
                    refused.push(Refused { rev, reason });
                }
            }
        }
        // An update may come before the updates on which it builds.
        loop {
            let mut still = Vec::with_capacity(waiting.len());
            let before = waiting.len();
            for (row, outline) in waiting {
                if !outline.fits(&version) {
                    still.push((row, outline));
                    continue;
                }
                let ends = outline.spans.iter().map(|span| (&span.peer, &span.end));
                version.extend_to_include_vv(ends);
                match as_updates(&row.payload, stored, memory) {
                    Ok(Some(updates)) => parts.extend(updates),
                    Ok(None) => parts.push(row.payload),
                    Err(_) => left.push(row),
                }
            }
            waiting = still;
            if waiting.is_empty() || waiting.len() == before {
                break;
            }
        }
        left.extend(waiting.into_iter().map(|(row, _)| row));
        left.sort_by_key(|row| row.rev);
        let update = joined_unread(&parts).ok_or_else(|| {
            RoomError::Merge("the updates have encodings that cannot be joined".to_owned())
        })?;
        Ok(Self {
            update,
            version,
            left,
            refused,
        })
    }
}

/// Converts an update that came as a snapshot into updates that can be joined; `None` if the update can be joined as it
/// is. `stored` bytes lie beside it.
///
/// # Errors
/// If it is too large to be read in this memory, or Loro cannot read it.
fn as_updates(
    payload: &[u8],
    stored: usize,
    memory: Memory,
) -> Result<Option<Vec<Vec<u8>>>, RoomError> {
    let meta = LoroDoc::decode_import_blob_meta(payload, false).map_err(RoomError::of_loro)?;
    if meta.mode == EncodedBlobMode::Updates {
        return Ok(None);
    }
    if memory.exports(payload.len()) {
        let doc = LoroDoc::new();
        doc.detach();
        doc.import(payload).map_err(RoomError::of_loro)?;
        let update = doc.export(ExportMode::all_updates());
        let update = update.map_err(RoomError::of_loro)?;
        return Ok(Some(vec![update]));
    }
    if memory.writes_out(payload.len(), stored) {
        return written_out(payload).map(Some);
    }
    Err(RoomError::StateUnavailable)
}

/// Writes out the history of a snapshot as updates, each of a part of it. In between, Loro puts what it unpacked back
/// into the stored form.
///
/// # Errors
/// If Loro cannot read it.
fn written_out(snapshot: &[u8]) -> Result<Vec<Vec<u8>>, RoomError> {
    let doc = LoroDoc::new();
    doc.import(snapshot).map_err(RoomError::of_loro)?;
    doc.detach();
    let version = doc.oplog_vv();
    let spans = version.iter();
    let spans = spans.map(|(peer, end)| IdSpan::new(*peer, 0, *end));
    let spans: Vec<IdSpan> = spans.collect();
    let mut written = Vec::new();
    for spans in parted_spans(&spans, snapshot.len() / WRITTEN_AT_ONCE + 1) {
        let update = doc.export(ExportMode::updates_in_range(spans));
        written.push(update.map_err(RoomError::of_loro)?);
        doc.compact_change_store();
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    /// The operations of [`document`].
    const OPERATIONS: usize = 63;

    /// A document of some 600 KiB that no compression makes smaller, by three peers. Its snapshot holds it twice.
    fn document() -> LoroDoc {
        let doc = LoroDoc::new();
        let mut random = StdRng::seed_from_u64(7);
        for peer in 1..=3 {
            doc.set_peer_id(peer).unwrap();
            for key in 0..OPERATIONS / 3 {
                let mut bytes = vec![0_u8; 10 * 1024];
                random.fill(&mut bytes[..]);
                let key = format!("{peer} {key}");
                doc.get_map("map").insert(&key, bytes).unwrap();
            }
            doc.commit();
        }
        doc
    }

    /// The number of parts, with the same number of operations each, in which this snapshot is written out.
    fn parts(snapshot: &[u8]) -> usize {
        let most = OPERATIONS / (snapshot.len() / WRITTEN_AT_ONCE + 1) + 1;
        OPERATIONS.div_ceil(most)
    }

    fn read(updates: &[Vec<u8>]) -> LoroDoc {
        let doc = LoroDoc::new();
        for update in updates {
            doc.import(update).unwrap();
        }
        doc
    }

    #[test]
    fn the_history_of_a_snapshot_is_written_out_in_parts_of_a_bounded_size() {
        let doc = document();
        let snapshot = doc.export(ExportMode::Snapshot).unwrap();
        let written = written_out(&snapshot).unwrap();
        assert_eq!(written.len(), parts(&snapshot));
        for update in &written {
            assert!(update.len() < WRITTEN_AT_ONCE, "{}", update.len());
        }
        let read = read(&written);
        assert_eq!(read.get_deep_value(), doc.get_deep_value());
        assert_eq!(read.oplog_vv(), doc.oplog_vv());
    }

    #[test]
    fn a_snapshot_among_updates_is_read_if_it_fits_the_memory() {
        let doc = document();
        let update = doc.export(ExportMode::all_updates()).unwrap();
        let snapshot = doc.export(ExportMode::Snapshot).unwrap();
        for (payload, mib, beside, expected) in [
            (&update, 7, 0, Ok(None)),
            // The snapshot is read at once, in parts, or not at all.
            (&snapshot, 96, 0, Ok(Some(1))),
            (&snapshot, 16, 0, Ok(Some(parts(&snapshot)))),
            (&snapshot, 16, 16 << 20, Err(())),
            (&snapshot, 7, 0, Err(())),
        ] {
            let updates = as_updates(payload, beside, Memory::of_mib(mib));
            let updates = updates.map_err(drop);
            if let Ok(Some(updates)) = &updates {
                assert_eq!(read(updates).get_deep_value(), doc.get_deep_value());
            }
            let count = updates.map(|updates| updates.map(|updates| updates.len()));
            assert_eq!(count, expected, "{mib} MiB");
        }
    }

    #[test]
    fn what_waits_is_left_and_what_loro_refuses_is_told() {
        let doc = LoroDoc::new();
        let updates = [(); 5].map(|()| {
            let before = doc.oplog_vv();
            doc.get_text("text").insert(0, "x").unwrap();
            doc.commit();
            doc.export(ExportMode::updates(&before)).unwrap()
        });
        // The fourth never comes.
        let [first, second, third, _, fifth] = updates;
        let mut damaged = first.clone();
        damaged.pop();
        let log = [third, fifth.clone(), second, damaged, first];
        let log = (1..).zip(log).map(|(rev, payload)| LogRow { rev, payload });
        let rows = Rows {
            log: log.collect(),
            head: 5,
            ..Rows::default()
        };
        let unread = Unread::since_snapshot(rows, Memory::default()).unwrap();
        assert_eq!(read(&[unread.update]).oplog_vv(), unread.version);
        assert_eq!(unread.version.values().sum::<i32>(), 3);
        assert_eq!(
            unread.left,
            [LogRow {
                rev: 2,
                payload: fifth
            }]
        );
        let refused: Vec<u64> = unread.refused.iter().map(|update| update.rev).collect();
        assert_eq!(refused, [4]);
    }
}
