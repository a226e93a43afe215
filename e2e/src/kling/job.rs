//! A job of Kling, and what Kling says about it.

use std::time::Instant;

use serde_json::{Value, json};

use super::plan::Course;

/// An accepted job.
#[derive(Debug, Clone)]
pub struct Job {
    /// The name that Kling gave the job.
    pub task_id: String,
    /// The app's name for the job, from its submission.
    pub external_task_id: String,
    /// The endpoint: `image2video` or `text2video`; in the second generation `image-to-video` or `text-to-video`.
    pub endpoint: String,
    /// The model in the path, which only the second generation has.
    pub model: Option<String>,
    /// The body of its submission.
    pub body: Value,
    /// The time at which the submission arrived.
    pub arrived: Instant,
    /// The origin to which it was submitted.
    pub(super) origin: String,
    pub(super) course: Course,
    /// Says whether the test ended it before its duration was over.
    pub(super) finished: bool,
}

impl Job {
    /// The address of its result.
    pub fn result_url(&self) -> String {
        let origin = match self.course.film {
            Some(_) => &self.origin,
            None => "https://cdn.kling.test",
        };
        format!("{origin}/films/{}.mp4", self.task_id)
    }

    /// The address for its callbacks.
    pub fn callback_url(&self) -> &str {
        let first = self.body["callback_url"].as_str();
        let second = self.body["options"]["callback_url"].as_str();
        first.or(second).unwrap_or("")
    }

    /// The prompt; empty if it has none.
    pub fn prompt(&self) -> &str {
        prompt(&self.body)
    }

    /// Returns whether it has not ended yet.
    pub(super) fn is_running(&self) -> bool {
        !self.finished && self.arrived.elapsed() < self.course.duration
    }

    /// The report that Kling gives about it now, in the format of its generation.
    pub fn data(&self) -> Value {
        let first = self.data_of_first();
        if self.model.is_none() {
            return first;
        }
        let status = first["task_status"].as_str().unwrap_or("");
        let mut data = json!({
            "id": self.task_id,
            "status": if status == "succeed" { "succeeded" } else { status },
            "message": first["task_status_msg"],
            "external_id": self.external_task_id,
            "create_time": first["created_at"],
            "update_time": first["updated_at"],
            "outputs": [],
        });
        if status == "succeed" {
            let url = self.result_url();
            data["outputs"] =
                json!([{ "type": "video", "id": self.task_id, "url": url, "duration": "5" }]);
            data["billing"] = json!([{ "charge_type": "unit", "amount": "2" }]);
        }
        data
    }

    fn data_of_first(&self) -> Value {
        let age = self.arrived.elapsed();
        let status = if self.is_running() {
            if age < self.course.duration / 4 {
                "submitted"
            } else {
                "processing"
            }
        } else if self.course.failure.is_some() {
            "failed"
        } else {
            "succeed"
        };
        let mut data = json!({
            "task_id": self.task_id,
            "task_status": status,
            "task_status_msg": "",
            "task_info": { "external_task_id": self.external_task_id },
            "created_at": 1_722_769_557_708_u64,
            "updated_at": 1_722_769_557_708_u64,
        });
        match status {
            "succeed" => {
                let video =
                    json!({ "id": self.task_id, "url": self.result_url(), "duration": "5" });
                data["task_result"] = json!({ "videos": [video] });
            }
            "failed" => data["task_status_msg"] = json!(self.course.failure),
            _ => {}
        }
        data
    }
}

/// The app's name for a job, in a body of either generation.
pub(super) fn name(body: &Value) -> &str {
    let first = body["external_task_id"].as_str();
    let second = body["options"]["external_task_id"].as_str();
    first.or(second).unwrap_or("")
}

/// The prompt in a body of either generation.
pub(super) fn prompt(body: &Value) -> &str {
    let contents = body["contents"].as_array().into_iter().flatten();
    let mut prompts = contents.filter(|one| one["type"] == "prompt");
    let second = || prompts.next().and_then(|one| one["text"].as_str());
    body["prompt"].as_str().or_else(second).unwrap_or("")
}
