//! The event of a task's change.

use serde_json::{Value, json};

use crate::task::Task;

/// The message on [`wire::TASK_CHANGES`] about a task.
pub(crate) fn event(task: &Task) -> Vec<u8> {
    json!({ "task_id": task.task_id, "project_id": task.project_id, "status": task.status })
        .to_string()
        .into_bytes()
}

/// The project of a message on the channel `task-events`; `None` if the message is not an event.
pub fn project_of_event(message: &[u8]) -> Option<String> {
    let event: Value = serde_json::from_slice(message).ok()?;
    Some(event.get("project_id")?.as_str()?.to_owned())
}
