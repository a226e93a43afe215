//! A job of Kling, and what Kling says about it.

use std::time::Instant;

use serde_json::{Value, json};

use super::plan::Course;

/// An accepted job.
#[derive(Debug, Clone)]
pub struct Job {
    /// Kling's name of the job.
    pub task_id: String,
    /// Our name of the job, from its submission.
    pub external_task_id: String,
    /// `image2video` or `text2video`.
    pub endpoint: String,
    /// The body of its submission.
    pub body: Value,
    /// When the submission arrived.
    pub arrived: Instant,
    pub(super) course: Course,
    /// Whether the test ended it before its duration was over.
    pub(super) finished: bool,
}

impl Job {
    /// The address of its result.
    pub fn result_url(&self) -> String {
        format!("https://cdn.kling.test/{}.mp4", self.task_id)
    }

    /// The address for its callbacks.
    pub fn callback_url(&self) -> &str {
        self.body["callback_url"].as_str().unwrap_or("")
    }

    /// Its prompt, or nothing.
    pub fn prompt(&self) -> &str {
        self.body["prompt"].as_str().unwrap_or("")
    }

    /// Whether it has not ended yet.
    pub(super) fn is_running(&self) -> bool {
        !self.finished && self.arrived.elapsed() < self.course.duration
    }

    /// What Kling reports about it now.
    pub fn data(&self) -> Value {
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
