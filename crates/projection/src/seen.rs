//! Finds out whether an editor who wrote over a projection had seen it.
//!
//! A deletion is a write like any other: if its editor had seen the projection, it stands, even if the result looks
//! like what stood there before. If not, it was not an answer to the projection. The document's history distinguishes
//! the two.

use loro::{
    ContainerID, ContainerTrait, ID, IdSpan, JsonMapOp, JsonOpContent, LoroDoc, LoroMap, PeerID,
};

/// The number of a peer's latest operations among which its last write is looked for.
const LOOKED_AT: i32 = 4096;

/// The number of operations that are read at once. Each may hold a whole node.
const AT_ONCE: i32 = 128;

/// Returns whether the editor who last wrote a key of a map had seen what the peer `ours` wrote there before. Returns
/// `None` if that is unknown.
pub(crate) fn had_seen(doc: &LoroDoc, ours: PeerID, map: &LoroMap, key: &str) -> Option<bool> {
    let editor = map.get_last_editor(key)?;
    if editor == ours {
        return Some(true);
    }
    let map = map.id();
    let theirs = last_write(doc, editor, &map, key)?;
    let projected = last_write(doc, ours, &map, key)?;
    let change = doc.get_change(theirs)?;
    let seen = doc.frontiers_to_vv(&change.deps)?;
    Some(seen.get(&ours).is_some_and(|end| *end > projected.counter))
}

/// The last operation of a peer at a key of a map, if it is among the peer's latest.
fn last_write(doc: &LoroDoc, peer: PeerID, map: &ContainerID, key: &str) -> Option<ID> {
    let end = *doc.oplog_vv().get(&peer)?;
    let mut until = end;
    while until > 0 && end - until < LOOKED_AT {
        let from = (until - AT_ONCE).max(0);
        let changes = doc.export_json_in_id_span(IdSpan::new(peer, from, until));
        let found = changes
            .iter()
            .flat_map(|change| &change.ops)
            .filter(|op| op.container == *map && is_at(&op.content, key))
            .map(|op| op.counter)
            .max();
        if let Some(counter) = found {
            return Some(ID::new(peer, counter));
        }
        until = from;
    }
    None
}

fn is_at(content: &JsonOpContent, at: &str) -> bool {
    match content {
        JsonOpContent::Map(JsonMapOp::Insert { key, .. } | JsonMapOp::Delete { key }) => key == at,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A document whose map one peer has written: a key, between other writes.
    fn written(before: i32, after: i32) -> (LoroDoc, ContainerID) {
        let doc = LoroDoc::new();
        doc.set_peer_id(7).unwrap();
        let map = doc.get_map("map");
        let others = |count| (0..count).for_each(|n| map.insert("other", n).unwrap());
        others(before);
        map.insert("key", 1).unwrap();
        others(after);
        doc.commit();
        (doc, map.id())
    }

    #[test]
    fn the_last_write_is_found_among_the_latest_of_a_peer() {
        for (before, after, is_found) in [
            (0, 0, true),
            (0, 5, true),
            (5, 0, true),
            (5000, 0, true),
            (100, LOOKED_AT - 1, true),
            (100, LOOKED_AT, false),
        ] {
            let (doc, map) = written(before, after);
            let found = last_write(&doc, 7, &map, "key");
            let expected = is_found.then(|| ID::new(7, before));
            assert_eq!(found, expected, "{before} {after}");
            assert_eq!(last_write(&doc, 7, &map, "never"), None);
            assert_eq!(last_write(&doc, 8, &map, "key"), None);
        }
    }
}
