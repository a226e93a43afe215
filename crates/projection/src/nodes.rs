//! Which task a node shows, and when it is written.
//!
//! A node whose `data.taskId` names a task shows that one; any other node shows the task that was posted for it last,
//! whichever ends first. Each version of a task is written into a node once. What a user writes there afterwards
//! stands, except for what an editor writes that had not seen the version yet: if the value from before it stands there
//! again, the node is repaired, once for each version.

use std::collections::{HashMap, HashSet};

use loro::{LoroDoc, LoroMap, LoroResult, LoroValue, ValueOrContainer};
use tasks::rows::{Projected, Unprojected};

use crate::document::{field, write_node};

/// What a projection does with a node.
#[derive(Debug, PartialEq)]
enum Deed {
    /// The node has not shown this version of the task: it is written.
    Show,
    /// The node shows what stood there before this version: it is written once more.
    Repair,
    /// The node keeps what it has.
    Leave,
}

/// Writes these tasks into their nodes. Leaves out tasks whose id is in `except`, and plain values that are too large
/// for a projection. Returns what the rows are to note of each task.
pub(crate) fn write<'a>(
    doc: &LoroDoc,
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
        match deed(of, &id, data.as_ref()) {
            Deed::Show => {}
            Deed::Repair => projected.is_repaired = true,
            Deed::Leave => continue,
        }
        write_node(&nodes, &id, &node, &of.task)?;
        projected.shown.add(&id);
    }
    Ok(projected)
}

fn deed(of: &Unprojected, node: &str, data: Option<&ValueOrContainer>) -> Deed {
    match &of.shown {
        None => Deed::Show,
        Some(shown) if !shown.may_include(node) => Deed::Show,
        Some(_) if !of.is_repaired && shows_unfinished(data) => Deed::Repair,
        Some(_) => Deed::Leave,
    }
}

/// Whether a node shows a task that has not ended, or none at all. Only tasks that have ended are looked at again, so
/// this is what stood there before their end.
fn shows_unfinished(data: Option<&ValueOrContainer>) -> bool {
    let text = |key: &str| match data.and_then(|data| field(data, key)) {
        None | Some(ValueOrContainer::Value(LoroValue::Null)) => Some(String::new()),
        Some(ValueOrContainer::Value(LoroValue::String(text))) => Some(text.to_string()),
        Some(_) => None,
    };
    matches!(
        text("status").as_deref(),
        Some("" | "pending" | "processing")
    ) && text("src").as_deref() == Some("")
        && text("error").as_deref() == Some("")
}

fn children(map: &LoroMap) -> Vec<(String, ValueOrContainer)> {
    let mut children = Vec::new();
    map.for_each(|key, value| children.push((key.to_owned(), value)));
    children
}
