//! The time that this server waits for each other server, and the bytes that it reads of an answer. Both are bounded,
//! because a claim ends and an instance has little memory.

use std::{cell::RefCell, time::Duration};

use async_trait::async_trait;
use http::{Request, Response};
use platform::{
    HttpClient, HttpError, Ports,
    http_client::Limits,
    native::{MapConfig, World, block_on},
};
use serde_json::json;
use tasks::{Arrived, Context, Engine, Task, TaskRequest, upload};

use crate::fake::Service;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

const SETTINGS: [(&str, &str); 9] = [
    ("kling_api_key", "secret"),
    ("kling_base_url", "https://kling.example"),
    ("fal_key", "secret"),
    ("fal_base_url", "https://fal.example"),
    ("fal_rest_url", "https://keys.fal.example"),
    ("gemini_api_key", "secret"),
    ("gemini_base_url", "https://gemini.example"),
    ("nano_banana_model", "small"),
    ("public_url", "http://here"),
];

/// An Internet of which no server can be reached. It records each request with its limits.
#[derive(Default)]
struct Unreachable(RefCell<Vec<(String, Limits)>>);

#[async_trait(?Send)]
impl HttpClient for Unreachable {
    async fn send(
        &self,
        request: Request<Vec<u8>>,
        limits: Limits,
    ) -> Result<Response<Vec<u8>>, HttpError> {
        let asked = format!("{} {}", request.method(), request.uri());
        self.0.borrow_mut().push((asked, limits));
        Err(HttpError::NotSent("no server".into()))
    }
}

/// Submits a task to each service, polls it, and checks a callback about it.
fn ask_services(http: &Unreachable) {
    let picture = json!(["https://pictures.example.com/a.png"]);
    let signature = "0".repeat(128);
    let unsigned = |name: &str| match name {
        "x-fal-webhook-timestamp" => Some("0"),
        "x-fal-webhook-signature" => Some(signature.as_str()),
        _ => Some("a"),
    };
    for (service, task_type, params) in [
        ("kling", "kling_video", json!({ "prompt": "a" })),
        ("fal", "fal:fal-ai/flux", json!({})),
        ("gemini", "nano_banana", json!({ "prompt": "a" })),
        (
            "gemini",
            "nano_banana",
            json!({ "prompt": "a", "reference_image_urls": picture }),
        ),
    ] {
        let task = Task {
            task_type: task_type.into(),
            external_task_id: Some("job-1".into()),
            ..Task::new(0)
        };
        Service::new(service, &SETTINGS, []).with(async |executor, context| {
            let context = Context { http, ..*context };
            let _ = executor.submit(&task, &params, &context).await;
            let _ = executor.poll(&task, &params, &context).await;
            let callback = Arrived {
                header: &unsigned,
                body: b"{}",
            };
            let _ = executor.authenticity(&callback, &context).await;
        });
    }
}

/// Carries a task of the demo on, which notifies its agent and gets a result at an address that is too long for a row.
fn carry_on_a_task(http: &Unreachable, world: &World) {
    let engine = block_on(Engine::open(Ports {
        http,
        ..world.ports()
    }))
    .unwrap();
    let body = json!({
        "project_id": "p", "task_type": "demo", "callback_url": "https://agent.example.com/hook",
        "params": { "prompt": "a", "complete": "webhook", "seconds": 0 },
    })
    .to_string();
    let request = TaskRequest::read(body.as_bytes()).unwrap();
    let created = tasks::create(engine.ports, &engine.registry, &request, None);
    let task = block_on(created).unwrap();
    block_on(engine.take_up(&task));
    let url = format!("https://results.example.com/{}", "x".repeat(3000));
    let told = json!({ "task_id": task.job(), "status": "success", "result_url": url });
    let _ = block_on(engine.call_back("demo", &task.job(), told.to_string().as_bytes()));
    let cancelled = block_on(engine.cancel(&task)).unwrap();
    block_on(engine.ended(&cancelled));
}

#[test]
fn each_call_has_its_timeout_and_its_limit_of_bytes() {
    let http = Unreachable::default();
    ask_services(&http);
    let world = World::new(MapConfig::from_pairs(&SETTINGS));
    carry_on_a_task(&http, &world);
    let bucket = MapConfig::from_pairs(&[
        ("s3_bucket", "b"),
        ("s3_endpoint", "https://s3.example"),
        ("s3_region", "auto"),
        ("s3_access_key", "a"),
        ("s3_secret_key", "s"),
    ]);
    let ports = Ports {
        http: &http,
        config: &bucket,
        ..world.ports()
    };
    block_on(upload(ports, "p", b"\0\0\0\x18ftypisom".to_vec())).unwrap_err();
    let asked = http.0.borrow();
    for (call, milliseconds, max_bytes) in [
        ("POST https://kling.example/", 10_000, MIB),
        ("GET https://kling.example/", 7_000, MIB),
        ("POST https://fal.example/", 10_000, MIB),
        ("GET https://fal.example/", 3_500, 16 * MIB),
        ("GET https://keys.fal.example/", 5_000, 64 * KIB),
        ("POST https://gemini.example/", 120_000, 64 * MIB),
        ("GET https://pictures.example.com/", 10_000, 10 * MIB),
        ("POST /internal/submissions/demo", 10_000, 64 * KIB),
        ("POST http://here/webhooks/demo", 5_000, 64 * KIB),
        ("GET https://results.example.com/", 5_000, 8 * MIB),
        ("POST https://agent.example.com/hook", 10_000, 64 * KIB),
        ("PUT https://s3.example/b/", 30_000, 64 * MIB),
    ] {
        let limits = Limits {
            timeout: Duration::from_millis(milliseconds),
            max_bytes,
        };
        let found: Vec<&Limits> = asked
            .iter()
            .filter(|(one, _)| one.starts_with(call))
            .map(|(_, limits)| limits)
            .collect();
        assert!(!found.is_empty(), "{call}: {asked:?}");
        assert!(found.iter().all(|one| **one == limits), "{call}: {found:?}");
    }
}
