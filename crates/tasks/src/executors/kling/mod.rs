//! Kling: video from an image, or from text alone. A job takes minutes; Kling is polled, and calls back.

mod answer;
mod token;

use std::time::Duration;

use async_trait::async_trait;
use platform::{Config, http_client::Limits, setting::number};
use problem::Fields;
use serde_json::{Map, Value, json};

use crate::{
    executor::{Callback, Executor, Failure, Outside, Progress, setting},
    image,
    task::{MAX_TEXT, Task},
};
use answer::{adopted, date, is_token_off, progress, read_answer};
use token::bearer;

/// The service Kling.
pub(super) struct Kling;

const CALL: Limits = Limits {
    timeout: Duration::from_secs(10),
    max_bytes: 1024 * 1024,
};
const POLL: Limits = Limits {
    timeout: Duration::from_secs(7),
    ..CALL
};

platform::settings! {
    /// The address of Kling, which makes videos. The other region is `https://api-beijing.klingai.com`
    pub(super) KLING_BASE_URL = "kling_base_url", Value("https://api-singapore.klingai.com"), Origin;
    /// Kling's API key
    KLING_API_KEY = "kling_api_key", Secret;
    /// The first of the older pair of keys, which is used if there is no `kling_api_key`
    KLING_ACCESS_KEY = "kling_access_key", Secret;
    /// The second of that pair
    KLING_SECRET_KEY = "kling_secret_key", Secret;
    /// The number of jobs that the account may have at Kling at once. Kling refuses more, so further tasks wait
    KLING_PLACES = "kling_places", Value("100"), Number(MOST_PLACES);
    /// The hours that a job may take after Kling has accepted it. Then its task fails; a retry looks for the job's
    /// result first
    KLING_LONGEST_JOB = "kling_longest_job", Value("24"), Number(LONGEST_JOB);
}

/// The most places that an operator may set.
const MOST_PLACES: u32 = 100_000;

/// The most hours for a job that an operator may set: Kling keeps results for so long.
const LONGEST_JOB: u32 = 30 * 24;

/// How long Kling keeps results, in seconds.
const RESULTS_KEPT: u64 = LONGEST_JOB as u64 * 3600;

const DEFAULT_MODEL: &str = "kling-v1";
const IMAGES: &[&str] = &["image_path", "image_tail"];
const ASPECT_RATIOS: &[&str] = &["16:9", "9:16", "1:1"];

/// Checks that the older keys are a pair. An error is in words for the operator.
pub(super) fn check_settings(config: &dyn Config) -> Result<(), String> {
    let pair = [KLING_ACCESS_KEY, KLING_SECRET_KEY];
    let [one, other] = pair.map(|setting| config.get(setting).is_some());
    if one == other || config.get(KLING_API_KEY).is_some() {
        return Ok(());
    }
    let [access, secret] = pair;
    let (there, missing) = if one {
        (access, secret)
    } else {
        (secret, access)
    };
    Err(format!("`{missing}` is missing, which goes with `{there}`"))
}

#[async_trait(?Send)]
impl Executor for Kling {
    fn service(&self) -> &'static str {
        "kling"
    }

    fn task_types(&self) -> &'static [&'static str] {
        &["kling_video"]
    }

    fn title(&self) -> &'static str {
        "Kling"
    }

    /// How many jobs an account may have at once depends on its plan.
    fn places(&self, config: &dyn Config) -> u32 {
        number(config, SETTINGS, KLING_PLACES)
    }

    fn longest_job(&self, config: &dyn Config) -> Duration {
        let hours = number(config, SETTINGS, KLING_LONGEST_JOB);
        Duration::from_secs(u64::from(hours) * 3600)
    }

    fn keeps_results(&self) -> Option<Duration> {
        Some(Duration::from_secs(RESULTS_KEPT))
    }

    fn pictures(&self) -> &'static [&'static str] {
        IMAGES
    }

    fn check(&self, _task_type: &str, params: &mut Fields<'_>) {
        let has_image = params.value("image_path").is_some_and(|v| v != "");
        for name in IMAGES {
            params.text(name, MAX_TEXT);
        }
        if has_image {
            params.text("prompt", MAX_TEXT);
        } else {
            params.required_text("prompt", MAX_TEXT);
            params.one_of("aspect_ratio", ASPECT_RATIOS);
        }
        params.text("negative_prompt", MAX_TEXT);
        params.text("model", 100);
        params.one_of("mode", &["std", "pro"]);
        params.number("cfg_scale", 0.0, 1.0);
        if let Some(duration) = params.number("duration", 5.0, 10.0)
            && duration != 5.0
            && duration != 10.0
        {
            params.wrong("duration", "must be 5 or 10");
        }
    }

    async fn submit(
        &self,
        task: &Task,
        params: &Value,
        outside: &Outside<'_>,
    ) -> Result<Progress, Failure> {
        // Kling knows jobs by the names that we give them: look first for one that may have been begun before.
        if task.was_attempted()
            && let Some(found) = find(params, outside, &task.job()).await?
        {
            return adopted(&found);
        }
        // The job of an earlier run is paid for. Unless it failed, its result serves this run too.
        for name in task.earlier_jobs() {
            if let Some(found) = find(params, outside, name).await?
                && found["task_status"] != "failed"
            {
                return adopted(&found);
            }
        }
        let body = request_body(task, params, outside).await?;
        progress(&call(params, outside, Call::Submit(&body)).await?)
    }

    async fn poll(
        &self,
        task: &Task,
        params: &Value,
        outside: &Outside<'_>,
    ) -> Result<Progress, Failure> {
        let id = task.external_task_id.as_deref().unwrap_or_default();
        progress(&call(params, outside, Call::Find(id)).await?)
    }

    fn process_webhook(&self, body: &Value) -> Option<Callback> {
        // Some callbacks have the data object in an envelope, as answers do.
        let data = body
            .get("data")
            .filter(|data| data.is_object())
            .unwrap_or(body);
        data.get("task_status")?.as_str()?;
        Some(Callback {
            about: Some(data.get("task_id")?.as_str()?.to_owned()),
            news: progress(data),
        })
    }
}

#[derive(Clone, Copy)]
enum Call<'a> {
    Submit(&'a Value),
    Find(&'a str),
}

/// The endpoint of a task: the same to submit it and to ask about it.
fn endpoint(params: &Value) -> &'static str {
    let has_image = params["image_path"].as_str().is_some_and(|i| !i.is_empty());
    if has_image {
        "/v1/videos/image2video"
    } else {
        "/v1/videos/text2video"
    }
}

async fn request_body(
    task: &Task,
    params: &Value,
    outside: &Outside<'_>,
) -> Result<Value, Failure> {
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() && value != "" {
            body.insert(name.to_owned(), value);
        }
    };
    put(
        "model_name",
        json!(params["model"].as_str().unwrap_or(DEFAULT_MODEL)),
    );
    for (name, from) in [("image", "image_path"), ("image_tail", "image_tail")] {
        let Some(text) = params[from].as_str().filter(|text| !text.is_empty()) else {
            continue;
        };
        let given = image::read(text).map_err(Failure::Permanent)?;
        let value = match image::public_address(&given, outside)? {
            // Kling fetches the image itself, but may not reach this server.
            Some(url) => json!(url),
            None => {
                let image = image::obtain(given, &task.project_id, outside).await?;
                json!(image.base64())
            }
        };
        put(name, value);
    }
    if endpoint(params).ends_with("text2video") {
        put("aspect_ratio", params["aspect_ratio"].clone());
    }
    for name in ["prompt", "negative_prompt", "mode"] {
        put(name, params[name].clone());
    }
    let number = |name: &str| match &params[name] {
        Value::String(text) => text.trim().parse::<f64>().ok(),
        value => value.as_f64(),
    };
    put(
        "duration",
        json!(number("duration").map_or("5".into(), |n| n.to_string())),
    );
    put("cfg_scale", json!(number("cfg_scale")));
    put("external_task_id", json!(task.job()));
    put("callback_url", json!(outside.callback_url));
    Ok(Value::Object(body))
}

/// Finds the `data` of a job by our name or Kling's; `None` if there is no such job.
async fn find(params: &Value, outside: &Outside<'_>, name: &str) -> Result<Option<Value>, Failure> {
    match call(params, outside, Call::Find(name)).await {
        Ok(found) => Ok(Some(found)),
        Err(Failure::Permanent(_)) => Ok(None),
        // There may be such a job, so this is no reason to pay for another.
        Err(Failure::Access(reason)) => Err(Failure::retry(reason)),
        Err(later) => Err(later),
    }
}

/// Calls Kling and returns the `data` of its answer. If a token is too early or expired by Kling's clock, another is
/// made by that clock.
async fn call(params: &Value, outside: &Outside<'_>, call: Call<'_>) -> Result<Value, Failure> {
    let now = outside.clock.unix_seconds();
    let answer = send(params, outside, call, now).await?;
    if !is_token_off(&answer) {
        return read_answer(&answer);
    }
    let theirs = date(&answer).unwrap_or(now - UNKNOWN_SKEW);
    read_answer(&send(params, outside, call, theirs).await?)
}

/// The seconds by which our clock is taken to be ahead if Kling says that a token is too early, but sends no date.
const UNKNOWN_SKEW: i64 = 60;

async fn send(
    params: &Value,
    outside: &Outside<'_>,
    call: Call<'_>,
    now: i64,
) -> Result<http::Response<Vec<u8>>, Failure> {
    let token = bearer(outside.config, now)?;
    let base = setting(outside.config, KLING_BASE_URL)?;
    let base = base.ok_or_else(|| Failure::access("the server has no `kling_base_url`"))?;
    let url = format!("{}{}", base.trim_end_matches('/'), endpoint(params));
    let (request, body, limits) = match call {
        Call::Submit(body) => {
            let request = http::Request::post(url).header("content-type", "application/json");
            (request, body.to_string().into_bytes(), CALL)
        }
        Call::Find(id) => (http::Request::get(format!("{url}/{id}")), Vec::new(), POLL),
    };
    let request = request
        .header("authorization", format!("Bearer {token}"))
        .body(body)
        .map_err(|_| {
            Failure::access("`kling_base_url` is not a URL, or Kling's key cannot be sent")
        })?;
    let answer = outside.http.send(request, limits).await;
    answer.map_err(|error| Failure::retry(format!("Kling: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::Media;

    #[test]
    fn callbacks_are_read() {
        let done = json!({
            "task_id": "k1", "task_status": "succeed", "task_status_msg": "",
            "task_result": { "videos": [{ "id": "v", "url": "https://cdn/v.mp4", "duration": "5" }] },
        });
        let callback = Kling.process_webhook(&done).unwrap();
        assert_eq!(callback.about.as_deref(), Some("k1"));
        let Ok(Progress::Done(product)) = callback.news else {
            panic!("not done");
        };
        assert_eq!(product.media, [Media::Url("https://cdn/v.mp4".into())]);
        let failed = json!({ "task_id": "k1", "task_status": "failed", "task_status_msg": "no" });
        let news = Kling.process_webhook(&failed).unwrap().news;
        assert!(matches!(news, Err(Failure::Permanent(reason)) if reason.contains("no")));
        for nonsense in [
            json!(null),
            json!({}),
            json!({ "task_status": 3, "task_id": "x" }),
        ] {
            assert_eq!(Kling.process_webhook(&nonsense), None);
        }
    }
}
