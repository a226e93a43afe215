//! Whether an editor who wrote into a node had seen what was projected there.
//!
//! A deletion is a write like any other: what an editor wrote who had the projection stands, also if it looks like what
//! stood there before. What an editor wrote who had not, is no answer to it. The document's history tells the two apart.

use loro::{
    Container, ContainerID, ContainerTrait, ID, IdSpan, JsonMapOp, JsonOpContent, LoroDoc, LoroMap,
    PeerID, ValueOrContainer,
};

/// The most operations of a peer among which its last write is looked for.
const LOOKED_AT: i32 = 4096;

/// How many of them are read at once. Each may hold a whole node.
const AT_ONCE: i32 = 128;

/// Whether the editor who last wrote what the node shows had seen what the peer `ours` wrote there before. `None` if that
/// cannot be told.
pub(crate) fn had_seen(
    doc: &LoroDoc,
    ours: PeerID,
    nodes: &LoroMap,
    id: &str,
    node: &ValueOrContainer,
) -> Option<bool> {
    let (map, key) = written(nodes, id, node);
    let editor = map.get_last_editor(key)?;
    if editor == ours {
        return Some(true);
    }
    let (map, key) = (map.id(), key);
    let theirs = last_write(doc, editor, &map, key)?;
    let projected = last_write(doc, ours, &map, key)?;
    let change = doc.get_change(theirs)?;
    let seen = doc.frontiers_to_vv(&change.deps)?;
    Some(seen.get(&ours).is_some_and(|end| *end > projected.counter))
}

/// The map and the key at which a node shows its task: the whole node, its `data`, or the status in there.
fn written<'a>(nodes: &LoroMap, id: &'a str, node: &ValueOrContainer) -> (LoroMap, &'a str) {
    let ValueOrContainer::Container(Container::Map(node)) = node else {
        return (nodes.clone(), id);
    };
    match node.get("data") {
        Some(ValueOrContainer::Container(Container::Map(data))) => (data, "status"),
        _ => (node.clone(), "data"),
    }
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
