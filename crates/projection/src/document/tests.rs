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
    let node = LoroValue::from(json!({ "x": 1, "data": { "taskId": "task_1", "label": "keep" } }));
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
    let old =
        json!({ "status": "completed", "src": "https://a/b", "error": null, "completed_at": 7 });
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

/// A new entry is a mergeable map of the fields, and a later version overwrites them.
#[test]
fn an_entry_is_its_fields_and_a_later_version_overwrites_them() {
    let doc = LoroDoc::new();
    write(&doc, &[task(Status::Completed)]).unwrap();
    doc.commit();
    let mut expected = json!({ "status": "completed", "src": "https://a/b", "error": null });
    expected["task_type"] = json!("demo");
    expected["created_at"] = json!(5);
    assert_eq!(json(&doc)["tasks"]["task_1"], expected);
    // A key that holds anything but a mergeable map is an error here.
    doc.get_map("tasks").ensure_mergeable_map("task_1").unwrap();
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

fn plain(value: Value) -> ValueOrContainer {
    ValueOrContainer::Value(LoroValue::from(value))
}

#[test]
fn an_end_is_shown_by_its_status_or_by_what_came_of_it() {
    for (data, expected) in [
        (json!({}), Some(false)),
        (json!({ "status": null, "src": null }), Some(false)),
        (json!({ "src": "", "error": "" }), Some(false)),
        (json!({ "status": "pending" }), Some(true)),
        (json!({ "status": "processing", "src": null }), Some(true)),
        (json!({ "status": "completed" }), None),
        (json!({ "status": "a user's" }), None),
        (json!({ "status": 1 }), None),
        (json!({ "status": "pending", "src": "https://a/b" }), None),
        (json!({ "status": "pending", "error": "no" }), None),
        (json!({ "src": 1 }), None),
        (json!("no data"), Some(false)),
    ] {
        assert_eq!(earlier(Some(&plain(data.clone()))), expected, "{data}");
    }
    assert_eq!(earlier(None), Some(false));
}

#[test]
fn a_node_shows_a_task_if_all_that_shows_it_is_there() {
    let task = task(Status::Completed);
    for (data, expected) in [
        (json!({ "status": "completed", "src": "https://a/b" }), true),
        (
            json!({ "status": "completed", "src": "https://a/b", "error": null, "x": 1 }),
            true,
        ),
        (json!({ "status": "completed" }), false),
        (json!({ "src": "https://a/b" }), false),
        (json!({ "status": "failed", "src": "https://a/b" }), false),
        (
            json!({ "status": "completed", "src": "https://a/b", "error": "no" }),
            false,
        ),
    ] {
        assert_eq!(shows(Some(&plain(data.clone())), &task), expected, "{data}");
    }
    assert!(!shows(None, &task));
}

#[test]
fn the_longest_address_is_shown_and_a_longer_one_is_an_error() {
    for (length, is_shown) in [(MAX_SRC, true), (MAX_SRC + 1, false)] {
        let task = Task {
            result_url: Some("a".repeat(length)),
            ..task(Status::Completed)
        };
        let [_, (_, src), (_, error)] = shown(&task);
        let expected = if is_shown { length } else { 0 };
        let src = src.as_string().map_or(0, |src| src.len());
        assert_eq!(src, expected);
        assert_eq!(error == LoroValue::Null, is_shown, "{length}");
    }
}

/// A plain node is written whole, so its size is what a projection writes.
#[test]
fn a_plain_node_shows_its_task_up_to_the_size_of_a_projection() {
    // The keys and values beside the filler.
    let beside = "data taskId task_1 status completed src https://a/b x";
    let beside = beside.len() - beside.matches(' ').count();
    let text = |bytes: usize| LoroValue::from("x".repeat(bytes));
    let fillers: [(&str, &dyn Fn(usize) -> LoroValue); 4] = [
        ("text", &text),
        ("bytes", &|bytes| vec![0_u8; bytes].into()),
        ("numbers", &|bytes| {
            let numbers = std::iter::repeat_n(LoroValue::from(1), bytes / 8);
            let values: Vec<LoroValue> = numbers.chain([text(bytes % 8)]).collect();
            values.into()
        }),
        ("fields", &|bytes| {
            let fields = [
                ("key".to_owned(), true.into()),
                ("more".into(), text(bytes - 15)),
            ];
            LoroValue::from(HashMap::<String, LoroValue>::from(fields))
        }),
    ];
    for (name, filler) in fillers {
        for (bytes, is_shown) in [(MAX_BYTES - beside, true), (MAX_BYTES - beside + 1, false)] {
            let doc = LoroDoc::new();
            let data = LoroValue::from(json!({ "taskId": "task_1" }));
            let fields = [("data".to_owned(), data), ("x".to_owned(), filler(bytes))];
            let node = LoroValue::from(HashMap::<String, LoroValue>::from(fields));
            doc.get_map("nodes").insert("node", node).unwrap();
            write(&doc, &[task(Status::Completed)]).unwrap();
            let node = doc.get_map("nodes").get("node").unwrap();
            let data = field(&node, "data").unwrap();
            let src = field(&data, "src");
            assert_eq!(src.is_some(), is_shown, "{name} of {bytes}");
        }
    }
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
