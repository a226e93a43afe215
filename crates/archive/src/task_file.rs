//! A task in an archive.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tasks::Status;
use url::Url;

use crate::contents::{LATEST, MAX_ADDRESS, is_text};

/// The file `tasks/{id}.json`: the part of a task that users see, and that a retry needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TaskFile {
    pub(crate) task_id: String,
    pub(crate) task_type: String,
    pub(crate) status: String,
    pub(crate) external_service: Option<String>,
    /// The parameters as JSON. `result_data`, `tags` and `metadata` are JSON, too.
    pub(crate) params: String,
    pub(crate) result_url: Option<String>,
    pub(crate) result_data: Option<String>,
    pub(crate) error_message: Option<String>,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
    pub(crate) completed_at: Option<i64>,
    pub(crate) retry_count: i64,
    pub(crate) max_retries: i64,
    pub(crate) node_id: Option<String>,
    pub(crate) tags: Option<String>,
    pub(crate) metadata: Option<String>,
}

impl TaskFile {
    /// The bytes of the task's texts.
    pub(crate) fn size(&self) -> usize {
        let optional = [
            &self.external_service,
            &self.result_url,
            &self.result_data,
            &self.error_message,
            &self.node_id,
            &self.tags,
            &self.metadata,
        ];
        let optional = optional.into_iter().flatten();
        let texts = [&self.task_id, &self.task_type, &self.status, &self.params];
        texts.into_iter().chain(optional).map(String::len).sum()
    }

    /// Refuses a task that could not have been a row of a database.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let is_object = |text: &str| serde_json::from_str::<Map<String, Value>>(text).is_ok();
        let is_json = |text: &Option<String>| {
            let text = text.as_deref();
            text.is_none_or(|text| serde_json::from_str::<Value>(text).is_ok())
        };
        let is_word = |text: &str, longest: usize| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
            (1..=longest).contains(&text.len()) && text.bytes().all(fits)
        };
        if !is_word(&self.task_id, 80) || !is_text(&self.task_type) {
            return Err("has an id or a type that is not valid for a task");
        }
        if !self.external_service.as_deref().is_none_or(is_text) {
            return Err("has a service that is not valid for a task");
        }
        let times = [
            Some(self.created_at),
            Some(self.updated_at),
            self.completed_at,
        ];
        if !times
            .into_iter()
            .flatten()
            .all(|time| (0..=LATEST).contains(&time))
        {
            return Err("has a time that is not valid for a task");
        }
        if Status::parse(&self.status).is_none() {
            return Err("has an unknown status");
        }
        if !is_object(&self.params) || !is_json(&self.result_data) {
            return Err("has a field that is not the JSON that it should be");
        }
        let (node, tags, metadata) = (&self.node_id, &self.tags, &self.metadata);
        if !tasks::may_be_columns(node.as_deref(), tags.as_deref(), metadata.as_deref()) {
            return Err("has a node, tags or metadata that are not valid for a task");
        }
        let error = self.error_message.as_deref().unwrap_or_default();
        if tasks::shortened(error) != error {
            return Err("has an error message that is too long for a task");
        }
        if !self.result_url.as_deref().is_none_or(is_address) {
            return Err("has a result at an address that is not valid for a result");
        }
        Ok(())
    }
}

/// Returns whether a result may be at this address: an address of the web, or the path of an asset.
fn is_address(address: &str) -> bool {
    if address.len() > MAX_ADDRESS {
        return false;
    }
    match address.strip_prefix("/assets/") {
        Some(id) => tasks::is_asset_id(id),
        None => Url::parse(address).is_ok_and(|url| matches!(url.scheme(), "http" | "https")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The size counts every text, so that a batch of tasks has a bound of bytes, whatever their texts are.
    #[test]
    fn each_text_of_a_task_counts() {
        let size = |field: &str, value: Value| {
            let mut task = json!({
                "task_id": "", "task_type": "demo", "status": "failed", "params": "{}",
                "created_at": 1, "updated_at": 1, "retry_count": 0, "max_retries": 3,
            });
            task[field] = value;
            serde_json::from_value::<TaskFile>(task).unwrap().size()
        };
        let least = size("task_id", json!(""));
        for field in [
            "task_id",
            "params",
            "external_service",
            "result_url",
            "result_data",
            "error_message",
            "node_id",
            "tags",
            "metadata",
        ] {
            assert!(size(field, json!("x".repeat(100))) >= least + 98, "{field}");
        }
    }
}
