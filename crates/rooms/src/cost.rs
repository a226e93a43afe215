//! An estimate of what it costs to compute a document's state.
//!
//! Loro computes it in linear time, except beside concurrent operations: n characters beside m concurrent
//! ones may cost n × m. So the estimate counts, for each new operation, the operations that came before it
//! and that its author had not seen.

use std::{collections::HashMap, ops::ControlFlow};

use loro::{ChangeMeta, LoroDoc, PeerID, VersionVector};

use crate::error::RoomError;

/// Pairs of concurrent operations. The worst case that is known, two pastes into one text at the same time,
/// takes about 24 s of processor time in Wasm for each trillion of them; most cases take much less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cost(pub(crate) u64);

const TRILLION: u64 = 1_000_000_000_000;

impl Cost {
    /// The most that is done at once, with a compaction or for a caller that waits: at worst about 0.3 s.
    pub(crate) const CHEAP: Self = Self(TRILLION / 100);
    /// The most that a merge of its own tries: at worst about 100 s.
    pub(crate) const LONG: Self = Self(4 * TRILLION);

    /// Whether nothing is concurrent.
    pub(crate) fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// Estimates the cost of the state of `doc` for one who has the state at the version `base`. No state is
/// computed, so this takes a time that is linear in the changes after `base`.
///
/// # Errors
/// If Loro cannot read the document's history.
pub(crate) fn estimate(doc: &LoroDoc, base: &VersionVector) -> Result<Cost, RoomError> {
    let counter = |version: &VersionVector, peer| version.get(&peer).copied().unwrap_or(0);
    let total = |version: &VersionVector| version.values().map(|end| i64::from(*end)).sum::<i64>();
    let known = total(base);
    let lacking = total(&doc.oplog_vv()) - known;
    let mut found = 0;
    let mut changes: Vec<ChangeMeta> = Vec::new();
    let heads: Vec<_> = doc.oplog_frontiers().iter().collect();
    // The newest changes come first.
    doc.travel_change_ancestors(&heads, &mut |change| {
        let end = i64::from(change.id.counter) + change.len as i64;
        let new = end - i64::from(counter(base, change.id.peer).max(change.id.counter));
        if new > 0 {
            found += new;
            changes.push(change);
        }
        if found < lacking {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })
    .map_err(RoomError::of_loro)?;
    let mut before = known;
    let mut pairs = 0_u64;
    // For each peer the end of its last change, and how many operations its author had seen by then.
    let mut seen_by: HashMap<PeerID, (i32, i64)> = HashMap::new();
    for change in changes.into_iter().rev() {
        let peer = change.id.peer;
        let start = change.id.counter.max(counter(base, peer));
        let end = change.id.counter + i32::try_from(change.len).unwrap_or(i32::MAX);
        let follows_itself = change.deps.as_single().is_some_and(|dep| dep.peer == peer);
        let seen = match seen_by.get(&peer) {
            Some((last, seen)) if follows_itself && *last == start => *seen,
            _ => {
                let seen = doc.frontiers_to_vv(&change.deps).unwrap_or_default();
                total(&seen) + i64::from(start - change.id.counter)
            }
        };
        let length = i64::from(end - start);
        let concurrent = (before - seen).max(0);
        pairs = pairs.saturating_add((length as u64).saturating_mul(concurrent as u64));
        before += length;
        seen_by.insert(peer, (end, seen + length));
    }
    Ok(Cost(pairs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use loro::ExportMode;

    fn typed(doc: &LoroDoc, length: usize) {
        doc.get_text("text").insert(0, &"x".repeat(length)).unwrap();
        doc.commit();
    }

    fn writer(peer: u64) -> LoroDoc {
        let doc = LoroDoc::new();
        doc.set_peer_id(peer).unwrap();
        doc
    }

    fn import(into: &LoroDoc, from: &LoroDoc) {
        let update = from.export(ExportMode::updates(&into.oplog_vv())).unwrap();
        into.import(&update).unwrap();
    }

    fn cost(docs: &[&LoroDoc], base: &VersionVector) -> u64 {
        let all = LoroDoc::new();
        all.detach();
        for doc in docs {
            import(&all, doc);
        }
        estimate(&all, base).unwrap().0
    }

    #[test]
    fn one_writer_after_the_other_costs_nothing() {
        let (one, two) = (writer(1), writer(2));
        let nothing = VersionVector::default();
        for _ in 0..20 {
            typed(&one, 100);
            import(&two, &one);
            typed(&two, 100);
            import(&one, &two);
        }
        assert_eq!(cost(&[&one, &two], &nothing), 0);
        assert_eq!(cost(&[&LoroDoc::new()], &nothing), 0);
    }

    #[test]
    fn writers_who_never_meet_cost_the_product_of_their_lengths() {
        let (one, two, three) = (writer(1), writer(2), writer(3));
        for _ in 0..10 {
            typed(&one, 100);
            typed(&two, 20);
        }
        let nothing = VersionVector::default();
        assert_eq!(cost(&[&one, &two], &nothing), 1000 * 200);
        typed(&three, 10);
        assert_eq!(
            cost(&[&one, &two, &three], &nothing),
            1000 * 200 + 1200 * 10
        );
    }

    #[test]
    fn what_comes_back_from_offline_is_concurrent_to_what_the_snapshot_holds() {
        let (one, two) = (writer(1), writer(2));
        typed(&one, 50);
        import(&two, &one);
        typed(&one, 1000);
        let base = one.oplog_vv();
        typed(&two, 30);
        assert_eq!(cost(&[&one, &two], &base), 1000 * 30);
        // Who has seen it all is concurrent to nothing, though the snapshot ends amid a change.
        typed(&one, 500);
        assert_eq!(cost(&[&one], &base), 0);
        import(&one, &two);
        typed(&one, 500);
        assert_eq!(cost(&[&one], &base), 1500 * 30);
    }
}
