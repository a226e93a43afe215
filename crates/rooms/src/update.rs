//! Checks that a payload is a Loro update.

use loro::{
    Counter, EncodedBlobMode, ID, ImportBlobMetadata, LoroDoc, LoroError, PeerID, VersionVector,
};

use crate::{depth, encoded, error::first_line};

/// The operations of one peer in an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) peer: PeerID,
    /// The counter of the first one.
    pub(crate) start: Counter,
    /// The counter after the last one.
    pub(crate) end: Counter,
}

/// The operations that an update has, and those on which it builds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outline {
    /// The spans, one for each of its peers.
    pub(crate) spans: Vec<Span>,
    /// The operations of others on which it builds directly. The operations before its spans come in addition.
    pub(crate) deps: Vec<ID>,
}

impl Outline {
    /// Reads the outline of an update that was checked before; `None` if it cannot be read.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let meta = LoroDoc::decode_import_blob_meta(payload, false).ok()?;
        Some(Self::of(&meta))
    }

    /// Reads the outline of an update, and with it checks its checksum and decodes every change.
    ///
    /// # Errors
    /// If Loro refuses it; in words.
    pub(crate) fn checked(payload: &[u8]) -> Result<Self, String> {
        let meta = LoroDoc::decode_import_blob_meta(payload, true);
        let meta = meta.map_err(|error| first_line(&error.to_string()).to_owned())?;
        Ok(Self::of(&meta))
    }

    fn of(meta: &ImportBlobMetadata) -> Self {
        let spans = meta.partial_end_vv.iter().map(|(peer, end)| Span {
            peer: *peer,
            start: meta.partial_start_vv.get(peer).copied().unwrap_or(0),
            end: *end,
        });
        Self {
            spans: spans.collect(),
            deps: meta.start_frontiers.iter().collect(),
        }
    }

    /// Returns the operations up to which each peer must have written before the update can be applied.
    pub(crate) fn needs(&self) -> impl Iterator<Item = (PeerID, Counter)> {
        let starts = self.spans.iter().map(|span| (span.peer, span.start));
        let deps = self.deps.iter().map(|dep| (dep.peer, dep.counter + 1));
        starts.chain(deps).filter(|(_, counter)| *counter > 0)
    }

    /// Returns whether both have an operation of the same id.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let overlap = |one: &Span| {
            let others = other.spans.iter().filter(|two| two.peer == one.peer);
            let mut others = others.map(|two| one.start.max(two.start) < one.end.min(two.end));
            others.any(|overlaps| overlaps)
        };
        self.spans.iter().any(overlap)
    }

    /// Returns whether a document of this version has all that the update builds on.
    pub(crate) fn fits(&self, version: &VersionVector) -> bool {
        self.needs()
            .all(|(peer, counter)| version.get(&peer).is_some_and(|end| *end >= counter))
    }
}

/// Decodes an update in full: its checksum, then every change in it. It is not an error if updates on which it
/// builds are missing; then only a merge finds out whether its containers are nested too deeply.
///
/// # Errors
/// The reason for the refusal, in words for the sender.
pub(crate) fn check(payload: &[u8]) -> Result<Outline, String> {
    if payload.is_empty() {
        return Err("an empty frame is not a Loro update".into());
    }
    encoded::check(payload)?;
    let meta = LoroDoc::decode_import_blob_meta(payload, true).map_err(refusal)?;
    // A shallow snapshot has no history, so an older edit that a client made offline could not be merged
    // into it later.
    if meta.mode == EncodedBlobMode::ShallowSnapshot {
        return Err("a shallow snapshot cannot be merged; send updates or a full snapshot".into());
    }
    let doc = LoroDoc::new();
    doc.import(payload).map_err(refusal)?;
    depth::check(&doc)?;
    Ok(Outline::of(&meta))
}

fn refusal(error: LoroError) -> String {
    format!("not a Loro update: {}", first_line(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use loro::{ExportMode, LoroValue};

    fn document() -> LoroDoc {
        let doc = LoroDoc::new();
        for i in 0..50 {
            doc.get_text("text").insert(0, "hello ").unwrap();
            doc.get_map("map").insert(&i.to_string(), i).unwrap();
            doc.commit();
        }
        doc
    }

    /// An update with these operations of peer 1, on operations of peer 2.
    fn outline(start: Counter, end: Counter, deps: &[Counter]) -> Outline {
        let deps = deps.iter().map(|counter| ID::new(2, *counter));
        let span = Span {
            peer: 1,
            start,
            end,
        };
        Outline {
            spans: vec![span],
            deps: deps.collect(),
        }
    }

    #[test]
    fn two_updates_overlap_if_they_have_an_operation_of_the_same_id() {
        let update = outline(5, 8, &[]);
        for (start, end, overlaps) in [
            (0, 5, false),
            (0, 6, true),
            (6, 7, true),
            (5, 8, true),
            (7, 9, true),
            (8, 9, false),
        ] {
            let other = outline(start, end, &[]);
            assert_eq!(update.overlaps(&other), overlaps, "{start} to {end}");
            assert_eq!(other.overlaps(&update), overlaps, "{start} to {end}");
        }
        let mut another = outline(5, 8, &[]);
        another.spans[0].peer = 2;
        assert!(!update.overlaps(&another));
    }

    #[test]
    fn an_update_fits_if_what_it_builds_on_is_there() {
        for (start, deps, needs) in [
            (0, &[][..], &[][..]),
            (5, &[], &[(1, 5)]),
            (0, &[3], &[(2, 4)]),
            (0, &[0], &[(2, 1)]),
            (5, &[3], &[(1, 5), (2, 4)]),
        ] {
            let update = outline(start, start + 1, deps);
            assert_eq!(update.needs().collect::<Vec<_>>(), needs);
            for lacking in 0..=needs.len() {
                let ends = needs.iter().enumerate();
                let ends = ends.map(|(n, (peer, end))| (*peer, end - i32::from(n == lacking)));
                let version: VersionVector = ends.collect();
                assert_eq!(update.fits(&version), lacking == needs.len(), "{needs:?}");
            }
        }
    }

    #[test]
    fn updates_and_snapshots_are_taken() {
        let doc = document();
        let update = doc.export(ExportMode::all_updates()).unwrap();
        let outline = Outline::checked(&update).unwrap();
        assert_eq!(outline.spans.len(), 1);
        assert_eq!(Some(outline), Outline::read(&update));
        assert!(Outline::checked(&update[..update.len() - 1]).is_err());
        check(&doc.export(ExportMode::all_updates()).unwrap()).unwrap();
        check(&doc.export(ExportMode::Snapshot).unwrap()).unwrap();
    }

    #[test]
    fn what_it_builds_on_may_be_missing() {
        let doc = document();
        let version = doc.oplog_vv();
        doc.get_text("text").insert(3, "later").unwrap();
        doc.commit();
        check(&doc.export(ExportMode::updates(&version)).unwrap()).unwrap();
    }

    #[test]
    fn nonsense_is_refused() {
        for nonsense in [
            &b""[..],
            b"x",
            b"loro",
            b"hello, this is no update at all",
            &[0; 64],
        ] {
            let refusal = check(nonsense).unwrap_err();
            assert!(refusal.contains("not a Loro update"), "{refusal}");
        }
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_refused() {
        let doc = LoroDoc::new();
        doc.get_text("text").insert(0, "hi").unwrap();
        doc.commit();
        let update = doc
            .export(ExportMode::updates(&VersionVector::default()))
            .unwrap();
        for length in 0..update.len() {
            assert!(check(&update[..length]).is_err(), "cut at {length}");
        }
        // The first bytes name the format, then comes the checksum of all that follows.
        for bit in 0..update.len() * 8 {
            // Twelve of the sixteen checksum bytes are not in use.
            if (4..16).contains(&(bit / 8)) {
                continue;
            }
            let mut flipped = update.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_value_that_is_nested_too_deeply_is_refused() {
        let mut value = LoroValue::Null;
        for _ in 0..depth::MOST_LEVELS {
            value = LoroValue::List(vec![value].into());
        }
        let doc = LoroDoc::new();
        doc.get_map("map").insert("x", value).unwrap();
        doc.commit();
        let update = doc.export(ExportMode::all_updates()).unwrap();
        assert!(check(&update).unwrap_err().contains("nested"));
    }

    #[test]
    fn a_shallow_snapshot_is_refused() {
        let doc = document();
        let shallow = doc
            .export(ExportMode::shallow_snapshot(&doc.oplog_frontiers()))
            .unwrap();
        assert!(check(&shallow).unwrap_err().contains("shallow"));
    }
}
