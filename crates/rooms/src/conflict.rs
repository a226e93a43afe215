//! Finds out whether an update has an operation that differs from the one with the same id in the document, because two
//! clients have written under one peer id. Loro would skip the second operation without notice.

use loro::{Frontiers, ID, IdSpan, LoroDoc, VersionVector};
use serde_json::Value;

use crate::{error::RoomError, history::History, update::Outline};

/// The most comparisons of spans for one update. If more were needed, no conflict is proved.
const COMPARISONS: u32 = 4096;

/// Finds an operation of the update that differs from the one in the document. `None` if there is none, or if this is
/// not certain, because the update builds on operations that the document does not have.
///
/// # Errors
/// If Loro cannot export from the document.
pub(crate) fn find(history: &History, update: &[u8]) -> Result<Option<ID>, RoomError> {
    let Some(outline) = Outline::read(update) else {
        return Ok(None);
    };
    let stored = history.doc();
    let version = history.version();
    let reached = |version: &VersionVector, peer| version.get(&peer).copied().unwrap_or(0);
    let is_stored = |id: &ID| id.counter < reached(&version, id.peer);
    // The deps are all operations outside of the update that its changes name, also those of its own peers.
    let before: Frontiers = outline.deps.iter().copied().filter(is_stored).collect();
    let Some(before) = stored.frontiers_to_vv(&before) else {
        return Ok(None);
    };
    // The update alone, beside the operations on which it builds.
    let sent = LoroDoc::new();
    sent.detach();
    if !before.is_empty() {
        let spans = before.iter();
        let spans: Vec<IdSpan> = spans
            .map(|(peer, end)| IdSpan::new(*peer, 0, *end))
            .collect();
        let base = stored.export(loro::ExportMode::updates_in_range(spans));
        let base = base.map_err(RoomError::of_loro)?;
        sent.import(&base).map_err(RoomError::of_loro)?;
    }
    if sent.import(update).is_err() {
        return Ok(None);
    }
    let arrived = sent.oplog_vv();
    let mut left = COMPARISONS;
    Ok(outline.spans.iter().find_map(|span| {
        let peer = span.peer;
        let start = span.start.max(reached(&before, peer));
        let end = span
            .end
            .min(reached(&version, peer))
            .min(reached(&arrived, peer));
        difference(stored, &sent, IdSpan::new(peer, start, end), &mut left)
    }))
}

/// Finds the first operation of a span that differs between two documents. A span that differs as a whole is halved
/// until one operation differs, because the same operations may be cut into pieces in different ways.
fn difference(one: &LoroDoc, other: &LoroDoc, span: IdSpan, left: &mut u32) -> Option<ID> {
    let mut spans = vec![span];
    while let Some(span) = spans.pop() {
        let (start, end) = (span.counter.start, span.counter.end);
        if start >= end {
            continue;
        }
        *left = left.checked_sub(1)?;
        let (of_one, of_other) = (operations(one, span)?, operations(other, span)?);
        if of_one == of_other {
            continue;
        }
        if end - start == 1 {
            return Some(ID::new(span.peer, start));
        }
        let middle = start + (end - start) / 2;
        spans.push(IdSpan::new(span.peer, middle, end));
        spans.push(IdSpan::new(span.peer, start, middle));
    }
    None
}

/// The operations of a span, each piece with its Lamport time; `None` if a document has none there.
fn operations(doc: &LoroDoc, span: IdSpan) -> Option<Vec<(u32, Value)>> {
    let changes = doc.export_json_in_id_span(span);
    let operations = changes.iter().map(|change| {
        let mut operations = serde_json::to_value(&change.ops).ok()?;
        operations.as_array_mut()?.iter_mut().for_each(forwards);
        Some((change.lamport, operations))
    });
    let operations: Vec<_> = operations.collect::<Option<_>>()?;
    (!operations.is_empty()).then_some(operations)
}

/// Writes the deletion of one character always in the same way. Loro joins deletions that went backwards into a span of
/// a negative length. A deletion that is cut from such a span keeps the sign, although it is the same as a deletion
/// that never was in a span.
fn forwards(operation: &mut Value) {
    if let Some(length) = operation.pointer_mut("/content/len")
        && *length == -1
    {
        *length = 1.into();
    }
}

#[cfg(test)]
mod resent;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{LogRow, Rows};
    use loro::ExportMode;

    pub(super) fn writer(peer: u64) -> LoroDoc {
        let doc = LoroDoc::new();
        doc.set_peer_id(peer).unwrap();
        doc
    }

    fn typed(doc: &LoroDoc, words: &str) -> Vec<u8> {
        let before = doc.oplog_vv();
        let text = doc.get_text("text");
        text.insert(text.len_unicode(), words).unwrap();
        doc.commit();
        doc.export(ExportMode::updates(&before)).unwrap()
    }

    pub(super) fn found(log: &[Vec<u8>], update: &[u8]) -> Option<ID> {
        let log = (1..).zip(log).map(|(rev, payload)| LogRow {
            rev,
            payload: payload.clone(),
        });
        let rows = Rows {
            log: log.collect(),
            ..Rows::default()
        };
        found_in(&History::of(&rows).unwrap(), update)
    }

    pub(super) fn found_in(history: &History, update: &[u8]) -> Option<ID> {
        find(history, update).unwrap()
    }

    #[test]
    fn a_resend_is_no_conflict_however_it_is_cut() {
        let (doc, other) = (writer(42), writer(7));
        let mut log = Vec::new();
        for n in 0..20 {
            log.push(typed(&doc, &format!("word {n}, ")));
            if n % 5 == 0 {
                other
                    .import(&doc.export(ExportMode::all_updates()).unwrap())
                    .unwrap();
                let length = other.get_text("text").len_unicode();
                other.get_text("text").delete(length / 2, 3).unwrap();
                other.get_map("map").insert("a", vec![1, n]).unwrap();
                let known = doc.oplog_vv();
                other.commit();
                log.push(other.export(ExportMode::updates(&known)).unwrap());
                doc.import(log.last().unwrap()).unwrap();
                doc.get_text("text").delete(0, 2).unwrap();
                doc.commit();
                log.push(doc.export(ExportMode::updates(&other.oplog_vv())).unwrap());
            }
        }
        for update in &log {
            assert_eq!(found(&log, update), None);
        }
        assert_eq!(
            found(&log, &doc.export(ExportMode::all_updates()).unwrap()),
            None
        );
        assert_eq!(
            found(&log, &doc.export(ExportMode::Snapshot).unwrap()),
            None
        );
        for since in [1, 7, 30, 100] {
            let mut version = doc.oplog_vv();
            version.insert(42, since);
            let update = doc.export(ExportMode::updates(&version)).unwrap();
            assert_eq!(found(&log, &update), None, "{since}");
            // The update goes on beyond what is stored.
            assert_eq!(found(&log[..log.len() - 2], &update), None, "{since}");
        }
    }

    #[test]
    fn backspaces_that_a_resend_joins_are_no_conflict() {
        let doc = writer(42);
        let mut log = vec![typed(&doc, "hello")];
        for at in [4, 3, 1, 0] {
            let before = doc.oplog_vv();
            doc.get_text("text").delete(at, 1).unwrap();
            doc.commit();
            log.push(doc.export(ExportMode::updates(&before)).unwrap());
        }
        for since in 0..9 {
            let mut version = VersionVector::default();
            version.insert(42, since);
            let update = doc.export(ExportMode::updates(&version)).unwrap();
            assert_eq!(found(&log, &update), None, "{since}");
            assert_eq!(found(std::slice::from_ref(&update), &log[4]), None);
        }
        let other = writer(42);
        other.import(&log[0]).unwrap();
        other.set_peer_id(42).unwrap();
        other.get_text("text").delete(4, 1).unwrap();
        other.get_text("text").delete(2, 1).unwrap();
        other.commit();
        let update = other.export(ExportMode::all_updates()).unwrap();
        assert_eq!(found(&log, &update), Some(ID::new(42, 6)));
    }

    #[test]
    fn two_clients_of_one_peer_id_are_told_apart() {
        let (one, two) = (writer(42), writer(42));
        let log = [typed(&one, "hello "), typed(&one, "world")];
        assert_eq!(found(&log, &typed(&two, "help me")), Some(ID::new(42, 3)));
        // The second client may also go on with what the first one began.
        let two = writer(42);
        two.import(&log[0]).unwrap();
        two.set_peer_id(42).unwrap();
        assert_eq!(found(&log, &typed(&two, "moon")), Some(ID::new(42, 6)));
        two.get_map("map").insert("k", 1).unwrap();
        two.commit();
        assert_eq!(
            found(&log, &two.export(ExportMode::all_updates()).unwrap()),
            Some(ID::new(42, 6))
        );
    }

    #[test]
    fn what_builds_on_unknown_operations_is_not_proved() {
        let (one, two, third) = (writer(42), writer(42), writer(3));
        let log = [typed(&one, "hello")];
        two.import(&typed(&third, "unknown ")).unwrap();
        assert_eq!(found(&log, &typed(&two, "other")), None);
    }

    /// An update may hold what waits beside what does not.
    #[test]
    fn what_waits_hides_no_conflict_beside_it() {
        let (one, two, third) = (writer(42), writer(42), writer(7));
        let log = [typed(&one, "hello")];
        // The update builds on one operation that the room lacks, the next of its peer.
        typed(&third, "m");
        typed(&two, "help me");
        two.import(&third.export(ExportMode::all_updates()).unwrap())
            .unwrap();
        let missing = two.oplog_vv().get(&7).copied().unwrap();
        two.import(&typed(&third, "later ")).unwrap();
        let since = [(7, missing)].into_iter().collect();
        let update = two.export(ExportMode::updates(&since)).unwrap();
        assert_eq!(found(&log, &update), Some(ID::new(42, 3)));
    }

    /// The client that writes under the same peer id has also read another client's answer, which the room lacks.
    #[test]
    fn what_the_twin_has_read_meanwhile_hides_no_conflict() {
        let (one, two, third) = (writer(42), writer(42), writer(7));
        let log = [typed(&one, "hello "), typed(&one, "world")];
        for doc in [&two, &third] {
            doc.import(&log[0]).unwrap();
        }
        two.set_peer_id(42).unwrap();
        typed(&two, "moon");
        two.import(&typed(&third, "answer ")).unwrap();
        let mut since = two.oplog_vv();
        since.insert(42, 6);
        let update = two.export(ExportMode::updates(&since)).unwrap();
        assert_eq!(found(&log, &update), Some(ID::new(42, 6)));
    }
}
