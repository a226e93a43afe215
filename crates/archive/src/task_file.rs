//! A task in an archive: `tasks/{id}.json`.

use serde_json::{Map, Value};
use tasks::{Status, rows::PortableTask};
use url::Url;

use crate::field::{LATEST, MAX_TEXT, is_text};

/// Refuses a task that could not have been a row of a database.
pub(crate) fn check(task: &PortableTask) -> Result<(), &'static str> {
    let is_object = |text: &str| serde_json::from_str::<Map<String, Value>>(text).is_ok();
    let is_json = |text: &Option<String>| {
        let text = text.as_deref();
        text.is_none_or(|text| serde_json::from_str::<Value>(text).is_ok())
    };
    let is_word = |text: &str, longest: usize| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        (1..=longest).contains(&text.len()) && text.bytes().all(fits)
    };
    if !is_word(&task.task_id, 80) || !is_text(&task.task_type) {
        return Err("has an id or a type that is not valid for a task");
    }
    if !task.external_service.as_deref().is_none_or(is_text) {
        return Err("has a service that is not valid for a task");
    }
    let times = [
        Some(task.created_at),
        Some(task.updated_at),
        task.completed_at,
    ];
    if !times
        .into_iter()
        .flatten()
        .all(|time| (0..=LATEST).contains(&time))
    {
        return Err("has a time that is not valid for a task");
    }
    if Status::parse(&task.status).is_none() {
        return Err("has an unknown status");
    }
    if !is_object(&task.params) || !is_json(&task.result_data) {
        return Err("has a field that is not the JSON that it should be");
    }
    let (node, tags, metadata) = (&task.node_id, &task.tags, &task.metadata);
    if !tasks::may_be_columns(node.as_deref(), tags.as_deref(), metadata.as_deref()) {
        return Err("has a node, tags or metadata that are not valid for a task");
    }
    let error = task.error_message.as_deref().unwrap_or_default();
    if tasks::shortened(error) != error {
        return Err("has an error message that is too long for a task");
    }
    if !task.result_url.as_deref().is_none_or(is_address) {
        return Err("has a result at an address that is not valid for a result");
    }
    Ok(())
}

/// Returns whether a result may be at this address: an address of the web, or the path of an asset.
fn is_address(address: &str) -> bool {
    if address.len() > MAX_TEXT {
        return false;
    }
    match address.strip_prefix("/assets/") {
        Some(id) => tasks::is_asset_id(id),
        None => Url::parse(address).is_ok_and(|url| matches!(url.scheme(), "http" | "https")),
    }
}
