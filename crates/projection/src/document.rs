//! The part of a document that shows a task.
//!
//! The map `tasks` holds an entry under the task's id. Each node of the map `nodes` that belongs to the task
//! shows it in `data.status`, `data.src` and `data.error`, and only there, so that a concurrent move of the node
//! survives. Which node belongs to which task is decided in [`crate::nodes`].
//!
//! A node may be a Loro map whose `data` is a nested Loro map; then a change touches those three keys
//! alone. If its `data`, or the whole node, is a plain JSON value, that is written whole.
//!
//! An entry or a `data` that is not there yet is made as a mergeable map: a client that makes the same one at the same
//! time writes into the same map, so that neither side loses a field. A key that holds a value already cannot become one.

use std::collections::{HashMap, HashSet};

use loro::{Container, LoroDoc, LoroMap, LoroResult, LoroValue, PeerID, ValueOrContainer};
use tasks::{Task, rows::Unprojected};

use crate::seen::had_seen;

/// The most bytes of one projection, because a larger update would stay in the room, and every client that joins would
/// load it.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;

/// Writes these tasks into the map `tasks`, as the peer that writes all projections. Each version of a task is written
/// into its entry once, and what a user writes or deletes there afterwards stands, also the deletion of the whole
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
                put(&entries, id, whole.into())?;
            }
        }
    }
    Ok(repaired)
}

/// Returns whether an entry shows its task as it was before its end, by an editor who had not seen the end.
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
/// Only tasks that have ended are looked at again, so this may be what stood there before their end. `None` if it shows
/// an end.
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

/// The fields of a task's entry. One without a value is not in the entry.
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

/// The value of a key of a map, be it a Loro map or a plain value.
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
            // A text or a list is no node that shows a task.
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
            put(data, key, value)?;
        }
    }
    Ok(())
}

/// Writes a task into its entry.
fn put_entry(present: &LoroMap, task: &Task) -> LoroResult<()> {
    for (key, value) in entry(task) {
        match value {
            Some(value) => put(present, key, value)?,
            None if present.get(key).is_some() => present.delete(key)?,
            None => {}
        }
    }
    Ok(())
}

/// Sets a key of a map. An equal value is not written again.
fn put(map: &LoroMap, key: &str, value: LoroValue) -> LoroResult<()> {
    match map.get(key) {
        Some(ValueOrContainer::Value(present)) if present == value => Ok(()),
        _ => map.insert(key, value),
    }
}

/// Sets a key to a plain value of a user in which a task changes some fields. A value that is larger than a projection
/// may be is left as it is.
fn put_whole(map: &LoroMap, key: &str, value: LoroValue, task: &Task) -> LoroResult<()> {
    if size(&value) > MAX_BYTES {
        tracing::warn!(
            project = task.project_id,
            task_id = task.task_id,
            "a node is too large to show its task"
        );
        return Ok(());
    }
    put(map, key, value)
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
mod tests {
    use super::*;
    use loro::ToJson;
    use serde_json::{Value, json};
    use tasks::Status;

    use crate::nodes;

    fn write(doc: &LoroDoc, tasks: &[Task]) -> LoroResult<()> {
        let unprojected = |task: &Task| Unprojected {
            task: task.clone(),
            is_superseded: false,
            shown: None,
            is_repaired: false,
        };
        let tasks: Vec<Unprojected> = tasks.iter().map(unprojected).collect();
        write_entries(doc, doc.peer_id(), &tasks)?;
        nodes::write(doc, doc.peer_id(), &tasks, &HashSet::new())?;
        Ok(())
    }

    fn task(status: Status) -> Task {
        Task {
            task_id: "task_1".into(),
            task_type: "demo".into(),
            status,
            result_url: (status == Status::Completed).then(|| "https://a/b".into()),
            ..Task::new(5)
        }
    }

    fn json(doc: &LoroDoc) -> Value {
        serde_json::from_str(&doc.get_deep_value().to_json()).unwrap()
    }

    fn nested(doc: &LoroDoc, id: &str) -> LoroMap {
        let node = doc
            .get_map("nodes")
            .insert_container(id, LoroMap::new())
            .unwrap();
        node.insert("x", 1).unwrap();
        node
    }

    #[test]
    fn every_form_of_a_node_shows_its_task() {
        let doc = LoroDoc::new();
        let data = nested(&doc, "maps")
            .insert_container("data", LoroMap::new())
            .unwrap();
        data.insert("taskId", "task_1").unwrap();
        data.insert("label", "keep").unwrap();
        let plain = LoroValue::from(json!({ "taskId": "task_1", "label": "keep" }));
        nested(&doc, "plain data").insert("data", plain).unwrap();
        let node =
            LoroValue::from(json!({ "x": 1, "data": { "taskId": "task_1", "label": "keep" } }));
        doc.get_map("nodes").insert("plain", node).unwrap();
        nested(&doc, "another's")
            .insert("data", LoroValue::from(json!({ "taskId": "task_2" })))
            .unwrap();
        nested(&doc, "unassigned");
        doc.get_map("nodes").insert("no node", "text").unwrap();
        doc.commit();
        let before = json(&doc);

        write(&doc, &[task(Status::Completed)]).unwrap();
        doc.commit();
        let after = json(&doc);
        for id in ["maps", "plain data", "plain"] {
            let node = &after["nodes"][id];
            assert_eq!(node["x"], 1, "{id}");
            assert_eq!(
                node["data"],
                json!({ "taskId": "task_1", "label": "keep", "status": "completed", "src": "https://a/b" }),
                "{id}"
            );
        }
        for id in ["another's", "unassigned", "no node"] {
            assert_eq!(after["nodes"][id], before["nodes"][id]);
        }
        assert_eq!(after["tasks"]["task_1"]["status"], "completed");

        let version = doc.oplog_vv();
        write(&doc, &[task(Status::Completed)]).unwrap();
        doc.commit();
        assert_eq!(doc.oplog_vv(), version, "the same again changes nothing");
    }

    /// Applies to each of two documents what the other has written.
    fn exchange(one: &LoroDoc, other: &LoroDoc) {
        let all = || loro::ExportMode::all_updates();
        let (from_one, from_other) = (one.export(all()).unwrap(), other.export(all()).unwrap());
        one.import(&from_other).unwrap();
        other.import(&from_one).unwrap();
        assert_eq!(json(one), json(other));
    }

    #[test]
    fn what_a_client_writes_at_the_same_time_into_a_new_map_stays() {
        let mut task = task(Status::Completed);
        task.node_id = Some("mine".into());
        for task_is_first in [true, false] {
            let server = LoroDoc::new();
            server.set_peer_id(u64::from(task_is_first)).unwrap();
            nested(&server, "mine");
            server.commit();
            let client = server.fork();
            client.set_peer_id(u64::from(!task_is_first)).unwrap();
            let node = client.get_map("nodes").get("mine").unwrap();
            let node = node.into_container().unwrap().into_map().unwrap();
            let data = node.ensure_mergeable_map("data").unwrap();
            data.insert("label", "the client's").unwrap();
            let entry = client.get_map("tasks");
            let entry = entry.ensure_mergeable_map("task_1").unwrap();
            entry.insert("note", "the client's").unwrap();
            client.commit();
            write(&server, &[task.clone()]).unwrap();
            server.commit();
            exchange(&server, &client);
            let merged = json(&client);
            let data = &merged["nodes"]["mine"]["data"];
            assert_eq!(
                data,
                &json!({ "label": "the client's", "status": "completed", "src": "https://a/b" })
            );
            let entry = &merged["tasks"]["task_1"];
            assert_eq!(entry["note"], "the client's");
            assert_eq!(entry["src"], "https://a/b");
        }
    }

    #[test]
    fn two_projections_at_once_of_a_new_task_write_one_entry() {
        let [one, other] = [Status::Processing, Status::Completed].map(|status| {
            let doc = LoroDoc::new();
            write(&doc, &[task(status)]).unwrap();
            doc.commit();
            doc
        });
        exchange(&one, &other);
        write(&one, &[task(Status::Completed)]).unwrap();
        one.commit();
        assert_eq!(json(&one)["tasks"]["task_1"]["src"], "https://a/b");
        assert_eq!(json(&one)["tasks"]["task_1"]["status"], "completed");
    }

    #[test]
    fn an_entry_of_an_earlier_release_is_kept_as_a_value() {
        let doc = LoroDoc::new();
        let old = json!({ "status": "completed", "src": "https://a/b", "error": null, "completed_at": 7 });
        let entries = doc.get_map("tasks");
        entries.insert("task_1", old.clone()).unwrap();
        let plain = entries.insert_container("task_2", LoroMap::new()).unwrap();
        plain.insert("completed_at", 7).unwrap();
        plain.insert("note", "a client's").unwrap();
        let tasks = ["task_1", "task_2"].map(|id| Task {
            task_id: id.into(),
            ..task(Status::Processing)
        });
        write(&doc, &tasks).unwrap();
        doc.commit();
        let expected = json!({
            "status": "processing", "src": null, "error": null, "task_type": "demo", "created_at": 5,
        });
        let after = json(&doc);
        assert_eq!(after["tasks"]["task_1"], expected);
        let mut with_note = expected;
        with_note["note"] = json!("a client's");
        assert_eq!(after["tasks"]["task_2"], with_note);
    }

    /// A new entry as a client of a release before 1.13 sees it: that has no mergeable maps, so it sees bytes.
    #[test]
    fn an_entry_is_its_fields_and_its_key_holds_a_mark() {
        let doc = LoroDoc::new();
        write(&doc, &[task(Status::Completed)]).unwrap();
        doc.commit();
        let mut expected = json!({ "status": "completed", "src": "https://a/b", "error": null });
        expected["task_type"] = json!("demo");
        expected["created_at"] = json!(5);
        assert_eq!(json(&doc)["tasks"]["task_1"], expected);
        let again = task(Status::Processing);
        write(&doc, &[again]).unwrap();
        doc.commit();
        assert_eq!(json(&doc)["tasks"]["task_1"]["src"], Value::Null);
    }

    #[test]
    fn the_node_that_a_task_was_posted_for_needs_no_task_id() {
        let doc = LoroDoc::new();
        nested(&doc, "mine");
        let mut task = task(Status::Processing);
        task.node_id = Some("mine".into());
        write(&doc, &[task]).unwrap();
        doc.commit();
        assert_eq!(
            json(&doc)["nodes"]["mine"]["data"],
            json!({ "status": "processing" })
        );
    }

    /// A user drags the node while its task completes.
    #[test]
    fn a_move_at_the_same_time_survives() {
        let doc = LoroDoc::new();
        let node = nested(&doc, "n");
        let data = node.insert_container("data", LoroMap::new()).unwrap();
        data.insert("taskId", "task_1").unwrap();
        doc.commit();
        let server = doc.fork();
        node.insert("x", 99).unwrap();
        doc.commit();
        write(&server, &[task(Status::Completed)]).unwrap();
        server.commit();
        doc.import(&server.export(loro::ExportMode::all_updates()).unwrap())
            .unwrap();
        let node = &json(&doc)["nodes"]["n"];
        assert_eq!(node["x"], 99);
        assert_eq!(node["data"]["src"], "https://a/b");
    }
}
