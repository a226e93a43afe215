//! The order in which the updates of a log take effect.
//!
//! An update that builds on a missing one waits, and takes effect when the missing one comes. So if a log fails with
//! the update that came last, another update, which waited for it, may be to blame instead.

use std::collections::HashMap;

use loro::VersionVector;

use crate::{
    rows::{LogRow, Rows},
    update::Outline,
};

/// Sorts the log so that each update comes after those on which it builds, and else by rev. Updates that still wait
/// come last. An update whose outline cannot be read keeps its place.
pub(crate) fn in_order(rows: &Rows) -> Vec<&LogRow> {
    let mut reached = VersionVector::decode(&rows.version()).unwrap_or_default();
    let mut sorted = Vec::with_capacity(rows.log.len());
    let mut waiting: Vec<(Outline, &LogRow)> = Vec::new();
    for row in &rows.log {
        match Outline::read(&row.payload) {
            Some(outline) if !outline.fits(&reached) => waiting.push((outline, row)),
            outline => {
                reach(&mut reached, outline.as_ref());
                sorted.push(row);
                while let Some(at) = waiting.iter().position(|(other, _)| other.fits(&reached)) {
                    let (outline, row) = waiting.remove(at);
                    reach(&mut reached, Some(&outline));
                    sorted.push(row);
                }
            }
        }
    }
    sorted.extend(waiting.into_iter().map(|(_, row)| row));
    sorted
}

/// Keeps the updates that take effect up to the one of this rev, in the order of their effects; none, if there is no such
/// update.
pub(crate) fn keep_until(rows: &mut Rows, rev: u64) {
    let revs: Vec<u64> = in_order(rows).iter().map(|row| row.rev).collect();
    let kept = revs.iter().position(|other| *other == rev);
    let kept = kept.map_or(0, |last| last + 1);
    let places: HashMap<u64, usize> = revs[..kept].iter().copied().zip(0..).collect();
    rows.log.retain(|row| places.contains_key(&row.rev));
    rows.log.sort_by_key(|row| places.get(&row.rev).copied());
}

fn reach(version: &mut VersionVector, outline: Option<&Outline>) {
    for span in outline.into_iter().flat_map(|outline| &outline.spans) {
        let end = version.entry(span.peer).or_insert(0);
        *end = span.end.max(*end);
    }
}

#[cfg(test)]
mod tests {
    use loro::{ExportMode, LoroDoc};

    use super::*;
    use crate::rows::SnapshotRow;

    fn writer(peer: u64) -> LoroDoc {
        let doc = LoroDoc::new();
        doc.set_peer_id(peer).unwrap();
        doc
    }

    /// Types the next letter of a writer, and returns it as an update.
    fn typed(doc: &LoroDoc) -> Vec<u8> {
        let before = doc.oplog_vv();
        doc.get_text("text").insert(0, "x").unwrap();
        doc.commit();
        doc.export(ExportMode::updates(&before)).unwrap()
    }

    fn rows(updates: &[&[u8]]) -> Rows {
        let log = (1..).zip(updates).map(|(rev, payload)| LogRow {
            rev,
            payload: payload.to_vec(),
        });
        Rows {
            log: log.collect(),
            ..Rows::default()
        }
    }

    fn revs<'a>(rows: impl IntoIterator<Item = &'a LogRow>) -> Vec<u64> {
        rows.into_iter().map(|row| row.rev).collect()
    }

    #[test]
    fn what_waits_takes_effect_after_what_it_waits_for() {
        let (one, two) = (writer(1), writer(2));
        let first = typed(&one);
        two.import(&first).unwrap();
        let (second, third) = (typed(&two), typed(&two));
        let (other, never) = (typed(&writer(3)), writer(4));
        typed(&never);
        let never = typed(&never);
        let all = rows(&[&third, &never, &second, b"no update", &other, &first]);
        assert_eq!(revs(in_order(&all)), [4, 5, 6, 3, 1, 2]);
        for (rev, expected) in [(6, &[4, 5, 6][..]), (3, &[4, 5, 6, 3]), (0, &[]), (9, &[])] {
            let mut until = all.clone();
            keep_until(&mut until, rev);
            assert_eq!(revs(&until.log), expected, "until {rev}");
        }
    }

    #[test]
    fn what_the_snapshot_holds_is_no_reason_to_wait() {
        let one = writer(1);
        typed(&one);
        let version = one.oplog_vv().encode();
        let (second, third) = (typed(&one), typed(&one));
        let mut all = rows(&[&third, &second]);
        all.snapshot = Some(SnapshotRow {
            version,
            ..Default::default()
        });
        assert_eq!(revs(in_order(&all)), [2, 1]);
    }
}
