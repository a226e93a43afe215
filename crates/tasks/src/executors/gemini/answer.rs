//! The answers of Gemini: images, words, or the reason for which there are none.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    executor::{Failure, Media, Product, Progress, retry_after},
    media_type,
};

/// The beginning of the error of a task for which Gemini made no image, although it refused nothing.
const NO_IMAGE: &str = "Gemini made no image";

/// Reads an answer. It may have 64 MiB, and an instance has 256, so each part is dropped as soon as it is not needed.
/// `before` is the last error of the task.
pub(super) fn read(
    answer: http::Response<Vec<u8>>,
    before: Option<&str>,
) -> Result<Progress, Failure> {
    let (head, body) = answer.into_parts();
    let status = head.status.as_u16();
    let parsed: Option<Value> = serde_json::from_slice(&body).ok();
    drop(body);
    let body = parsed;
    if status == 200 {
        return match body {
            Some(body) => product(body, before),
            None => Err(without_image("its answer cannot be understood", "", before)),
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

/// The failure of a task whose answer is larger than may be read. Gemini has charged for it.
pub(super) fn too_large(before: Option<&str>) -> Failure {
    without_image("its answer is too large", "", before)
}

/// Returns whether Gemini refuses a request because of the signature in it.
pub(super) fn refuses_signature(answer: &http::Response<Vec<u8>>) -> bool {
    let words = || String::from_utf8_lossy(answer.body()).to_lowercase();
    answer.status() == http::StatusCode::BAD_REQUEST && words().contains("signature")
}

/// The wait that a `RetryInfo` in an error asks for, such as `{"retryDelay": "17s"}`.
fn retry_info(error: &Value) -> Option<Duration> {
    let details = error["details"].as_array()?;
    let delay = details.iter().find_map(|d| d["retryDelay"].as_str())?;
    let seconds: f64 = delay.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds.ceil()).ok()
}

/// The images of a successful answer, or the reason for which there are none. Drafts, which Gemini makes while it
/// thinks, are never the result.
pub(super) fn product(mut body: Value, before: Option<&str>) -> Result<Progress, Failure> {
    if let Some(reason) = body["promptFeedback"]["blockReason"].as_str() {
        let why = refusal(reason).unwrap_or("it does not say more");
        return Err(Failure::Permanent(format!(
            "Gemini refused the prompt: {why} ({reason})"
        )));
    }
    // A mutable index into an element that is missing would panic.
    let candidate = body.pointer_mut("/candidates/0").map(Value::take);
    let mut candidate = candidate.unwrap_or_default();
    let parts = match candidate.pointer_mut("/content/parts").map(Value::take) {
        Some(Value::Array(parts)) => parts,
        _ => Vec::new(),
    };
    let mut media = Vec::new();
    let mut signature = None;
    let mut has_drafts = false;
    let mut has_broken = false;
    let mut words = String::new();
    for mut part in parts {
        let is_thought = part["thought"] == true;
        if let Some(text) = part["text"].as_str().filter(|_| !is_thought) {
            words += text;
        }
        if !part["inlineData"].is_object() {
            continue;
        }
        if is_thought {
            has_drafts = true;
        } else {
            let Some(image) = image_of(part["inlineData"].take()) else {
                has_broken = true;
                continue;
            };
            // The first picture is the one to go on from.
            if media.is_empty()
                && let Value::String(words) = part["thoughtSignature"].take()
            {
                signature = Some(words);
            }
            media.push(image);
        }
    }
    if !media.is_empty() {
        let data = json!({ "text": words });
        return Ok(Progress::Done(Product {
            media,
            data,
            signature,
        }));
    }
    let reason = candidate["finishReason"].as_str();
    let more = candidate["finishMessage"].as_str().unwrap_or(&words);
    let more: String = more.chars().take(400).collect();
    match reason {
        Some("STOP") | None if has_drafts => Err(without_image("drafts alone", &more, before)),
        Some("STOP") | None if has_broken => {
            Err(without_image("an image that cannot be read", &more, before))
        }
        Some("STOP") | None if words.is_empty() => {
            Err(without_image("an answer without an image", &more, before))
        }
        Some("STOP") | None => Err(Failure::Permanent(format!(
            "Gemini answered in words alone: {more}"
        ))),
        Some(reason) => Err(without_image(reason, &more, before)),
    }
}

/// The failure of a task for which Gemini stopped without an image that can be used, and may have charged for it. A refusal
/// is final. Anything else may be chance, so it is tried once more.
fn without_image(reason: &str, more: &str, before: Option<&str>) -> Failure {
    if let Some(why) = refusal(reason) {
        let words = format!("Gemini refused: {why} ({reason}) {more}");
        return Failure::permanent(words.trim());
    }
    let words = format!("{NO_IMAGE} ({reason}) {more}");
    if before.is_some_and(|before| before.starts_with(NO_IMAGE)) {
        return Failure::permanent(words.trim());
    }
    Failure::retry(words.trim())
}

/// The meaning of a reason that is a refusal, in words for the user.
fn refusal(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "SAFETY" | "PROHIBITED_CONTENT" | "BLOCKLIST" => {
            "the prompt, or a picture in it, is not allowed there"
        }
        "IMAGE_SAFETY" | "IMAGE_PROHIBITED_CONTENT" => {
            "the image that it made is not allowed there"
        }
        "RECITATION" | "IMAGE_RECITATION" => "the result would be too close to a work of others",
        "SPII" => "the prompt has personal data in it",
        "LANGUAGE" => "it does not know the language of the prompt",
        "MODEL_ARMOR" => "the account's own rules do not allow it",
        _ => return None,
    })
}

/// The image of an `inlineData`; `None` if it has none that can be read.
fn image_of(inline: Value) -> Option<Media> {
    let (media_type, data) = (inline["mimeType"].as_str()?, inline["data"].as_str()?);
    let bytes = STANDARD.decode(data).ok()?;
    let media_type = media_type.to_owned();
    let is_image = !bytes.is_empty() && !media_type::is_page(&bytes, &media_type);
    is_image.then_some(Media::Inline { media_type, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_answer(answer: http::Response<Vec<u8>>) -> Result<Progress, Failure> {
        read(answer, None)
    }

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

    /// Gemini charges for an answer of any form.
    #[test]
    fn an_answer_of_another_form_is_tried_once_more() {
        let part = |part: Value| json!({ "candidates": [{ "content": { "parts": [part] } }] });
        let inline = |data: Value| part(json!({ "inlineData": data }));
        let bodies = [
            json!({}),
            json!([]),
            json!(null),
            json!({ "candidates": [] }),
            json!({ "candidates": [null] }),
            json!({ "candidates": ["words"] }),
            json!({ "candidates": { "0": 1 } }),
            json!({ "candidates": [{ "content": "words" }] }),
            json!({ "candidates": [{ "content": { "parts": ["words", null] } }] }),
            inline(json!({ "mimeType": "image/png", "data": "?" })),
            inline(json!({ "mimeType": "image/png", "data": "" })),
            inline(json!({ "mimeType": "image/png", "data": STANDARD.encode("<html>") })),
            inline(json!({ "mime_type": "image/png", "data": "AAEC" })),
            part(json!({ "inline_data": { "mime_type": "image/png", "data": "AAEC" } })),
        ];
        let mut answers = bodies.map(|body| body.to_string()).to_vec();
        answers.extend(["<html>".to_owned(), "{\"candidates\":[".to_owned()]);
        for body in answers {
            let answer = || http::Response::new(body.clone().into_bytes());
            let Err(Failure::Retry { reason, .. }) = read_answer(answer()) else {
                panic!("{body}: not to be tried again");
            };
            let second = read(answer(), Some(&reason));
            assert_eq!(second, Err(Failure::Permanent(reason)), "{body}");
        }
        let Failure::Retry { reason, .. } = too_large(None) else {
            panic!("not to be tried again");
        };
        assert_eq!(too_large(Some(&reason)), Failure::Permanent(reason));
    }

    #[test]
    fn an_image_that_cannot_be_read_takes_nothing_from_the_others() {
        let inline =
            |data: &str| json!({ "inlineData": { "mimeType": "image/png", "data": data } });
        let body =
            json!({ "candidates": [{ "content": { "parts": [inline("?"), inline("AAEC")] } }] });
        let read = read_answer(answer(200, body));
        let Ok(Progress::Done(product)) = read else {
            panic!("{read:?}");
        };
        assert_eq!(product.media.len(), 1);
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
        let alone = read(drafts.clone(), "STOP");
        assert!(
            matches!(&alone, Err(Failure::Retry { reason, .. }) if reason.contains("drafts alone")),
            "{alone:?}"
        );
        assert!(matches!(
            read(drafts, "IMAGE_SAFETY"),
            Err(Failure::Permanent(_))
        ));
    }

    #[test]
    fn refusals_are_permanent_and_have_their_reason() {
        for reason in [
            "SAFETY",
            "PROHIBITED_CONTENT",
            "IMAGE_SAFETY",
            "IMAGE_PROHIBITED_CONTENT",
            "RECITATION",
            "IMAGE_RECITATION",
            "BLOCKLIST",
            "SPII",
            "LANGUAGE",
            "MODEL_ARMOR",
        ] {
            let body = json!({ "candidates": [{ "finishReason": reason }] });
            match read_answer(answer(200, body)) {
                Err(Failure::Permanent(words)) => {
                    assert!(words.starts_with("Gemini refused: "), "{words}");
                    assert!(words.contains(reason), "{words}");
                }
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
    fn the_error_says_what_came_in_place_of_an_image() {
        let inline = json!({ "mimeType": "image/png", "data": "?" });
        let draft = json!({ "inlineData": inline, "thought": true });
        let broken = json!({ "inlineData": inline });
        let words = json!({ "text": "No." });
        for (parts, reason, told) in [
            (
                json!([draft]),
                "STOP",
                "Gemini made no image (drafts alone)",
            ),
            (
                json!([broken]),
                "STOP",
                "Gemini made no image (an image that cannot be read)",
            ),
            (
                json!([]),
                "STOP",
                "Gemini made no image (an answer without an image)",
            ),
            (
                json!([words]),
                "STOP",
                "Gemini answered in words alone: No.",
            ),
            (json!([words]), "OTHER", "Gemini made no image (OTHER) No."),
            (json!([draft]), "OTHER", "Gemini made no image (OTHER)"),
        ] {
            let candidate = json!({ "finishReason": reason, "content": { "parts": parts } });
            let read = read_answer(answer(200, json!({ "candidates": [candidate] })));
            let (Err(Failure::Retry { reason, .. }) | Err(Failure::Permanent(reason))) = read
            else {
                panic!("{told}: {read:?}");
            };
            assert_eq!(reason, told);
        }
    }

    #[test]
    fn a_service_that_is_overloaded_names_a_time_and_one_that_is_down_does_not() {
        for wait in [Some("7"), None] {
            let mut answer = http::Response::builder().status(503);
            if let Some(wait) = wait {
                answer = answer.header("retry-after", wait);
            }
            let read = read_answer(answer.body(Vec::new()).unwrap());
            let is_rate = matches!(read, Err(Failure::TooOften { .. }));
            assert_eq!(is_rate, wait.is_some(), "{read:?}");
        }
    }

    #[test]
    fn what_is_no_refusal_is_tried_once_more() {
        for reason in [
            "NO_IMAGE",
            "IMAGE_OTHER",
            "OTHER",
            "MALFORMED_RESPONSE",
            "MAX_TOKENS",
            "SOMETHING_NEW",
        ] {
            let body = json!({ "candidates": [{ "finishReason": reason }] });
            let first = read(
                answer(200, body.clone()),
                Some("Gemini: internal (status 500)"),
            );
            let Err(Failure::Retry { reason: words, .. }) = first else {
                panic!("{reason}: {first:?}");
            };
            assert!(words.contains(reason), "{words}");
            let second = read(answer(200, body), Some(&words));
            assert_eq!(second, Err(Failure::Permanent(words)));
        }
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
