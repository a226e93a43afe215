//! What Gemini is asked, without a Gemini: requests are compared as they leave.

#![allow(clippy::unwrap_used)]

use std::cell::RefCell;

use async_trait::async_trait;
use http::{Request, Response};
use platform::{
    HttpClient, HttpError, Ports,
    http_client::Limits,
    native::{MapConfig, World, block_on},
};
use serde_json::{Map, Value, json};
use tasks::{AssetStore, Failure, Fields, Media, Outside, Progress, Registry, Task};

const SETTINGS: [(&str, &str); 4] = [
    ("gemini_api_key", "secret"),
    ("gemini_base_url", "https://gemini.example/"),
    ("nano_banana_model", "small"),
    ("nano_banana_pro_model", "large"),
];

/// A picture of one pixel.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// A Gemini that draws a pixel, or has no such model.
#[derive(Default)]
struct Gemini {
    status: u16,
    /// Address, key and body.
    asked: RefCell<Vec<(String, String, Value)>>,
}

#[async_trait(?Send)]
impl HttpClient for Gemini {
    async fn send(
        &self,
        request: Request<Vec<u8>>,
        _: Limits,
    ) -> Result<Response<Vec<u8>>, HttpError> {
        let key = request.headers()["x-goog-api-key"].to_str().unwrap();
        self.asked.borrow_mut().push((
            format!("{} {}", request.method(), request.uri()),
            key.to_owned(),
            serde_json::from_slice(request.body()).unwrap(),
        ));
        let inline = json!({ "inlineData": { "mimeType": "image/png", "data": PIXEL } });
        let answer = json!({ "candidates": [{ "content": { "parts": [inline] } }] });
        let answer = answer.to_string().into_bytes();
        Ok(Response::builder()
            .status(self.status)
            .body(answer)
            .unwrap())
    }
}

/// Submits a task, and returns the answer with what Gemini was asked.
fn submitted(
    settings: &[(&str, &str)],
    status: u16,
    task_type: &str,
    params: &Value,
) -> (Result<Progress, Failure>, Vec<(String, String, Value)>) {
    let world = World::new(MapConfig::from_pairs(settings));
    let gemini = Gemini {
        status,
        ..Gemini::default()
    };
    let ports = Ports {
        http: &gemini,
        ..world.ports()
    };
    let assets = AssetStore::open(ports.database, ports.http, ports.config).unwrap();
    let outside = Outside {
        http: ports.http,
        config: ports.config,
        clock: ports.clock,
        assets: &assets,
        callback_url: "https://here.example/webhooks/gemini",
    };
    let task = Task {
        task_type: task_type.into(),
        project_id: "p".into(),
        ..Task::new(0)
    };
    let registry = Registry::standard(ports.config);
    let executor = registry.for_type(task_type).unwrap();
    let answer = block_on(executor.submit(&task, params, &outside));
    (answer, gemini.asked.take())
}

#[test]
fn a_submission_says_what_gemini_needs_and_no_more() {
    let inline = json!({ "inlineData": { "mimeType": "image/png", "data": PIXEL } });
    let plain = json!({ "responseModalities": ["TEXT", "IMAGE"] });
    let with =
        |config: Value| json!({ "responseModalities": ["TEXT", "IMAGE"], "imageConfig": config });
    for (task_type, model, params, parts, config, system) in [
        (
            "nano_banana",
            "small",
            json!({ "prompt": "a hill" }),
            json!([{ "text": "a hill" }]),
            plain.clone(),
            Value::Null,
        ),
        (
            "nano_banana_pro",
            "large",
            json!({ "text": "a hill", "prompt": "no", "aspect_ratio": "1:1", "image_size": "4K" }),
            json!([{ "text": "a hill" }]),
            with(json!({ "aspectRatio": "1:1", "imageSize": "4K" })),
            Value::Null,
        ),
        (
            "nano_banana",
            "small",
            json!({ "prompt": "a", "aspect_ratio": "", "image_size": "4K", "system_prompt": "" }),
            json!([{ "text": "a" }]),
            plain.clone(),
            Value::Null,
        ),
        (
            "nano_banana",
            "small",
            json!({ "prompt": "a", "base64_images": [PIXEL, PIXEL], "system_prompt": "be brief" }),
            json!([{ "text": "a" }, inline, inline]),
            plain.clone(),
            json!({ "parts": [{ "text": "be brief" }] }),
        ),
    ] {
        let (answer, asked) = submitted(&SETTINGS, 200, task_type, &params);
        let Ok(Progress::Done(product)) = answer else {
            panic!("{answer:?}");
        };
        assert!(matches!(&product.media[..], [Media::Inline { .. }]));
        let mut body = json!({
            "contents": [{ "role": "user", "parts": parts }], "generationConfig": config,
        });
        if !system.is_null() {
            body["systemInstruction"] = system;
        }
        let url = format!("POST https://gemini.example/v1beta/models/{model}:generateContent");
        assert_eq!(asked, [(url, "secret".to_owned(), body)]);
    }
}

#[test]
fn what_the_operator_must_set_is_named() {
    for missing in ["gemini_api_key", "gemini_base_url", "nano_banana_model"] {
        let mut settings = SETTINGS.to_vec();
        settings.retain(|(name, _)| *name != missing);
        let params = json!({ "prompt": "a hill" });
        let (answer, asked) = submitted(&settings, 200, "nano_banana", &params);
        let Err(Failure::Access(reason)) = answer else {
            panic!("{answer:?}");
        };
        assert!(reason.contains(missing), "{reason}");
        assert!(asked.is_empty());
    }
    let params = json!({ "prompt": "a hill" });
    let (answer, _) = submitted(&SETTINGS, 404, "nano_banana_pro", &params);
    let Err(Failure::Permanent(reason)) = answer else {
        panic!("{answer:?}");
    };
    assert!(
        reason.contains("`large`") && reason.contains("nano_banana_pro_model"),
        "{reason}"
    );
}

#[test]
fn parameters_that_gemini_would_refuse_are_named() {
    let most = vec!["/assets/asset_a"; 14];
    let too_many = vec!["/assets/asset_a"; 15];
    for (task_type, params, fields) in [
        ("nano_banana", json!({ "prompt": "a hill" }), &[][..]),
        ("nano_banana", json!({ "text": "a hill" }), &[]),
        ("nano_banana", json!({}), &["params.prompt"]),
        ("nano_banana", json!({ "text": 7 }), &["params.text"]),
        (
            "nano_banana",
            json!({ "prompt": "a", "aspect_ratio": "7:1" }),
            &["params.aspect_ratio"],
        ),
        (
            "nano_banana",
            json!({ "prompt": "a", "image_size": "1K" }),
            &["params.image_size"],
        ),
        (
            "nano_banana_pro",
            json!({ "prompt": "a", "image_size": "1K" }),
            &[],
        ),
        (
            "nano_banana_pro",
            json!({ "prompt": "a", "image_size": "3K" }),
            &["params.image_size"],
        ),
        (
            "nano_banana",
            json!({ "prompt": "a", "base64_images": most }),
            &[],
        ),
        (
            "nano_banana",
            json!({ "prompt": "a", "base64_images": too_many }),
            &["params.base64_images"],
        ),
    ] {
        let values: Map<String, Value> = params.as_object().unwrap().clone();
        let registry = Registry::standard(&MapConfig::default());
        let gemini = registry.for_type(task_type).unwrap();
        let mut read = Fields::new(&values, "params.");
        gemini.check(task_type, &mut read);
        let found: Vec<String> = read.finish().into_iter().map(|one| one.field).collect();
        assert_eq!(found, fields, "{task_type} {:.100}", params.to_string());
    }
    let registry = Registry::standard(&MapConfig::default());
    let gemini = registry.service("gemini").unwrap();
    assert_eq!(
        (gemini.title(), gemini.places(&MapConfig::default())),
        ("Gemini", 64)
    );
    // A submission may take as long as its pictures and the call together.
    assert_eq!(gemini.patience().as_secs(), 135);
    assert!(gemini.process_webhook(&json!({ "a": 1 })).is_none());
    for answer in [json!({ "candidates": [] }), json!({ "promptFeedback": {} })] {
        assert!(gemini.process_webhook(&answer).is_some(), "{answer}");
    }
}
