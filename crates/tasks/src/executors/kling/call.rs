//! The calls of Kling's API, in both generations.

use std::time::Duration;

use platform::http_client::Limits;
use serde_json::Value;

use super::{
    answer::{date, id, is_token_off, read_answer},
    models::Generation,
    request::{begins_with_picture, has_image, model},
    settings::KLING_BASE_URL,
    token::{bearer, key},
};
use crate::{
    executor::{Context, Failure, is_job_name, setting},
    task::Task,
};

const CALL: Limits = Limits {
    timeout: Duration::from_secs(10),
    max_bytes: 1024 * 1024,
};
const POLL: Limits = Limits {
    timeout: Duration::from_secs(7),
    ..CALL
};

/// The way to one task's job.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) generation: Generation,
    pub(super) params: &'a Value,
    pub(super) context: &'a Context<'a>,
}

impl Way<'_> {
    /// Submits a job, and returns the `data` of the answer.
    pub(super) async fn submit(&self, body: &Value) -> Result<Value, Failure> {
        let path = match self.generation {
            Generation::First => self.first_path().to_owned(),
            Generation::Second => {
                let kind = if begins_with_picture(self.params) {
                    "image-to-video"
                } else {
                    "text-to-video"
                };
                format!("/{kind}/{}", model(self.params))
            }
        };
        call(self.context, self.generation, &path, Some(body)).await
    }

    /// Finds the `data` of a job by our name or Kling's; `None` if there is no such job.
    pub(super) async fn find(&self, task: &Task, name: &str) -> Result<Option<Value>, Failure> {
        match self.look_up(task, name).await {
            Ok(found) => Ok(Some(found)),
            Err(Failure::Permanent(_)) => Ok(None),
            // There may be such a job, so this is no reason to pay for another.
            Err(Failure::Access(reason)) => Err(Failure::retry(reason)),
            Err(later) => Err(later),
        }
    }

    /// The `data` of a job by our name or Kling's.
    pub(super) async fn look_up(&self, task: &Task, name: &str) -> Result<Value, Failure> {
        // The row may have the name from a plain callback or an earlier release.
        if !is_job_name(name) {
            return Err(Failure::permanent("Kling knows no job by this name"));
        }
        if self.generation == Generation::First {
            let path = format!("{}/{name}", self.first_path());
            return call(self.context, self.generation, &path, None).await;
        }
        let is_ours = Task::id_of_job(name) == task.task_id;
        let which = if is_ours {
            "external_task_ids"
        } else {
            "task_ids"
        };
        let path = format!("/tasks?{which}={name}");
        let found = call(self.context, self.generation, &path, None).await?;
        let is_it = |job: &&Value| id(job) == name || job["external_id"] == name;
        jobs(&found)
            .iter()
            .find(is_it)
            .cloned()
            .ok_or_else(|| Failure::permanent("Kling does not know the job"))
    }

    /// The path of the first generation: the same to submit a job and to ask about it.
    fn first_path(&self) -> &'static str {
        if has_image(self.params) {
            "/v1/videos/image2video"
        } else {
            "/v1/videos/text2video"
        }
    }
}

/// The jobs in an answer of the second generation.
pub(super) fn jobs(data: &Value) -> &[Value] {
    match data {
        Value::Array(jobs) => jobs,
        one => std::slice::from_ref(one),
    }
}

/// Calls Kling and returns the `data` of its answer. If a token is too early or expired by Kling's clock, another is
/// made by that clock.
pub(super) async fn call(
    context: &Context<'_>,
    generation: Generation,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, Failure> {
    let now = context.clock.unix_seconds();
    let token = |now| match generation {
        Generation::First => bearer(context.config, now),
        Generation::Second => key(context.config),
    };
    let answer = send(context, path, body, &token(now)?).await?;
    if !is_token_off(&answer) {
        return read_answer(&answer);
    }
    let theirs = date(&answer).unwrap_or(now - UNKNOWN_SKEW);
    read_answer(&send(context, path, body, &token(theirs)?).await?)
}

/// The seconds by which our clock is taken to be ahead if Kling says that a token is too early, but sends no date.
const UNKNOWN_SKEW: i64 = 60;

async fn send(
    context: &Context<'_>,
    path: &str,
    body: Option<&Value>,
    token: &str,
) -> Result<http::Response<Vec<u8>>, Failure> {
    let base = setting(context.config, KLING_BASE_URL)?;
    let base = base.ok_or_else(|| Failure::access("the server has no `kling_base_url`"))?;
    let url = format!("{}{path}", base.trim_end_matches('/'));
    let (request, body, limits) = match body {
        Some(body) => {
            let request = http::Request::post(url).header("content-type", "application/json");
            (request, body.to_string().into_bytes(), CALL)
        }
        None => (http::Request::get(url), Vec::new(), POLL),
    };
    let request = request
        .header("authorization", format!("Bearer {token}"))
        .body(body)
        .map_err(|_| {
            Failure::access("`kling_base_url` is not a URL, or Kling's key cannot be sent")
        })?;
    let answer = context.http.send(request, limits).await;
    answer.map_err(|error| Failure::retry(format!("Kling: {error}")))
}
