//! The form of the bodies that Kling takes, in both generations.

use serde_json::{Map, Value};

/// Checks a body of the first generation; an error names the wrong field.
pub(super) fn check_first(endpoint: &str, body: &Value) -> Result<(), &'static str> {
    let text = |name: &str| body[name].as_str().filter(|text| !text.is_empty());
    text("model_name").ok_or("model_name")?;
    text("callback_url").ok_or("callback_url")?;
    text("external_task_id").ok_or("external_task_id")?;
    let seconds = text("duration").and_then(|text| text.parse::<u32>().ok());
    if !body["duration"].is_null() && !seconds.is_some_and(|seconds| (3..=15).contains(&seconds)) {
        return Err("duration");
    }
    if !body["mode"].is_null() && !matches!(text("mode"), Some("std" | "pro" | "4k")) {
        return Err("mode");
    }
    if !body["sound"].is_null() && !matches!(text("sound"), Some("on" | "off")) {
        return Err("sound");
    }
    if !body["cfg_scale"].is_null()
        && !body["cfg_scale"]
            .as_f64()
            .is_some_and(|n| (0.0..=1.0).contains(&n))
    {
        return Err("cfg_scale");
    }
    match (endpoint, text("image")) {
        ("image2video", Some(image)) if !image.starts_with("data:") => Ok(()),
        ("text2video", None) if text("prompt").is_some() => Ok(()),
        _ => Err("image"),
    }
}

/// Checks a body of the second generation; an error names the wrong field.
pub(super) fn check_second(endpoint: &str, body: &Value) -> Result<(), &'static str> {
    let only = |object: Option<&Map<String, Value>>, names: &[&str]| {
        object.is_some_and(|object| object.keys().all(|name| names.contains(&name.as_str())))
    };
    let names = ["prompt", "contents", "settings", "options"];
    if !only(body.as_object(), &names) {
        return Err("body");
    }
    let (settings, options) = (&body["settings"], &body["options"]);
    let known = [
        "resolution",
        "duration",
        "audio",
        "aspect_ratio",
        "multi_shot",
    ];
    if !only(settings.as_object(), &known) {
        return Err("settings");
    }
    let known = ["callback_url", "external_task_id", "watermark_info"];
    if !only(options.as_object(), &known) {
        return Err("options");
    }
    let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    if !is_text(&options["callback_url"]) || !is_text(&options["external_task_id"]) {
        return Err("options");
    }
    let seconds = settings["duration"].as_u64();
    if !seconds.is_some_and(|seconds| (3..=15).contains(&seconds)) {
        return Err("duration");
    }
    let is_one = |value: &Value, choices: &[&str]| {
        value.is_null() || value.as_str().is_some_and(|text| choices.contains(&text))
    };
    if !is_one(&settings["resolution"], &["720p", "1080p", "4k"]) {
        return Err("resolution");
    }
    if !is_one(&settings["audio"], &["native", "off"]) {
        return Err("audio");
    }
    let contents = body["contents"].as_array();
    let of_kind = |kind: &str| {
        let found = contents.into_iter().flatten();
        found.filter(move |one| one["type"] == kind).count()
    };
    match endpoint {
        "text-to-video" if contents.is_none() && is_text(&body["prompt"]) => Ok(()),
        "image-to-video"
            if body["prompt"].is_null()
                && settings["aspect_ratio"].is_null()
                && of_kind("first_frame") == 1
                && of_kind("prompt") <= 1 =>
        {
            let urls = contents
                .into_iter()
                .flatten()
                .filter_map(|one| one["url"].as_str());
            let mut urls = urls.filter(|url| url.starts_with("data:"));
            urls.next().map_or(Ok(()), |_| Err("url"))
        }
        _ => Err("contents"),
    }
}
