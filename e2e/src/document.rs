//! The tasks that a client's document shows, and the nodes that refer to a task.

use loro::{LoroMap, ToJson};
use serde_json::{Value, json};

use crate::raw::Client;
use crate::tasks::ROUNDS;
use crate::wait::until_within;

/// The three values that a document shows of the task with this row.
pub fn shown(task: &Value) -> [Value; 3] {
    let [status, url, error] =
        ["status", "result_url", "error_message"].map(|column| task[column].clone());
    [status, in_document(&url), error]
}

/// The address of a result as a document holds it: the path alone, if the server keeps the result.
pub fn in_document(result_url: &Value) -> Value {
    let kept = result_url
        .as_str()
        .and_then(|url| url.find("/assets/asset_").map(|at| &url[at..]));
    kept.map_or_else(|| result_url.clone(), Value::from)
}

/// The same three values as they stand in an entry, or in a node's data; null if a key is missing.
pub fn keys(of: &Value) -> [Value; 3] {
    ["status", "src", "error"].map(|key| of[key].clone())
}

/// A task's entry in the map `tasks` of a client's document.
pub fn entry(client: &Client, id: &str) -> Value {
    value(client, "tasks", id)
}

/// A node in the map `nodes` of a client's document.
pub fn node(client: &Client, id: &str) -> Value {
    value(client, "nodes", id)
}

fn value(client: &Client, map: &str, key: &str) -> Value {
    let value = client.doc().get_map(map).get_deep_value();
    let value = value.as_map().and_then(|map| map.get(key).cloned());
    value.map_or(Value::Null, |value| value.to_json_value())
}

/// Makes a node that is a Loro map whose `data` is a nested Loro map.
pub async fn nested_node(client: &Client, key: &str, task_id: Option<&str>) {
    client
        .edit(|doc| {
            let node = doc
                .get_map("nodes")
                .insert_container(key, LoroMap::new())
                .unwrap();
            node.insert("x", 0).unwrap();
            let data = node.insert_container("data", LoroMap::new()).unwrap();
            data.insert("label", "kept").unwrap();
            if let Some(task_id) = task_id {
                data.insert("taskId", task_id).unwrap();
            }
        })
        .await;
}

/// Makes a node that is one plain value.
pub async fn plain_node(client: &Client, key: &str, task_id: &str) {
    let node = json!({ "x": 1, "data": { "label": "kept", "taskId": task_id } });
    client
        .edit(|doc| doc.get_map("nodes").insert(key, node).unwrap())
        .await;
}

/// Waits until a client's document shows a task as its row has it.
pub async fn until_shown(client: &Client, task: &Value) {
    let task_id = task["task_id"].as_str().unwrap();
    let what = format!("{task} in the document");
    until_within(ROUNDS, &what, async || {
        keys(&entry(client, task_id)) == shown(task)
    })
    .await;
}
