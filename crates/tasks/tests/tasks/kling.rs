//! The requests to Kling, and what becomes of its answers, without a Kling: requests are compared as they leave.

use std::cell::RefCell;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use platform::native::{AnswerWith, MapConfig};
use serde_json::{Value, json};
use tasks::{Context, Failure, Progress, Registry, Task};

use crate::fake::{
    Asked, PIXEL,
    kling::{BASE, KEY, NOW, goes_on, job, kling, submit, task},
    wrong_fields,
};

/// The answer about a job that Kling does not know.
fn unknown() -> (u16, Value) {
    (404, json!({ "code": 1203, "message": "no such task" }))
}

#[test]
fn parameters_that_kling_would_refuse_are_named() {
    let long = "x".repeat(16 * 1024 + 1);
    for (params, fields) in [
        (json!({ "prompt": "a hill" }), &[][..]),
        (json!({}), &["params.prompt"]),
        (json!({ "image_path": "" }), &["params.prompt"]),
        (json!({ "image_path": "/assets/asset_a" }), &[]),
        (
            json!({ "image_path": "/assets/asset_a", "prompt": 7 }),
            &["params.prompt"],
        ),
        (
            json!({ "prompt": "a", "image_tail": 7 }),
            &["params.image_tail"],
        ),
        (json!({ "prompt": "a", "aspect_ratio": "1:1" }), &[]),
        (
            json!({ "prompt": "a", "aspect_ratio": "2:1" }),
            &["params.aspect_ratio"],
        ),
        (
            json!({ "prompt": "a", "negative_prompt": long }),
            &["params.negative_prompt"],
        ),
        (
            json!({ "prompt": "a", "model": "m".repeat(101) }),
            &["params.model"],
        ),
        (json!({ "prompt": "a", "mode": "fast" }), &["params.mode"]),
        (json!({ "prompt": "a", "cfg_scale": 1 }), &[]),
        (
            json!({ "prompt": "a", "cfg_scale": 1.1 }),
            &["params.cfg_scale"],
        ),
        (json!({ "prompt": "a", "duration": 5 }), &[]),
        (json!({ "prompt": "a", "duration": "10" }), &[]),
        (
            json!({ "prompt": "a", "duration": 7 }),
            &["params.duration"],
        ),
        (
            json!({ "prompt": "a", "duration": 11 }),
            &["params.duration"],
        ),
    ] {
        let found = wrong_fields("kling_video", &params);
        assert_eq!(found, fields, "{:.100}", params.to_string());
    }
}

#[test]
fn a_submission_says_what_kling_needs_and_no_more() {
    let common = json!({
        "duration": "5", "external_task_id": "task_1_a",
        "callback_url": "https://here.example/webhooks/kling", "model_name": "kling-v1",
    });
    let and = |more: Value| {
        let mut all = common.clone();
        let more = more.as_object().unwrap().clone();
        all.as_object_mut().unwrap().extend(more);
        all
    };
    let text = "/v1/videos/text2video";
    let image = "/v1/videos/image2video";
    let far = "https://pictures.example/a.png";
    for (params, path, body) in [
        (
            json!({ "prompt": "a hill" }),
            text,
            and(json!({ "prompt": "a hill" })),
        ),
        (
            json!({
                "prompt": "a hill", "negative_prompt": "", "mode": "pro", "aspect_ratio": "1:1",
                "duration": "10", "cfg_scale": 0.5, "model": "kling-v2", "image_path": "", "sound": "",
            }),
            text,
            and(json!({
                "prompt": "a hill", "mode": "pro", "aspect_ratio": "1:1", "duration": "10",
                "cfg_scale": 0.5, "model_name": "kling-v2",
            })),
        ),
        (
            json!({ "image_path": far, "image_tail": far, "duration": 10, "aspect_ratio": "1:1" }),
            image,
            and(json!({ "image": far, "image_tail": far, "duration": "10" })),
        ),
        (
            json!({ "image_path": PIXEL }),
            image,
            and(json!({ "image": PIXEL })),
        ),
    ] {
        let service = kling(&[KEY, BASE], [job("k1", "submitted")]);
        assert_eq!(
            goes_on(submit(&service, &task(), params)),
            ("k1".into(), false)
        );
        let expected = Asked {
            call: format!("POST https://kling.example{path}"),
            key: "Bearer secret".into(),
            body,
        };
        assert_eq!(service.asked(), [expected]);
    }
}

#[test]
fn the_data_of_a_result_has_what_the_first_generation_charged() {
    let accepted = Task {
        external_task_id: Some("k1".into()),
        ..task()
    };
    let (status, mut body) = job("k1", "succeed");
    body["data"]["task_result"] = json!({ "videos": [{ "url": "https://cdn/v.mp4" }] });
    body["data"]["final_unit_deduction"] = json!("2");
    let service = kling(&[KEY, BASE], [(status, body)]);
    let params = json!({ "prompt": "a" });
    let news = service.with(async |kling, context| kling.poll(&accepted, &params, context).await);
    let Ok(Progress::Done(product)) = news else {
        panic!("{news:?}");
    };
    let cost = json!([{ "charge_type": "unit", "amount": "2" }]);
    assert_eq!(product.data["cost"], cost);
}

#[test]
fn a_job_that_may_have_begun_is_found_before_another_is_paid_for() {
    let again = Task {
        attempts: 2,
        ..task()
    };
    let retried = Task {
        run: 1,
        earlier_jobs: Some("task_1_a\nk0".into()),
        ..task()
    };
    let find = |name: &str| format!("GET /v1/videos/text2video/{name}");
    let post = || "POST /v1/videos/text2video".to_owned();
    for (task, answers, found, asked) in [
        (
            &again,
            vec![job("k1", "processing")],
            ("k1", true),
            vec![find("task_1_a")],
        ),
        // A job of this run is taken over even if it failed: its error is the answer.
        (
            &again,
            vec![job("k1", "failed")],
            ("k1", true),
            vec![find("task_1_a")],
        ),
        (
            &again,
            vec![unknown(), job("k2", "submitted")],
            ("k2", false),
            vec![find("task_1_a"), post()],
        ),
        (
            &retried,
            vec![job("k0", "succeed")],
            ("k0", true),
            vec![find("k0")],
        ),
        (
            &retried,
            vec![job("k0", "failed"), unknown(), job("k2", "submitted")],
            ("k2", false),
            vec![find("k0"), find("task_1_a"), post()],
        ),
    ] {
        let service = kling(&[KEY, BASE], answers);
        let answer = submit(&service, task, json!({ "prompt": "a hill" }));
        assert_eq!(goes_on(answer), (found.0.to_owned(), found.1));
        assert_eq!(service.calls(), asked);
    }
    // If Kling cannot answer, there may be such a job.
    for (status, code) in [(401, 1000), (500, 5000)] {
        let refusal = (status, json!({ "code": code, "message": "not now" }));
        let service = kling(&[KEY, BASE], [refusal]);
        let answer = submit(&service, &again, json!({ "prompt": "a hill" }));
        assert!(matches!(answer, Err(Failure::Retry { .. })), "{answer:?}");
        assert_eq!(service.calls(), [find("task_1_a")]);
    }
}

#[test]
fn a_poll_asks_about_the_job_where_it_was_submitted() {
    let accepted = Task {
        external_task_id: Some("k1".into()),
        ..task()
    };
    for (params, path) in [
        (json!({ "prompt": "a" }), "GET /v1/videos/text2video/k1"),
        (
            json!({ "image_path": "/assets/asset_a" }),
            "GET /v1/videos/image2video/k1",
        ),
    ] {
        let service = kling(&[KEY, BASE], [job("k1", "processing")]);
        let answer =
            service.with(async |kling, context| kling.poll(&accepted, &params, context).await);
        assert_eq!(goes_on(answer), ("k1".into(), false));
        assert_eq!(service.calls(), [path]);
    }
}

#[test]
fn no_address_is_made_of_a_name_that_is_not_that_of_a_job() {
    for name in ["../k1", "k1,k2", "k1&x=y", "..", ""] {
        let accepted = Task {
            external_task_id: Some(name.into()),
            ..task()
        };
        let params = json!({ "prompt": "a" });
        let service = kling(&[KEY, BASE], []);
        let answer =
            service.with(async |kling, context| kling.poll(&accepted, &params, context).await);
        assert!(matches!(answer, Err(Failure::Permanent(_))), "{answer:?}");
        assert!(service.calls().is_empty(), "{name}");
    }
}

#[test]
fn a_token_that_is_off_by_klings_clock_is_made_again_by_that_clock() {
    let pair = [
        ("kling_access_key", "access"),
        ("kling_secret_key", "secret"),
        BASE,
    ];
    let off = || (401, json!({ "code": 1003, "message": "too early" }));
    let service = kling(&pair, [off(), job("k1", "submitted")]);
    let answer = submit(&service, &task(), json!({ "prompt": "a hill" }));
    assert_eq!(goes_on(answer), ("k1".into(), false));
    let tokens: Vec<String> = service.asked().into_iter().map(|one| one.key).collect();
    assert_eq!(tokens.len(), 2);
    assert_ne!(tokens[0], tokens[1]);
    // It is not tried a third time.
    let service = kling(&pair, [off(), off()]);
    let answer = submit(&service, &task(), json!({ "prompt": "a hill" }));
    assert!(matches!(answer, Err(Failure::Retry { .. })), "{answer:?}");
    assert_eq!(service.calls().len(), 2);
}

#[test]
fn without_its_date_kling_is_taken_to_be_a_minute_behind() {
    let pair = [
        ("kling_access_key", "access"),
        ("kling_secret_key", "secret"),
        BASE,
    ];
    let begins = RefCell::new(Vec::new());
    let http = AnswerWith(|request: http::Request<Vec<u8>>| {
        let token = request.headers()["authorization"].to_str().unwrap();
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap());
        let claims: Value = serde_json::from_slice(&claims.unwrap()).unwrap();
        begins.borrow_mut().push(claims["nbf"].as_i64().unwrap());
        let early = json!({ "code": 1003, "message": "too early" }).to_string();
        Ok(http::Response::new(early.into_bytes()))
    });
    let answer = kling(&pair, []).with(async |executor, context| {
        let context = Context {
            http: &http,
            ..*context
        };
        let params = json!({ "prompt": "a hill" });
        executor.submit(&task(), &params, &context).await
    });
    assert!(matches!(answer, Err(Failure::Retry { .. })), "{answer:?}");
    assert_eq!(*begins.borrow(), [NOW - 5, NOW - 65]);
}

#[test]
fn without_a_key_kling_is_not_asked() {
    for settings in [&[BASE][..], &[KEY]] {
        let service = kling(settings, []);
        let answer = submit(&service, &task(), json!({ "prompt": "a hill" }));
        assert!(matches!(answer, Err(Failure::Access(_))), "{answer:?}");
        assert!(service.calls().is_empty());
    }
}

#[test]
fn the_places_and_the_longest_job_are_settings() {
    let registry = Registry::standard(&MapConfig::default());
    let kling = registry.service("kling").unwrap();
    for (settings, places, hours) in [
        (&[][..], 100, 24),
        (&[("kling_places", "3"), ("kling_longest_job", "2")], 3, 2),
        (
            &[("kling_places", "many"), ("kling_longest_job", "-1")],
            100,
            24,
        ),
    ] {
        let config = MapConfig::from_pairs(settings);
        assert_eq!(kling.places(&config), places, "{settings:?}");
        let longest = kling.longest_job(&config).as_secs();
        assert_eq!(longest, hours * 3600, "{settings:?}");
    }
    let kept = kling.keeps_results().unwrap().as_secs();
    assert_eq!(kept, 30 * 24 * 3600);
    assert_eq!(kling.title(), "Kling");
    let enveloped = json!({ "data": { "task_id": "k1", "task_status": "processing" } });
    let callback = kling.process_webhook(&enveloped).unwrap();
    assert_eq!(callback.about.as_deref(), Some("k1"));
}
