//! Gemini: images from words and other images. Its answer to a submission is the result.

use std::time::Duration;

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::future;
use platform::{Config, Setting, http_client::Limits};
use problem::Fields;
use serde_json::{Map, Value, json};

use crate::{
    executor::{
        Callback, Executor, Failure, Media, Outside, Product, Progress, retry_after, setting,
    },
    image,
    task::{MAX_TEXT, Task},
};

/// The service Gemini.
pub(super) struct Gemini;

platform::settings! {
    /// The address of Gemini, which makes images
    GEMINI_BASE_URL = "gemini_base_url", Value("https://generativelanguage.googleapis.com"), Origin;
    /// Gemini's API key
    GEMINI_API_KEY = "gemini_api_key", Secret;
    /// The model of `nano_banana` tasks. A task for a model that is gone fails and names the setting
    NANO_BANANA_MODEL = "nano_banana_model", Value("gemini-nano-banana-2.1");
    /// The model of `nano_banana_pro` tasks
    NANO_BANANA_PRO_MODEL = "nano_banana_pro_model", Value("gemini-3-pro-image");
}

/// A call takes 5 to 40 s. An image of 4K in base64 may have some 30 MB.
const CALL: Limits = Limits {
    timeout: Duration::from_secs(120),
    max_bytes: 64 * 1024 * 1024,
};

const ASPECT_RATIOS: &[&str] = &[
    "1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9",
];
const MOST_IMAGES: usize = 14;
const IMAGES: &[&str] = &["reference_image_urls", "base64_images"];

#[async_trait(?Send)]
impl Executor for Gemini {
    fn service(&self) -> &'static str {
        "gemini"
    }

    fn task_types(&self) -> &'static [&'static str] {
        &["nano_banana", "nano_banana_pro"]
    }

    fn title(&self) -> &'static str {
        "Gemini"
    }

    /// Each call holds an instance for as long as it takes.
    fn places(&self, _config: &dyn Config) -> u32 {
        64
    }

    fn pictures(&self) -> &'static [&'static str] {
        IMAGES
    }

    fn check(&self, task_type: &str, params: &mut Fields<'_>) {
        // Agents send the prompt under one name or the other.
        if params.value("text").is_some() {
            params.required_text("text", MAX_TEXT);
        } else {
            params.required_text("prompt", MAX_TEXT);
        }
        params.text("system_prompt", MAX_TEXT);
        params.one_of("aspect_ratio", ASPECT_RATIOS);
        if params.value("image_size").is_some() {
            if task_type == "nano_banana_pro" {
                params.one_of("image_size", &["1K", "2K", "4K"]);
            } else {
                params.wrong("image_size", "is only for nano_banana_pro");
            }
        }
        for name in IMAGES {
            params.texts(name, MOST_IMAGES);
        }
    }

    /// Reference images may take 10 s, and the call 120.
    fn patience(&self) -> Duration {
        Duration::from_secs(135)
    }

    async fn submit(
        &self,
        task: &Task,
        params: &Value,
        outside: &Outside<'_>,
    ) -> Result<Progress, Failure> {
        let setting = |wanted: Setting| {
            setting(outside.config, wanted)?
                .ok_or_else(|| Failure::access(format!("the server has no `{wanted}`")))
        };
        let is_pro = task.task_type == "nano_banana_pro";
        let key = setting(GEMINI_API_KEY)?;
        let base = setting(GEMINI_BASE_URL)?;
        let model_setting = if is_pro {
            NANO_BANANA_PRO_MODEL
        } else {
            NANO_BANANA_MODEL
        };
        let model = setting(model_setting)?;
        let url = format!(
            "{}/v1beta/models/{model}:generateContent",
            base.trim_end_matches('/')
        );
        let body = request_body(task, params, is_pro, outside).await?;
        let request = http::Request::post(url)
            .header("content-type", "application/json")
            .header("x-goog-api-key", key)
            .body(body.to_string().into_bytes())
            .map_err(|_| {
                Failure::access("`gemini_base_url` is not a URL, or Gemini's key cannot be sent")
            })?;
        let answer = outside.http.send(request, CALL).await;
        let answer = answer.map_err(|error| Failure::retry(format!("Gemini: {error}")))?;
        if answer.status() == http::StatusCode::NOT_FOUND {
            return Err(no_such_model(&model, model_setting));
        }
        read_answer(answer)
    }

    async fn poll(&self, _: &Task, _: &Value, _: &Outside<'_>) -> Result<Progress, Failure> {
        Err(Failure::permanent("Gemini has no jobs to ask about"))
    }

    fn process_webhook(&self, body: &Value) -> Option<Callback> {
        let is_answer = body.get("candidates").is_some() || body.get("promptFeedback").is_some();
        is_answer.then(|| Callback {
            about: None,
            news: product(body.clone()),
        })
    }
}

async fn request_body(
    task: &Task,
    params: &Value,
    is_pro: bool,
    outside: &Outside<'_>,
) -> Result<Value, Failure> {
    let text = params["text"].as_str().or(params["prompt"].as_str());
    let mut parts = vec![json!({ "text": text.unwrap_or_default() })];
    let given = IMAGES
        .iter()
        .filter_map(|name| params[*name].as_array())
        .flatten()
        .filter_map(Value::as_str);
    let images = given.map(|text| async {
        let given = image::read(text).map_err(Failure::Permanent)?;
        image::obtain(given, &task.project_id, outside).await
    });
    for image in future::try_join_all(images).await? {
        let data = json!({ "mimeType": image.media_type, "data": image.base64() });
        parts.push(json!({ "inlineData": data }));
    }
    let mut image_config = Map::new();
    if let Some(ratio) = params["aspect_ratio"].as_str().filter(|r| !r.is_empty()) {
        image_config.insert("aspectRatio".into(), json!(ratio));
    }
    if let Some(size) = params["image_size"].as_str().filter(|_| is_pro) {
        image_config.insert("imageSize".into(), json!(size));
    }
    let mut body = json!({
        "contents": [{ "role": "user", "parts": parts }],
        "generationConfig": { "responseModalities": ["TEXT", "IMAGE"] },
    });
    if !image_config.is_empty() {
        body["generationConfig"]["imageConfig"] = Value::Object(image_config);
    }
    if let Some(words) = params["system_prompt"].as_str().filter(|w| !w.is_empty()) {
        body["systemInstruction"] = json!({ "parts": [{ "text": words }] });
    }
    Ok(body)
}

/// The failure of a model that Gemini no longer has. Models end every few months, and the operator can then set
/// another.
fn no_such_model(model: &str, setting: Setting) -> Failure {
    let variable = format!("SPIN_VARIABLE_{}", setting.name().to_ascii_uppercase());
    Failure::permanent(format!(
        "Gemini has no model `{model}` any more: set `{setting}` ({variable}) to one that it has"
    ))
}

/// Reads an answer. It may have 64 MiB, and an instance has 256, so each part is dropped as soon as it is not needed.
fn read_answer(answer: http::Response<Vec<u8>>) -> Result<Progress, Failure> {
    let (head, body) = answer.into_parts();
    let status = head.status.as_u16();
    let parsed: Option<Value> = serde_json::from_slice(&body).ok();
    drop(body);
    let body = parsed;
    if status == 200 {
        return match body {
            Some(body) => product(body),
            None => Err(Failure::retry(
                "Gemini sent an answer that cannot be understood",
            )),
        };
    }
    let error = body.map(|body| body["error"].clone()).unwrap_or_default();
    let words = error["message"].as_str().unwrap_or_default();
    let reason = format!("Gemini: {words} (status {status})");
    let after = retry_after(&head.headers).or_else(|| retry_info(&error));
    Err(match status {
        429 => Failure::too_often(reason, after),
        503 if after.is_some() => Failure::too_often(reason, after),
        408 | 500.. => Failure::Retry { reason, after },
        _ => Failure::Permanent(reason),
    })
}

/// The wait that a `RetryInfo` in an error asks for, such as `{"retryDelay": "17s"}`.
fn retry_info(error: &Value) -> Option<Duration> {
    let details = error["details"].as_array()?;
    let delay = details.iter().find_map(|d| d["retryDelay"].as_str())?;
    let seconds: f64 = delay.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds.ceil()).ok()
}

/// The images of a successful answer, or the reason for which there are none. Drafts, which Gemini makes while it
/// thinks, do not count, unless it stopped without another image.
fn product(mut body: Value) -> Result<Progress, Failure> {
    if let Some(reason) = body["promptFeedback"]["blockReason"].as_str() {
        return Err(Failure::Permanent(format!(
            "Gemini refused the prompt: {reason}"
        )));
    }
    // An index into what is not there would panic.
    let candidate = body.pointer_mut("/candidates/0").map(Value::take);
    let mut candidate = candidate.unwrap_or_default();
    let parts = match candidate.pointer_mut("/content/parts").map(Value::take) {
        Some(Value::Array(parts)) => parts,
        _ => Vec::new(),
    };
    let mut media = Vec::new();
    let mut draft = None;
    let mut words = String::new();
    for mut part in parts {
        let is_thought = part["thought"] == true;
        if let Some(text) = part["text"].as_str().filter(|_| !is_thought) {
            words += text;
        }
        if !part["inlineData"].is_object() {
            continue;
        }
        let inline = part["inlineData"].take();
        if is_thought {
            draft = Some(inline);
        } else {
            media.extend(image_of(inline)?);
        }
    }
    let has_stopped = matches!(candidate["finishReason"].as_str(), Some("STOP") | None);
    if media.is_empty()
        && has_stopped
        && let Some(draft) = draft
    {
        media.extend(image_of(draft)?);
    }
    if !media.is_empty() {
        let data = json!({ "text": words });
        return Ok(Progress::Done(Product { media, data }));
    }
    match candidate["finishReason"].as_str() {
        Some("STOP") | None if words.is_empty() => {
            Err(Failure::retry("Gemini sent an answer without an image"))
        }
        Some("STOP") | None => Err(Failure::Permanent(format!(
            "Gemini answered in words alone: {}",
            words.chars().take(500).collect::<String>()
        ))),
        Some(reason) => {
            let more = candidate["finishMessage"].as_str().unwrap_or(&words);
            Err(Failure::Permanent(
                format!("Gemini refused: {reason} {more}").trim().to_owned(),
            ))
        }
    }
}

/// The image of an `inlineData`, if it has one.
fn image_of(inline: Value) -> Result<Option<Media>, Failure> {
    let (Some(media_type), Some(data)) = (inline["mimeType"].as_str(), inline["data"].as_str())
    else {
        return Ok(None);
    };
    let bytes = STANDARD
        .decode(data)
        .map_err(|_| Failure::retry("Gemini sent an image that cannot be read"))?;
    let media_type = media_type.to_owned();
    Ok((!bytes.is_empty()).then_some(Media::Inline { media_type, bytes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: Value) -> http::Response<Vec<u8>> {
        let answer = http::Response::builder().status(status);
        answer.body(body.to_string().into_bytes()).unwrap()
    }

    #[test]
    fn an_image_is_taken_out() {
        let body = json!({ "candidates": [{ "finishReason": "STOP", "content": { "parts": [
            { "text": "Here." }, { "inlineData": { "mimeType": "image/png", "data": "AAEC" } }
        ] } }] });
        let Ok(Progress::Done(product)) = read_answer(answer(200, body)) else {
            panic!("not done");
        };
        assert_eq!(product.data, json!({ "text": "Here." }));
        assert_eq!(
            product.media,
            [Media::Inline {
                media_type: "image/png".into(),
                bytes: vec![0, 1, 2]
            }]
        );
    }

    #[test]
    fn an_answer_of_another_form_is_tried_again() {
        for body in [
            json!({}),
            json!([]),
            json!(null),
            json!({ "candidates": [] }),
            json!({ "candidates": [null] }),
            json!({ "candidates": ["words"] }),
            json!({ "candidates": { "0": 1 } }),
            json!({ "candidates": [{ "content": "words" }] }),
            json!({ "candidates": [{ "content": { "parts": ["words", null] } }] }),
        ] {
            let read = read_answer(answer(200, body.clone()));
            assert!(
                matches!(read, Err(Failure::Retry { .. })),
                "{body}: {read:?}"
            );
        }
    }

    /// The first picture of an answer is often a draft.
    #[test]
    fn a_draft_is_not_the_result() {
        let image = |data: &str, is_thought: bool| {
            let inline = json!({ "mimeType": "image/png", "data": data });
            json!({ "inlineData": inline, "thought": is_thought })
        };
        let read = |parts: Value, reason: &str| {
            let candidate = json!({ "finishReason": reason, "content": { "parts": parts } });
            read_answer(answer(200, json!({ "candidates": [candidate] })))
        };
        let inline = |bytes: &[u8]| Media::Inline {
            media_type: "image/png".into(),
            bytes: bytes.to_vec(),
        };
        let parts = json!([
            { "text": "Hm.", "thought": true },
            image("AAAA", true), image("AAAB", false), image("AAAC", true), { "text": "Here." },
        ]);
        let Ok(Progress::Done(product)) = read(parts, "STOP") else {
            panic!("not done");
        };
        assert_eq!(product.media, [inline(&[0, 0, 1])]);
        assert_eq!(product.data, json!({ "text": "Here." }));
        let empty = read(json!([image("", false)]), "STOP");
        assert!(matches!(empty, Err(Failure::Retry { .. })), "{empty:?}");
        let drafts = json!([image("AAAA", true), image("AAAB", true)]);
        let Ok(Progress::Done(product)) = read(drafts.clone(), "STOP") else {
            panic!("not done");
        };
        assert_eq!(product.media, [inline(&[0, 0, 1])]);
        assert!(matches!(
            read(drafts, "IMAGE_SAFETY"),
            Err(Failure::Permanent(_))
        ));
    }

    #[test]
    fn a_model_that_is_gone_is_a_matter_of_a_setting() {
        let Failure::Permanent(words) = no_such_model("old", NANO_BANANA_PRO_MODEL) else {
            panic!("to be tried again");
        };
        for named in [
            "`old`",
            "`nano_banana_pro_model`",
            "SPIN_VARIABLE_NANO_BANANA_PRO_MODEL",
        ] {
            assert!(words.contains(named), "{words}");
        }
    }

    #[test]
    fn refusals_are_permanent_and_have_their_reason() {
        for reason in [
            "SAFETY",
            "PROHIBITED_CONTENT",
            "IMAGE_SAFETY",
            "RECITATION",
            "NO_IMAGE",
        ] {
            let body = json!({ "candidates": [{ "finishReason": reason }] });
            match read_answer(answer(200, body)) {
                Err(Failure::Permanent(words)) => assert!(words.contains(reason), "{words}"),
                other => panic!("{reason}: {other:?}"),
            }
        }
        let blocked = json!({ "promptFeedback": { "blockReason": "OTHER" } });
        assert!(matches!(
            read_answer(answer(200, blocked)),
            Err(Failure::Permanent(words)) if words.contains("OTHER")
        ));
    }

    #[test]
    fn errors_are_permanent_or_not() {
        let body = json!({ "error": { "message": "words", "status": "X" } });
        for (status, again) in [
            (400, false),
            (403, false),
            (404, false),
            (408, true),
            (500, true),
            (503, true),
        ] {
            let error = read_answer(answer(status, body.clone())).unwrap_err();
            assert_eq!(matches!(error, Failure::Retry { .. }), again, "{status}");
        }
        let full = read_answer(answer(429, body)).unwrap_err();
        assert!(matches!(full, Failure::TooOften { .. }), "{full:?}");
        let body = json!({ "error": { "message": "slow down", "details": [
            { "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17.2s" }
        ] } });
        let Err(Failure::TooOften { after, .. }) = read_answer(answer(429, body)) else {
            panic!("not to be tried again");
        };
        assert_eq!(after, Some(Duration::from_secs(18)));
    }
}
