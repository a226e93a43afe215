//! The service that needs no key: when it is done, how it fails, and how it calls back.

use std::time::Duration;

use platform::{HttpError, native::AnswerWith};
use serde_json::{Value, json};
use tasks::{Context, Failure, Media, Progress, Task};

use crate::fake::{Service, wrong_fields};

const NOW: i64 = 1_700_000_000;

fn demo() -> Service {
    let demo = Service::new("demo", &[], []);
    demo.world.clock.0.set(NOW);
    demo
}

fn task(job: Option<&str>) -> Task {
    Task {
        task_id: "task_1_a".into(),
        external_task_id: job.map(str::to_owned),
        ..Task::new(NOW)
    }
}

fn submit(params: &Value) -> Result<Progress, Failure> {
    demo().with(async |executor, context| executor.submit(&task(None), params, context).await)
}

fn poll(job: &str, params: &Value) -> Result<Progress, Failure> {
    let task = task(Some(job));
    demo().with(async |executor, context| executor.poll(&task, params, context).await)
}

fn is_drawn(answer: &Result<Progress, Failure>) -> bool {
    let Ok(Progress::Done(product)) = answer else {
        return false;
    };
    let [Media::Inline { media_type, bytes }] = &product.media[..] else {
        return false;
    };
    media_type == "image/svg+xml" && bytes.starts_with(b"<svg")
}

#[test]
fn it_checks_its_parameters() {
    for (params, wrong) in [
        (json!({ "prompt": "a" }), &[][..]),
        (json!({ "prompt": "a".repeat(2000) }), &[]),
        (json!({ "prompt": "a".repeat(2001) }), &["params.prompt"]),
        (json!({}), &["params.prompt"]),
        (json!({ "prompt": "a", "complete": "webhook" }), &[]),
        (
            json!({ "prompt": "a", "complete": "never" }),
            &["params.complete"],
        ),
        (json!({ "prompt": "a", "seconds": 600 }), &[]),
        (
            json!({ "prompt": "a", "seconds": 601 }),
            &["params.seconds"],
        ),
        (json!({ "prompt": "a", "fail": true }), &[]),
        (json!({ "prompt": "a", "fail": "no" }), &[]),
        (json!({ "prompt": "a", "fail": 7 }), &["params.fail"]),
        (
            json!({ "prompt": "a", "fail": "x".repeat(501) }),
            &["params.fail"],
        ),
    ] {
        assert_eq!(wrong_fields("demo", &params), wrong, "{params:.80}");
    }
}

#[test]
fn a_drawing_takes_as_long_as_its_task_says_and_three_seconds_otherwise() {
    assert!(is_drawn(&submit(
        &json!({ "prompt": "a", "complete": "at_once" })
    )));
    for (seconds, done, again) in [
        (json!(null), 3, 3.0),
        (json!(0), 0, 0.0),
        (json!(1.5), 2, 1.5),
        (json!(600), 600, 600.0),
    ] {
        let params = json!({ "prompt": "a", "seconds": seconds });
        let expected = Progress::Running {
            external_task_id: format!("demo_{}_task_1_a", NOW + done),
            look_again: Some(Duration::from_secs_f64(again)),
        };
        assert_eq!(submit(&params), Ok(expected), "{seconds}");
    }
    for (left, is_done) in [
        (-1, true),
        (0, true),
        // The name holds whole seconds.
        (1, true),
        (2, false),
        (600, false),
        // The clock was set back since.
        (601, true),
    ] {
        let job = format!("demo_{}_task_1_a", NOW + left);
        let answer = poll(&job, &json!({ "prompt": "a" }));
        assert_eq!(is_drawn(&answer), is_done, "{left}: {answer:?}");
        if !is_done {
            let running = Progress::Running {
                external_task_id: job,
                look_again: None,
            };
            assert_eq!(answer, Ok(running));
        }
    }
    assert!(is_drawn(&poll("nonsense", &json!({ "prompt": "a" }))));
}

#[test]
fn it_fails_as_its_task_says() {
    for (fail, words) in [
        (json!(true), Some("the demo was told to fail")),
        (json!("no paint"), Some("no paint")),
        (json!(""), None),
        (json!(false), None),
        (json!(null), None),
    ] {
        let params = json!({ "prompt": "a", "fail": fail, "complete": "at_once" });
        let answer = submit(&params);
        match words {
            Some(words) => assert_eq!(answer, Err(Failure::permanent(words))),
            None => assert!(is_drawn(&answer), "{fail}: {answer:?}"),
        }
    }
}

#[test]
fn it_calls_back_with_what_it_would_have_answered() {
    for (fail, status, expected) in [
        (Value::Null, 200, Ok(json!({ "prompt": "a" }))),
        (
            json!("no"),
            204,
            Ok(json!({ "prompt": "a", "error": "no" })),
        ),
        (
            Value::Null,
            503,
            Err("the callback got 503 Service Unavailable"),
        ),
        (Value::Null, 0, Err("the callback got no answer: ")),
    ] {
        let params = json!({ "prompt": "a", "fail": fail, "complete": "webhook" });
        let told = std::cell::RefCell::new(Vec::new());
        let http = AnswerWith(|request: http::Request<Vec<u8>>| {
            assert_eq!(request.uri(), "https://here.example/webhooks/demo");
            told.borrow_mut().push(request.into_body());
            if status == 0 {
                return Err(HttpError::NoAnswer("cut".into()));
            }
            let answer = http::Response::builder().status(status);
            Ok(answer.body(Vec::new()).unwrap())
        });
        let job = format!("demo_{NOW}_task_1_a");
        let task = task(Some(&job));
        let answer = demo().with(async |executor, context| {
            let context = Context {
                http: &http,
                ..*context
            };
            executor.poll(&task, &params, &context).await
        });
        let body: Value = serde_json::from_slice(&told.borrow()[0]).unwrap();
        match (answer, expected) {
            (Ok(running), Ok(mut expected)) => {
                assert!(matches!(running, Progress::Running { .. }));
                expected["demo_job"] = json!(job);
                assert_eq!(body, expected);
            }
            (Err(Failure::Retry { reason, .. }), Err(words)) => {
                assert!(reason.starts_with(words), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        // The engine can read this callback.
        let callback = demo().with(async |executor, _| executor.process_webhook(&body));
        let callback = callback.unwrap();
        assert_eq!(callback.about.as_deref(), Some(job.as_str()));
        match body["error"].as_str() {
            Some(words) => assert_eq!(callback.news, Err(Failure::permanent(words))),
            None => assert!(is_drawn(&callback.news)),
        }
    }
    for nonsense in [
        json!({}),
        json!({ "demo_job": "x" }),
        json!({ "demo_job": 7 }),
    ] {
        let callback = demo().with(async |executor, _| executor.process_webhook(&nonsense));
        assert_eq!(callback, None, "{nonsense}");
    }
}
