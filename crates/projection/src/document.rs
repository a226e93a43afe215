//! The part of a document that shows a task.
//!
//! The map `tasks` holds an entry under the task's id. Each node of the map `nodes` that belongs to the task
//! shows it in `data.status`, `data.src` and `data.error`, and only there, so that a concurrent move of the node
//! survives. [`crate::nodes`] decides which node belongs to which task.
//!
//! A node may be a Loro map whose `data` is a nested Loro map; then a change touches those three keys
//! alone. If its `data`, or the whole node, is a plain JSON value, that value is written whole.
//!
//! Loro does not write a value that is there already, so a task that the document shows already changes nothing.
//!
//! An entry or a `data` that is not there yet is made as a mergeable map: a client that makes the same one at the same
//! time writes into the same map, so that neither side loses a field. A key that holds a plain value already cannot
//! become a mergeable map.

use std::collections::{HashMap, HashSet};

use loro::{Container, LoroDoc, LoroMap, LoroResult, LoroValue, PeerID, ValueOrContainer};
use tasks::{Task, rows::Unprojected};

use crate::seen::had_seen;

/// The most bytes of one projection, because a larger update would stay in the room, and every client that joins would
/// load it.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;

/// Writes these tasks into the map `tasks`, as the peer that writes all projections. Each version of a task is written
/// into its entry once, and what a user writes or deletes there afterwards stands, including the deletion of the whole
/// entry. If an editor who had not seen the version has set an entry back, the entry is repaired. Returns the ids of
/// the tasks whose entries were repaired.
pub(crate) fn write_entries(
    doc: &LoroDoc,
    peer: PeerID,
    tasks: &[Unprojected],
) -> LoroResult<HashSet<String>> {
    let entries = doc.get_map("tasks");
    let mut repaired = HashSet::new();
    for of in tasks {
        let (task, id) = (&of.task, of.task.task_id.as_str());
        let present = entries.get(id);
        if of.shown.is_some() {
            if of.is_repaired || !is_set_back(doc, peer, &entries, id, present.as_ref()) {
                continue;
            }
            repaired.insert(id.to_owned());
        }
        match present {
            None => put_entry(&entries.ensure_mergeable_map(id)?, task)?,
            Some(ValueOrContainer::Container(Container::Map(present))) => {
                put_entry(&present, task)?;
            }
            // Earlier releases wrote an entry as a plain value.
            Some(_) => {
                let whole: HashMap<String, LoroValue> = entry(task)
                    .filter_map(|(key, value)| Some((key.to_owned(), value?)))
                    .collect();
                entries.insert(id, LoroValue::from(whole))?;
            }
        }
    }
    Ok(repaired)
}

/// Returns whether an entry shows its task as it was before its end, because an editor who had not seen the end wrote
/// it.
fn is_set_back(
    doc: &LoroDoc,
    peer: PeerID,
    entries: &LoroMap,
    id: &str,
    present: Option<&ValueOrContainer>,
) -> bool {
    let had_seen = match present {
        None => return false,
        Some(ValueOrContainer::Container(Container::Map(entry))) => {
            had_seen(doc, peer, entry, STATUS)
        }
        Some(_) => had_seen(doc, peer, entries, id),
    };
    earlier(present).is_some() && had_seen == Some(false)
}

/// The key that shows a task's status.
pub(crate) const STATUS: &str = "status";

/// The longest result address that a document shows, in bytes.
const MAX_SRC: usize = 2048;

/// The keys of a node's data that show a task, with their values.
fn shown(task: &Task) -> [(&'static str, LoroValue); 3] {
    let text = |text: &Option<String>| text.as_deref().map_or(LoroValue::Null, LoroValue::from);
    // Rows of earlier releases may hold megabytes.
    let src = task.result_url.clone().filter(|url| url.len() <= MAX_SRC);
    // An error is shown only if the task is not tried again.
    let error = task
        .error_message
        .as_deref()
        .filter(|_| task.status.is_final());
    let error = if src.is_none() && task.result_url.is_some() {
        Some("the address of the result is too long".to_owned())
    } else {
        error.map(|error| tasks::shortened(error).to_owned())
    };
    [
        (STATUS, task.status.as_str().into()),
        ("src", text(&src)),
        ("error", text(&error)),
    ]
}

/// Returns whether the `data` of a node, or an entry, shows a task that has not ended (`true`) or none at all (`false`).
/// Returns `None` if it shows an end. Only tasks that have ended are looked at again, so the others show what may be
/// from before the end.
pub(crate) fn earlier(data: Option<&ValueOrContainer>) -> Option<bool> {
    let text = |key: &str| match data.and_then(|data| field(data, key)) {
        None | Some(ValueOrContainer::Value(LoroValue::Null)) => Some(String::new()),
        Some(ValueOrContainer::Value(LoroValue::String(text))) => Some(text.to_string()),
        Some(_) => None,
    };
    if !text("src")?.is_empty() || !text("error")?.is_empty() {
        return None;
    }
    match text(STATUS)?.as_str() {
        "" => Some(false),
        "pending" | "processing" => Some(true),
        _ => None,
    }
}

/// Returns whether the `data` of a node shows a task already.
pub(crate) fn shows(data: Option<&ValueOrContainer>, task: &Task) -> bool {
    shown(task).into_iter().all(|(key, value)| {
        let present = data.and_then(|data| field(data, key));
        let present = present.and_then(|present| present.into_value().ok());
        present.unwrap_or(LoroValue::Null) == value
    })
}

/// The fields of a task's entry. A field without a value is not in the entry.
fn entry(task: &Task) -> impl Iterator<Item = (&'static str, Option<LoroValue>)> {
    let more = [
        ("task_type", Some(task.task_type.as_str().into())),
        ("created_at", Some(task.created_at.into())),
        ("completed_at", task.completed_at.map(Into::into)),
        ("result_expires_at", task.result_expires_at.map(Into::into)),
        ("node_id", task.node_id.as_deref().map(Into::into)),
    ];
    let shown = shown(task).map(|(key, value)| (key, Some(value)));
    shown.into_iter().chain(more)
}

/// The value of a key of a map, which is a Loro map or a plain value.
pub(crate) fn field(of: &ValueOrContainer, key: &str) -> Option<ValueOrContainer> {
    match of {
        ValueOrContainer::Container(Container::Map(map)) => map.get(key),
        ValueOrContainer::Value(LoroValue::Map(map)) => {
            map.get(key).cloned().map(ValueOrContainer::Value)
        }
        _ => None,
    }
}

/// Writes a task into a node, unless the node shows it already.
pub(crate) fn write_node(
    nodes: &LoroMap,
    id: &str,
    node: &ValueOrContainer,
    task: &Task,
) -> LoroResult<()> {
    match node {
        ValueOrContainer::Container(Container::Map(node)) => match node.get("data") {
            Some(ValueOrContainer::Container(Container::Map(data))) => put_shown(&data, task),
            Some(ValueOrContainer::Value(data)) => {
                put_whole(node, "data", with_shown(&data, task), task)
            }
            // A `data` that is a text or a list cannot show a task.
            Some(_) => Ok(()),
            None => put_shown(&node.ensure_mergeable_map("data")?, task),
        },
        ValueOrContainer::Value(LoroValue::Map(node)) => {
            let data = node.get("data").unwrap_or(&LoroValue::Null);
            let mut changed: HashMap<String, LoroValue> = (**node)
                .iter()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            changed.insert("data".into(), with_shown(data, task));
            put_whole(nodes, id, changed.into(), task)
        }
        _ => Ok(()),
    }
}

/// A plain `data` with the keys that show the task.
fn with_shown(data: &LoroValue, task: &Task) -> LoroValue {
    let mut changed: HashMap<String, LoroValue> = match data {
        LoroValue::Map(data) => (**data)
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        _ => HashMap::new(),
    };
    for (key, value) in shown(task) {
        if value != LoroValue::Null || changed.contains_key(key) {
            changed.insert(key.to_owned(), value);
        }
    }
    changed.into()
}

/// Writes a task into the `data` of a node.
fn put_shown(data: &LoroMap, task: &Task) -> LoroResult<()> {
    for (key, value) in shown(task) {
        if value != LoroValue::Null || data.get(key).is_some() {
            data.insert(key, value)?;
        }
    }
    Ok(())
}

/// Writes a task into its entry.
fn put_entry(present: &LoroMap, task: &Task) -> LoroResult<()> {
    for (key, value) in entry(task) {
        match value {
            Some(value) => present.insert(key, value)?,
            None if present.get(key).is_some() => present.delete(key)?,
            None => {}
        }
    }
    Ok(())
}

/// Sets a key to a user's plain value, in which a task has changed some fields. A value that is too large for a
/// projection is not written.
fn put_whole(map: &LoroMap, key: &str, value: LoroValue, task: &Task) -> LoroResult<()> {
    if size(&value) > MAX_BYTES {
        tracing::warn!(
            project = task.project_id,
            task_id = task.task_id,
            "a node is too large to show its task"
        );
        return Ok(());
    }
    map.insert(key, value)
}

/// The bytes of a value, without its encoding.
fn size(value: &LoroValue) -> usize {
    match value {
        LoroValue::String(text) => text.len(),
        LoroValue::Binary(bytes) => bytes.len(),
        LoroValue::List(items) => items.iter().map(size).sum(),
        LoroValue::Map(fields) => fields
            .iter()
            .map(|(key, value)| key.len() + size(value))
            .sum(),
        _ => 8,
    }
}

#[cfg(test)]
mod tests;
