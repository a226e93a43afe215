//! The task that a node shows, and the time at which it is written.
//!
//! A node whose `data.taskId` names a task shows that one; any other node shows the task that was posted for it last,
//! whichever ends first. Each version of a task is written into a node once. What a user writes or deletes there
//! afterwards stands, unless that editor had not seen the version yet: if the value from before the version stands
//! there again, the node is repaired, once for each version.

use std::collections::{HashMap, HashSet};

use loro::{Container, LoroDoc, LoroMap, LoroResult, LoroValue, PeerID, ValueOrContainer};
use tasks::rows::{Projected, Unprojected};

use crate::{
    document::{STATUS, earlier, field, shows, write_node},
    seen::had_seen,
};

/// The change that a projection makes to a node.
#[derive(Debug, PartialEq)]
enum Deed {
    /// The node has not shown this version of the task: it is written.
    Show,
    /// The node shows what stood there before this version: it is written once more.
    Repair,
    /// The node stays as it is.
    Leave,
}

/// Writes these tasks into their nodes, as the peer that writes all projections. Leaves out the tasks whose ids are in
/// `except`, and plain values that are too large for a projection. Returns the notes for the row of each task.
pub(crate) fn write<'a>(
    doc: &LoroDoc,
    peer: PeerID,
    tasks: &'a [Unprojected],
    except: &HashSet<String>,
) -> LoroResult<Vec<Projected<'a>>> {
    let mut projected: Vec<Projected<'a>> = tasks
        .iter()
        .map(|of| Projected {
            task: &of.task,
            shown: of.shown.clone().unwrap_or_default(),
            is_repaired: of.is_repaired,
        })
        .collect();
    let (mut by_id, mut by_node) = (HashMap::new(), HashMap::new());
    for (n, of) in tasks.iter().enumerate() {
        by_id.insert(of.task.task_id.as_str(), n);
        if let (Some(node), false) = (&of.task.node_id, of.is_superseded) {
            by_node.insert(node.as_str(), n);
        }
    }
    let nodes = doc.get_map("nodes");
    for (id, node) in children(&nodes) {
        let data = field(&node, "data");
        let named = data.as_ref().and_then(|data| field(data, "taskId"));
        let n = match &named {
            Some(ValueOrContainer::Value(LoroValue::String(named))) => by_id.get(named.as_str()),
            _ => by_node.get(id.as_str()),
        };
        let Some(n) = n.copied() else {
            continue;
        };
        let (Some(of), Some(projected)) = (tasks.get(n), projected.get_mut(n)) else {
            continue;
        };
        if except.contains(&of.task.task_id) {
            continue;
        }
        let (map, key) = written(&nodes, &id, &node);
        let is_whole = key != STATUS;
        let had_seen = || had_seen(doc, peer, &map, key);
        match deed(of, &id, data.as_ref(), is_whole, had_seen) {
            Deed::Show => {}
            Deed::Repair => projected.is_repaired = true,
            Deed::Leave => continue,
        }
        write_node(&nodes, &id, &node, &of.task)?;
        projected.shown.add(&id);
    }
    Ok(projected)
}

/// The map and the key at which a node shows its task: the whole node, its `data`, or the status in its `data`. Only
/// the last leaves the rest of the node alone.
fn written<'a>(nodes: &LoroMap, id: &'a str, node: &ValueOrContainer) -> (LoroMap, &'a str) {
    let ValueOrContainer::Container(Container::Map(node)) = node else {
        return (nodes.clone(), id);
    };
    match node.get("data") {
        Some(ValueOrContainer::Container(Container::Map(data))) => (data, STATUS),
        _ => (node.clone(), "data"),
    }
}

/// Decides what to do with a node. If its last editor had seen this version, what they wrote stands. If that is
/// unknown, a status from before the end counts as written by an editor who had not seen it; if nothing stands there, a
/// user may have deleted it.
///
/// An editor who moves a plain node writes it whole (`is_whole`), with the picture that it had before the task. If that
/// editor had not seen the version, what stands there counts as written before it.
fn deed(
    of: &Unprojected,
    node: &str,
    data: Option<&ValueOrContainer>,
    is_whole: bool,
    had_seen: impl Fn() -> Option<bool>,
) -> Deed {
    match &of.shown {
        None => Deed::Show,
        Some(shown) if !shown.may_include(node) => Deed::Show,
        Some(_) if of.is_repaired => Deed::Leave,
        Some(_) => match earlier(data) {
            Some(has_status) if !had_seen().unwrap_or(!has_status) => Deed::Repair,
            None if is_whole && !shows(data, &of.task) && had_seen() == Some(false) => Deed::Repair,
            _ => Deed::Leave,
        },
    }
}

fn children(map: &LoroMap) -> Vec<(String, ValueOrContainer)> {
    let mut children = Vec::new();
    map.for_each(|key, value| children.push((key.to_owned(), value)));
    children
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tasks::{Status, Task, rows::Shown};

    fn task() -> Task {
        Task {
            task_id: "t".into(),
            status: Status::Completed,
            result_url: Some("https://a/b".into()),
            ..Task::new(5)
        }
    }

    #[test]
    fn a_version_is_shown_once_and_repaired_once() {
        let ended = json!({ "status": "completed", "src": "https://a/b" });
        let other = json!({ "status": "completed", "src": "https://old" });
        let before = json!({ "status": "processing" });
        let nothing = json!({});
        use Deed::{Leave, Repair, Show};
        let (seen, unseen) = (Some(true), Some(false));
        for (was_shown, is_repaired, data, is_whole, had_seen, expected) in [
            (false, false, &ended, false, seen, Show),
            (true, true, &before, false, unseen, Leave),
            (true, false, &before, false, unseen, Repair),
            (true, false, &before, false, seen, Leave),
            (true, false, &before, false, None, Repair),
            (true, false, &nothing, false, unseen, Repair),
            (true, false, &nothing, false, seen, Leave),
            (true, false, &nothing, false, None, Leave),
            (true, false, &ended, true, unseen, Leave),
            (true, false, &other, true, unseen, Repair),
            (true, false, &other, true, seen, Leave),
            (true, false, &other, true, None, Leave),
            (true, false, &other, false, unseen, Leave),
        ] {
            let mut shown = Shown::default();
            shown.add(if was_shown { "n" } else { "another" });
            let of = Unprojected {
                task: task(),
                is_superseded: false,
                shown: Some(shown),
                is_repaired,
            };
            let value = ValueOrContainer::Value(LoroValue::from(data.clone()));
            let deed = deed(&of, "n", Some(&value), is_whole, || had_seen);
            assert_eq!(deed, expected, "{data} {is_whole} {had_seen:?}");
        }
        let new = Unprojected {
            task: task(),
            is_superseded: false,
            shown: None,
            is_repaired: false,
        };
        assert_eq!(deed(&new, "n", None, false, || seen), Show);
    }
}
