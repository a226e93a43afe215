//! Kling: video from an image, or from text alone. It works for minutes, is polled, and calls back.

use std::time::Duration;

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::DateTime;
use hmac::{Hmac, Mac};
use platform::{Config, http_client::Limits};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use super::{Callback, Executor, Failure, Media, Outside, Product, Progress, setting};
use crate::{Fields, Task, create::MAX_TEXT, image};

/// The service.
pub(super) struct Kling;

const CALL: Limits = Limits {
    timeout: Duration::from_secs(10),
    max_bytes: 1024 * 1024,
};
const POLL: Limits = Limits {
    timeout: Duration::from_secs(7),
    ..CALL
};

const DEFAULT_MODEL: &str = "kling-v1";
const ASPECT_RATIOS: &[&str] = &["16:9", "9:16", "1:1"];

#[async_trait(?Send)]
impl Executor for Kling {
    fn service(&self) -> &'static str {
        "kling"
    }

    fn task_types(&self) -> &'static [&'static str] {
        &["kling_video"]
    }

    fn check(&self, _task_type: &str, params: &mut Fields<'_>) {
        let has_image = params.value("image_path").is_some_and(|v| v != "");
        for name in ["image_path", "image_tail"] {
            if let Some(text) = params.text(name, 4 * image::MAX_IMAGE_BYTES / 3 + 1024)
                && let Err(reason) = image::read(text)
            {
                params.wrong(name, reason);
            }
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

    async fn submit(&self, task: &Task, outside: &Outside<'_>) -> Result<Progress, Failure> {
        // It knows jobs by our names: one that may have been begun before is looked for first.
        if task.was_attempted()
            && let Some(found) = find(task, outside, &task.job()).await?
        {
            return adopted(&found);
        }
        // The job of an earlier run is paid for. Unless it failed, its result is this run's too.
        for name in task.earlier_jobs() {
            if let Some(found) = find(task, outside, name).await?
                && found["task_status"] != "failed"
            {
                return adopted(&found);
            }
        }
        let body = request_body(task, outside).await?;
        progress(&call(task, outside, Call::Submit(&body)).await?)
    }

    async fn poll(&self, task: &Task, outside: &Outside<'_>) -> Result<Progress, Failure> {
        let id = task.external_task_id.as_deref().unwrap_or_default();
        progress(&call(task, outside, Call::Find(id)).await?)
    }

    fn process_webhook(&self, body: &Value) -> Option<Callback> {
        // Some of its callbacks have the data object in an envelope, as its answers do.
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

async fn request_body(task: &Task, outside: &Outside<'_>) -> Result<Value, Failure> {
    let params = task.params();
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
            // Kling fetches it itself, but may not reach what is kept here.
            Some(url) => json!(url),
            None => {
                let image = image::obtain(given, &task.project_id, outside).await?;
                json!(image.base64())
            }
        };
        put(name, value);
    }
    if endpoint(&params).ends_with("text2video") {
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

/// The `data` of a job by our name or Kling's; `None` if there is no such job.
async fn find(task: &Task, outside: &Outside<'_>, name: &str) -> Result<Option<Value>, Failure> {
    match call(task, outside, Call::Find(name)).await {
        Ok(found) => Ok(Some(found)),
        Err(Failure::Permanent(_)) => Ok(None),
        // There may be one, so this is no reason to pay for another.
        Err(Failure::Access(reason)) => Err(Failure::retry(reason)),
        Err(later) => Err(later),
    }
}

/// Calls Kling and returns the `data` of its answer. If a token is too early or expired by Kling's clock, another is
/// made by that clock.
async fn call(task: &Task, outside: &Outside<'_>, call: Call<'_>) -> Result<Value, Failure> {
    let now = outside.clock.unix_seconds();
    let answer = send(task, outside, call, now).await?;
    if !is_token_off(&answer) {
        return read_answer(&answer);
    }
    let theirs = date(&answer).unwrap_or(now - UNKNOWN_SKEW);
    read_answer(&send(task, outside, call, theirs).await?)
}

/// How far ahead our clock is taken to be if Kling says that it is, but not what time it is there, in seconds.
const UNKNOWN_SKEW: i64 = 60;

async fn send(
    task: &Task,
    outside: &Outside<'_>,
    call: Call<'_>,
    now: i64,
) -> Result<http::Response<Vec<u8>>, Failure> {
    let token = bearer(outside.config, now)?;
    let base = setting(outside.config, "kling_base_url")?;
    let base = base.ok_or_else(|| Failure::access("the server has no `kling_base_url`"))?;
    let url = format!("{}{}", base.trim_end_matches('/'), endpoint(&task.params()));
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
        .map_err(|_| Failure::access("`kling_base_url` or Kling's key is not one"))?;
    let answer = outside.http.send(request, limits).await;
    answer.map_err(|error| Failure::retry(format!("Kling: {error}")))
}

/// The bearer token: the API key, or a token that is signed with the pair of keys.
fn bearer(config: &dyn Config, now: i64) -> Result<String, Failure> {
    if let Some(key) = setting(config, "kling_api_key")? {
        return Ok(key);
    }
    let pair = (
        setting(config, "kling_access_key")?,
        setting(config, "kling_secret_key")?,
    );
    match pair {
        (Some(access_key), Some(secret_key)) => Ok(jwt(&access_key, &secret_key, now)),
        _ => Err(Failure::access(
            "the server has neither `kling_api_key` nor `kling_access_key` and `kling_secret_key`",
        )),
    }
}

/// Whether Kling says that the token is not valid yet, or not any more.
fn is_token_off(answer: &http::Response<Vec<u8>>) -> bool {
    let envelope: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    matches!(envelope["code"].as_i64(), Some(1003 | 1004))
}

/// The time at the service, by its `Date` header.
fn date(answer: &http::Response<Vec<u8>>) -> Option<i64> {
    let date = answer.headers().get("date")?.to_str().ok()?;
    Some(DateTime::parse_from_rfc2822(date).ok()?.timestamp())
}

/// The `data` of an answer, or what its error means. A code counts more than the HTTP status, for errors
/// come with 200 as well.
fn read_answer(answer: &http::Response<Vec<u8>>) -> Result<Value, Failure> {
    let status = answer.status().as_u16();
    let envelope: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let message = envelope["message"].as_str().unwrap_or_default();
    let code = envelope["code"].as_i64();
    if code == Some(0) && (200..300).contains(&status) && envelope["data"].is_object() {
        return Ok(envelope["data"].clone());
    }
    let reason = match code {
        Some(code) if code != 0 => {
            // The code is to be read behind however many words.
            let message: String = message.chars().take(400).collect();
            format!("Kling: {message} (code {code}, status {status})")
        }
        _ => format!("Kling: an answer that makes no sense (status {status})"),
    };
    let later = Failure::Retry {
        reason: reason.clone(),
        after: retry_after(answer.headers()),
    };
    Err(match code {
        // A token that is too early or expired; too fast; too many at once or the quota used up.
        Some(1003 | 1004 | 1302 | 1303) => later,
        // Authentication, the account, policies about who may call.
        Some(1000..=1002 | 1100..=1103 | 1300 | 1304) => Failure::Access(reason),
        // A bad request, which a name that is not known is too; refused content.
        Some(1200..=1203 | 1301) => Failure::Permanent(reason),
        // Kling's own.
        Some(5000..=5002) => later,
        _ => match status {
            408 | 425 | 429 | 500.. => later,
            // Without a code that is known it may come from anybody between us and Kling.
            400..=499 => Failure::Access(reason),
            _ => later,
        },
    })
}

/// What `Retry-After` asks for, in seconds.
pub(super) fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?;
    Some(Duration::from_secs(seconds.trim().parse().ok()?))
}

/// What a `data` object says.
fn progress(data: &Value) -> Result<Progress, Failure> {
    let external_task_id = data["task_id"].as_str().unwrap_or_default();
    match data["task_status"].as_str() {
        Some("succeed") => {
            let videos = data["task_result"]["videos"].as_array();
            let media: Vec<Media> = videos
                .into_iter()
                .flatten()
                .filter_map(|video| Some(Media::Url(video["url"].as_str()?.to_owned())))
                .collect();
            if media.is_empty() {
                return Err(Failure::permanent("Kling: succeeded without a video"));
            }
            Ok(Progress::Done(Product {
                media,
                data: json!({ "videos": videos }),
            }))
        }
        Some("failed") => {
            let reason = data["task_status_msg"].as_str().unwrap_or_default();
            Err(Failure::Permanent(format!(
                "Kling: the job failed: {reason}"
            )))
        }
        Some("submitted" | "processing") if !external_task_id.is_empty() => Ok(Progress::Running {
            external_task_id: external_task_id.to_owned(),
            look_again: None,
        }),
        _ => Err(Failure::retry("Kling: an answer that makes no sense")),
    }
}

/// A job that an earlier attempt began. Its name is noted first, whatever has become of it.
fn adopted(data: &Value) -> Result<Progress, Failure> {
    match data["task_id"].as_str() {
        Some(id) if !id.is_empty() => Ok(Progress::Running {
            external_task_id: id.to_owned(),
            look_again: Some(Duration::ZERO),
        }),
        _ => Err(Failure::retry("Kling: an answer that makes no sense")),
    }
}

/// A JSON Web Token (RFC 7519) signed with HS256.
fn jwt(access_key: &str, secret_key: &str, now: i64) -> String {
    let header = URL_SAFE_NO_PAD.encode(json!({ "alg": "HS256", "typ": "JWT" }).to_string());
    let claims = json!({ "iss": access_key, "exp": now + 1800, "nbf": now - 5 }).to_string();
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    // HMAC takes a key of any length.
    let signature = Hmac::<Sha256>::new_from_slice(secret_key.as_bytes()).map(|mut mac| {
        mac.update(signed.as_bytes());
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    });
    format!("{signed}.{}", signature.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use platform::native::MapConfig;

    use super::*;

    fn answer(status: u16, body: &str) -> http::Response<Vec<u8>> {
        let answer = http::Response::builder().status(status);
        answer.body(body.as_bytes().to_vec()).unwrap()
    }

    /// What an error concerns.
    #[derive(Debug, PartialEq)]
    enum Concerns {
        TheJob,
        Us,
        TheMoment,
    }
    use Concerns::{TheJob, TheMoment, Us};

    fn concerns(failure: &Failure) -> Concerns {
        match failure {
            Failure::Permanent(_) => TheJob,
            Failure::Access(_) => Us,
            Failure::Retry { .. } => TheMoment,
        }
    }

    /// Every class of error that Kling has, with what it concerns.
    #[test]
    fn errors_concern_the_job_or_us_or_the_moment() {
        let cases = [
            (401, 1000, Us),
            (401, 1002, Us),
            (401, 1003, TheMoment),
            (401, 1004, TheMoment),
            (429, 1100, Us),
            (429, 1102, Us),
            (403, 1103, Us),
            (400, 1200, TheJob),
            (404, 1203, TheJob),
            (400, 1300, Us),
            (200, 1301, TheJob),
            (429, 1302, TheMoment),
            (200, 1303, TheMoment),
            (429, 1304, Us),
            (500, 5000, TheMoment),
            (503, 5001, TheMoment),
            (200, 5002, TheMoment),
        ];
        for (status, code, expected) in cases {
            let body = json!({ "code": code, "message": "words" }).to_string();
            let failure = read_answer(&answer(status, &body)).unwrap_err();
            assert_eq!(concerns(&failure), expected, "{status} {code}");
            let (Failure::Permanent(reason)
            | Failure::Access(reason)
            | Failure::Retry { reason, .. }) = failure;
            assert!(reason.contains("words"), "{reason}");
        }
        for (status, body, expected) in [
            (500, "", TheMoment),
            (502, "<html>", TheMoment),
            (429, "", TheMoment),
            (200, "", TheMoment),
            (200, "{\"code\":0}", TheMoment),
            (200, "nonsense", TheMoment),
            (404, "", Us),
            (401, "{}", Us),
            (403, "<html>", Us),
        ] {
            let failure = read_answer(&answer(status, body)).unwrap_err();
            assert_eq!(concerns(&failure), expected, "{status} {body}");
        }
    }

    #[test]
    fn the_api_key_counts_more_than_the_pair() {
        let pair = [
            ("kling_access_key", "access"),
            ("kling_secret_key", "secret"),
        ];
        let with = |more: &[(&str, &str)], without: usize| {
            MapConfig::from_pairs(&[more, &pair[without..]].concat())
        };
        let key = bearer(&with(&[("kling_api_key", "key")], 0), 7).unwrap();
        assert_eq!(key, "key");
        assert_eq!(
            bearer(&with(&[], 0), 7).unwrap(),
            jwt("access", "secret", 7)
        );
        for without in [1, 2] {
            let Err(Failure::Access(words)) = bearer(&with(&[], without), 7) else {
                panic!("half a pair will do");
            };
            assert!(words.contains("`kling_api_key`"), "{words}");
        }
    }

    #[test]
    fn the_time_at_the_service_is_read() {
        let dated = |date: &str| {
            let answer = http::Response::builder().header("date", date);
            super::date(&answer.body(Vec::new()).unwrap())
        };
        assert_eq!(dated("Thu, 26 Nov 2026 15:33:39 GMT"), Some(1_795_707_219));
        assert_eq!(dated("soon"), None);
    }

    #[test]
    fn a_wait_that_is_asked_for_is_kept() {
        let answer = http::Response::builder()
            .status(429)
            .header("retry-after", "7")
            .body(b"{\"code\":1302}".to_vec())
            .unwrap();
        let Err(Failure::Retry { after, .. }) = read_answer(&answer) else {
            panic!("not to be tried again");
        };
        assert_eq!(after, Some(Duration::from_secs(7)));
    }

    /// Made with another library from the same header, claims and key.
    #[test]
    fn the_token_is_what_others_make() {
        let token = jwt("access", "secret", 1_700_000_000);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        let decode = |part| -> Value {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
        };
        assert_eq!(decode(header), json!({ "alg": "HS256", "typ": "JWT" }));
        assert_eq!(
            decode(claims),
            json!({ "iss": "access", "exp": 1_700_001_800, "nbf": 1_699_999_995 })
        );
        assert_eq!(signature.len(), 43);
    }

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
