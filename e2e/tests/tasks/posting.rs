//! Checks the posting of a task: repeated requests, and bodies that are refused.

use std::collections::BTreeSet;

use e2e::elsewhere::max_body_mib;
use e2e::gemini::PIXEL;
use e2e::http::Answer;
use e2e::kling::Plan;
use e2e::tasks::{World, id, post};
use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};

/// The fields that a 422 names.
fn wrong_fields(answer: &Answer) -> Vec<String> {
    answer.assert_problem(422, "invalid-fields");
    let errors = answer.json()["errors"].as_array().unwrap().clone();
    let field = |error: &Value| {
        assert!(!error["message"].as_str().unwrap().is_empty(), "{error}");
        error["field"].as_str().unwrap().to_owned()
    };
    errors.iter().map(field).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_request_is_one_task() {
    let world = World::start(Plan::default()).await;
    let http = world.host.http();
    let body =
        json!({ "project_id": "p", "task_type": "kling_video", "params": { "prompt": "one" } });
    let key = [("idempotency-key", "k-1")];
    let again: Vec<_> = join_all((0..8).map(|_| post(&http, "/tasks", &key, &body))).await;
    let ids: BTreeSet<String> = again
        .iter()
        .map(|answer| {
            assert_eq!(answer.status, 201, "{answer:?}");
            id(&answer.json())
        })
        .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let id = ids.first().unwrap();
    let done = world.finished(id).await;
    let answer = post(&http, "/tasks", &key, &body).await;
    assert_eq!(answer.status, 201);
    let told = answer.json();
    for name in ["task_id", "created_at"] {
        assert_eq!(told[name], done[name]);
    }
    assert_eq!(told["status"], "completed");
    let other =
        json!({ "project_id": "p", "task_type": "kling_video", "params": { "prompt": "two" } });
    post(&http, "/tasks", &key, &other)
        .await
        .assert_problem(409, "idempotency-conflict");
    assert_ne!(
        self::id(&post(&http, "/tasks", &[], &body).await.json()),
        *id
    );
    for bad in ["", "with space", &"k".repeat(256)] {
        let answer = post(&http, "/tasks", &[("idempotency-key", bad)], &body).await;
        answer.assert_problem(400, "bad-request");
    }
    assert_eq!(world.kling.repeated(), [""; 0]);
}

/// A tree of such a body takes 200 MB. A tree of a body that fits Akamai Functions takes 150 MB, which is more than an
/// instance has there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_megabytes_without_a_picture_is_refused_in_words() {
    let world = World::start(Plan::default()).await;
    let numbers = max_body_mib().map_or(4_000_000, |most| (most - 1) * 500_000);
    let junk = format!("[{}0]", "0,".repeat(numbers));
    let headers = [("content-type", "application/json")];
    for (params, field) in [
        (format!(r#"{{"prompt": "x", "junk": {junk}}}"#), "params"),
        (
            format!(r#"{{"prompt": "{}"}}"#, "x".repeat(70_000)),
            "params",
        ),
    ] {
        let body = format!(r#"{{"project_id": "p", "task_type": "demo", "params": {params}}}"#);
        let http = world.host.http();
        let answer = http
            .send(Method::POST, "/tasks", &headers, body.into())
            .await;
        assert_eq!(wrong_fields(&answer), [field]);
        let words = answer.json()["detail"].to_string();
        assert!(
            words.contains("65536 bytes without its pictures"),
            "{words}"
        );
    }
    // A field that the app does not read takes no memory.
    let params = json!({ "prompt": "x", "complete": "at_once" });
    let body = format!(
        r#"{{"project_id": "p", "note": {junk}, "task_type": "demo", "params": {params}}}"#
    );
    let answer = world
        .host
        .http()
        .send(Method::POST, "/tasks", &headers, body.into())
        .await;
    assert_eq!(answer.status, 201, "{answer:?}");
    world.finished(&id(&answer.json())).await;
    world.host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_wrong_field_of_a_task_is_named() {
    let world = World::start(Plan::default()).await;
    let http = world.host.http();
    for body in ["", "nonsense", "[]", "\"task\"", "null"] {
        let headers = [("content-type", "application/json")];
        let answer = http
            .send(Method::POST, "/tasks", &headers, body.into())
            .await;
        answer.assert_problem(400, "bad-request");
    }
    let video =
        |params: Value| json!({"project_id": "p", "task_type": "kling_video", "params": params});
    let image =
        |params: Value| json!({"project_id": "p", "task_type": "nano_banana", "params": params});
    let cases = [
        (json!({}), vec!["project_id", "task_type"]),
        (
            json!({ "project_id": "a/b", "task_type": "sculpture", "params": {} }),
            vec!["project_id", "task_type"],
        ),
        (
            json!({
                "project_id": 7, "task_type": "demo", "params": { "prompt": 1 },
                "max_retries": 1.5, "callback_url": "http://10.0.0.1/", "node_id": [],
            }),
            vec![
                "project_id",
                "max_retries",
                "callback_url",
                "node_id",
                "params.prompt",
            ],
        ),
        (
            json!({ "project_id": "p", "task_type": "demo", "params": "x" }),
            vec!["params"],
        ),
        (video(json!({})), vec!["params.prompt"]),
        (
            video(json!({
                "prompt": "", "duration": 7, "mode": "fast", "cfg_scale": 2, "model": 1,
                "aspect_ratio": "2:1", "negative_prompt": 3,
            })),
            vec![
                "params.prompt",
                "params.duration",
                "params.mode",
                "params.cfg_scale",
                "params.model",
                "params.aspect_ratio",
                "params.negative_prompt",
            ],
        ),
        (
            video(json!({ "image_path": "/home/me/a.png" })),
            vec!["params.image_path"],
        ),
        (
            video(json!({ "image_path": "http://192.168.0.1/a.png" })),
            vec!["params.image_path"],
        ),
        (
            video(json!({ "image_path": PIXEL, "image_tail": "??" })),
            vec!["params.image_tail"],
        ),
        (
            image(json!({
                "text": "t", "image_size": "9K", "aspect_ratio": "x",
                "reference_image_urls": ["https://example.com/a.png", "http://127.0.0.1/a.png", "http://[::1]/"],
                "base64_images": ["AAAA"],
            })),
            vec![
                "params.image_size",
                "params.aspect_ratio",
                "params.reference_image_urls[1]",
                "params.reference_image_urls[2]",
                "params.base64_images[0]",
            ],
        ),
    ];
    for (body, expected) in cases {
        let mut wrong = wrong_fields(&post(&http, "/tasks", &[], &body).await);
        let mut expected = expected;
        wrong.sort();
        expected.sort_unstable();
        assert_eq!(wrong, expected, "{body}");
    }
    assert_eq!(
        http.get("/tasks").await.json(),
        json!({"tasks": [], "next_cursor": null})
    );
    http.get("/tasks/task_1_none")
        .await
        .assert_problem(404, "not-found");
    for action in ["cancel", "retry"] {
        let answer = world.ask("task_1_none", action).await;
        answer.assert_problem(404, "not-found");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notes_of_the_caller_come_back_and_a_late_task_is_cancelled() {
    let world = World::start(Plan::until_told()).await;
    let http = world.host.http();
    let notes = json!({ "shot": 7, "by": "an agent" });
    let body = json!({
        "project_id": "p", "task_type": "kling_video", "params": { "prompt": "one" },
        "tags": ["draft", "sea"], "metadata": notes, "cancel_after": 1,
    });
    let late = id(&post(&http, "/tasks", &[], &body).await.json());
    let other = world.video("two").await;
    let task = world.task(&late).await;
    assert_eq!(
        (&task["tags"], &task["metadata"]),
        (&json!(["draft", "sea"]), &notes)
    );
    for (tag, found) in [("sea", 1), ("se", 0)] {
        let list = http
            .get(&format!("/tasks?project_id=p&tag={tag}"))
            .await
            .json();
        assert_eq!(list["tasks"].as_array().unwrap().len(), found, "{tag}");
    }
    let task = world.finished(&late).await;
    assert_eq!(task["status"], "cancelled", "{task}");
    let words = "cancelled, because it had not ended 1 s after it was posted";
    assert_eq!(task["error_message"], words);
    assert!(world.task(&other).await["completed_at"].is_null());
    let accepted = world.accepted(&other).await;
    let expected =
        json!({ "at": accepted["tries"][0]["at"], "tried": "submission", "error": null });
    assert_eq!(accepted["tries"], json!([expected]));
    let wrong = json!({
        "project_id": "p", "task_type": "demo", "params": { "prompt": "x" }, "events": ["begun"],
        "tags": [7], "metadata": [], "cancel_after": 0,
    });
    let answer = post(&http, "/tasks", &[], &wrong).await;
    let mut fields = wrong_fields(&answer);
    fields.sort();
    assert_eq!(fields, ["cancel_after", "events", "metadata", "tags"]);
}
