//! The bodies of submissions, in the forms of both generations. Parameters that this server does not know pass through as
//! they are.

use serde_json::{Map, Value, json};

use crate::{
    asset_address,
    executor::{Context, Failure},
    image,
    task::Task,
};

/// The model of a task that does not name one.
pub(super) const DEFAULT_MODEL: &str = "kling-v1";

/// The `cfg_scale` that Kling uses if a task does not name one.
pub(super) const DEFAULT_SCALE: f64 = 0.5;

/// The words of the second generation for sound, and for none.
pub(super) const NATIVE: &str = "native";
pub(super) const OFF: &str = "off";

/// The parameters that hold pictures.
pub(super) const IMAGES: &[&str] = &["image_path", "image_tail"];

/// The seconds of a video whose task does not name a duration.
const DEFAULT_SECONDS: f64 = 5.0;

/// The parameters that are put into bodies one by one, and the names of Kling's fields that this server alone fills.
const OWN: &[&str] = &[
    "model",
    "model_name",
    "image_path",
    "image",
    "image_tail",
    "prompt",
    "negative_prompt",
    "mode",
    "sound",
    "duration",
    "cfg_scale",
    "aspect_ratio",
    "callback_url",
    "external_task_id",
];

/// The parameters that the second generation takes in `settings`.
const SETTINGS: &[&str] = &["resolution", "audio", "multi_shot"];

/// The parameters that the second generation takes in `options`.
const OPTIONS: &[&str] = &["watermark_info"];

/// The model that a task asks for.
pub(super) fn model(params: &Value) -> &str {
    params["model"]
        .as_str()
        .filter(|model| !model.is_empty())
        .unwrap_or(DEFAULT_MODEL)
}

/// Returns whether a task has the picture that its video begins with.
pub(super) fn has_image(params: &Value) -> bool {
    params["image_path"].as_str().is_some_and(|i| !i.is_empty())
}

/// Returns whether the second generation gets the picture that a video begins with: by its parameter, or in `contents`.
pub(super) fn begins_with_picture(params: &Value) -> bool {
    has_image(params)
        || contents(params)
            .iter()
            .any(|entry| entry["type"] == "first_frame")
}

/// The entries of `contents`.
fn contents(params: &Value) -> &[Value] {
    params["contents"].as_array().map_or(&[], Vec::as_slice)
}

/// The resolution of a mode, which the second generation names by its number of lines.
pub(super) fn resolution(mode: &str) -> &str {
    match mode {
        "std" => "720p",
        "pro" => "1080p",
        other => other,
    }
}

/// A body of the first generation.
pub(super) async fn first(
    task: &Task,
    params: &Value,
    takes_scale: bool,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let mut body = Map::new();
    pass(&mut body, params, |name| !OWN.contains(&name));
    put(&mut body, "model_name", json!(model(params)));
    for (name, from) in [("image", "image_path"), ("image_tail", "image_tail")] {
        put(&mut body, name, picture(task, params, from, context).await?);
    }
    if !has_image(params) {
        put(&mut body, "aspect_ratio", params["aspect_ratio"].clone());
    }
    for name in ["prompt", "negative_prompt", "mode"] {
        put(&mut body, name, params[name].clone());
    }
    if let Some(sound) = sound(params) {
        put(&mut body, "sound", json!(if sound { "on" } else { "off" }));
    }
    let duration = number(params, "duration").unwrap_or(DEFAULT_SECONDS);
    put(&mut body, "duration", json!(duration.to_string()));
    if takes_scale {
        put(&mut body, "cfg_scale", json!(number(params, "cfg_scale")));
    }
    put(&mut body, "external_task_id", json!(task.job()));
    put(&mut body, "callback_url", json!(context.callback_url));
    Ok(Value::Object(body))
}

/// A body of the second generation.
pub(super) async fn second(
    task: &Task,
    params: &Value,
    takes_scale: bool,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let nested = ["contents", "settings", "options"];
    let is_else = |name: &str| {
        !(OWN.contains(&name)
            || SETTINGS.contains(&name)
            || OPTIONS.contains(&name)
            || nested.contains(&name))
    };
    let mut body = Map::new();
    pass(&mut body, params, is_else);
    put(
        &mut body,
        "negative_prompt",
        params["negative_prompt"].clone(),
    );
    let given = contents(params);
    let mut contents = Vec::new();
    // A body has either a prompt or contents.
    if has_image(params) || !given.is_empty() {
        if params["prompt"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
        {
            contents.push(json!({ "type": "prompt", "text": params["prompt"] }));
        }
        for (kind, from) in [("first_frame", "image_path"), ("last_frame", "image_tail")] {
            let url = picture(task, params, from, context).await?;
            if !url.is_null() {
                contents.push(json!({ "type": kind, "url": url }));
            }
        }
    } else {
        put(&mut body, "prompt", params["prompt"].clone());
    }
    for entry in given {
        let mut entry = entry.clone();
        // Kling cannot fetch a picture that is kept here.
        if entry["url"].as_str().is_some_and(asset_address::may_be_in) {
            entry["url"] = picture(task, &entry, "url", context).await?;
        }
        contents.push(entry);
    }
    if !contents.is_empty() {
        put(&mut body, "contents", json!(contents));
    }
    put(&mut body, "settings", settings(params, takes_scale));
    let mut options = params["options"].as_object().cloned().unwrap_or_default();
    pass(&mut options, params, |name| OPTIONS.contains(&name));
    put(&mut options, "external_task_id", json!(task.job()));
    put(&mut options, "callback_url", json!(context.callback_url));
    put(&mut body, "options", Value::Object(options));
    Ok(Value::Object(body))
}

/// The `settings` of a body of the second generation.
fn settings(params: &Value, takes_scale: bool) -> Value {
    let mut settings = params["settings"].as_object().cloned().unwrap_or_default();
    if let Some(mode) = params["mode"].as_str().filter(|mode| !mode.is_empty()) {
        put(&mut settings, "resolution", json!(resolution(mode)));
    }
    if let Some(sound) = sound(params) {
        let audio = if sound { NATIVE } else { OFF };
        put(&mut settings, "audio", json!(audio));
    }
    pass(&mut settings, params, |name| SETTINGS.contains(&name));
    if !begins_with_picture(params) {
        put(
            &mut settings,
            "aspect_ratio",
            params["aspect_ratio"].clone(),
        );
    }
    let duration = number(params, "duration");
    if duration.is_some() || !settings.contains_key("duration") {
        let seconds = duration.unwrap_or(DEFAULT_SECONDS);
        let whole = seconds as u64;
        let is_whole = whole as f64 == seconds;
        let seconds = if is_whole {
            json!(whole)
        } else {
            json!(seconds)
        };
        put(&mut settings, "duration", seconds);
    }
    if takes_scale {
        put(
            &mut settings,
            "cfg_scale",
            json!(number(params, "cfg_scale")),
        );
    }
    Value::Object(settings)
}

/// Puts a value into a body, unless it is missing.
fn put(body: &mut Map<String, Value>, name: &str, value: Value) {
    if !value.is_null() && value != "" {
        body.insert(name.to_owned(), value);
    }
}

/// Puts those parameters into a body as they are.
fn pass(body: &mut Map<String, Value>, params: &Value, which: impl Fn(&str) -> bool) {
    for (name, value) in params.as_object().into_iter().flatten() {
        if which(name) {
            put(body, name, value.clone());
        }
    }
}

/// A parameter that is a number, or a string that holds one.
fn number(params: &Value, name: &str) -> Option<f64> {
    read_number(&params[name])
}

/// Reads a number, or a string that holds one.
pub(super) fn read_number(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => text.trim().parse().ok(),
        value => value.as_f64(),
    }
}

/// Returns whether the task asks for sound; `None` if it does not say.
fn sound(params: &Value) -> Option<bool> {
    match &params["sound"] {
        Value::Bool(sound) => Some(*sound),
        Value::String(word) if !word.is_empty() => Some(word == "on"),
        _ => None,
    }
}

/// A picture as Kling takes it: an address, or base64 alone. Null if there is none.
async fn picture(
    task: &Task,
    params: &Value,
    name: &str,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let Some(text) = params[name].as_str().filter(|text| !text.is_empty()) else {
        return Ok(Value::Null);
    };
    let given = image::read(text).map_err(Failure::Permanent)?;
    Ok(match image::public_address(&given, context)? {
        // Kling fetches the image itself, but may not reach this server.
        Some(url) => json!(url),
        None => {
            let image = image::obtain(given, &task.project_id, context).await?;
            json!(image.base64())
        }
    })
}
