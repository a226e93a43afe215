//! What Kling is asked, and what becomes of its answers, without a Kling: requests are compared as they leave.

#![allow(clippy::unwrap_used)]

use std::{cell::RefCell, collections::VecDeque};

use async_trait::async_trait;
use http::{Request, Response};
use platform::{
    HttpClient, HttpError, Ports,
    http_client::Limits,
    native::{MapConfig, World, block_on},
};
use serde_json::{Map, Value, json};
use tasks::{AssetStore, Executor, Failure, Fields, Outside, Progress, Registry, Task};

const KEY: (&str, &str) = ("kling_api_key", "secret");
const BASE: (&str, &str) = ("kling_base_url", "https://kling.example/");
const NOW: i64 = 1_700_000_000;

/// A picture of one pixel.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// A Kling that answers what the test wants, in order, and remembers what it was asked.
#[derive(Default)]
struct Kling {
    answers: RefCell<VecDeque<(u16, Value)>>,
    /// Method, path, `Authorization` and body.
    asked: RefCell<Vec<(String, String, String, Value)>>,
}

#[async_trait(?Send)]
impl HttpClient for Kling {
    async fn send(
        &self,
        request: Request<Vec<u8>>,
        _: Limits,
    ) -> Result<Response<Vec<u8>>, HttpError> {
        assert_eq!(request.uri().host(), Some("kling.example"));
        let authorization = request.headers()["authorization"].to_str().unwrap();
        self.asked.borrow_mut().push((
            request.method().to_string(),
            request.uri().path().to_owned(),
            authorization.to_owned(),
            serde_json::from_slice(request.body()).unwrap_or_default(),
        ));
        let (status, body) = self.answers.borrow_mut().pop_front().unwrap();
        let answer = Response::builder()
            .status(status)
            .header("date", "Tue, 14 Nov 2023 22:15:20 GMT");
        Ok(answer.body(body.to_string().into_bytes()).unwrap())
    }
}

/// The answer about a job.
fn job(id: &str, status: &str) -> (u16, Value) {
    let data = json!({ "task_id": id, "task_status": status });
    (200, json!({ "code": 0, "data": data }))
}

/// The answer about a job that Kling does not know.
fn unknown() -> (u16, Value) {
    (404, json!({ "code": 1203, "message": "no such task" }))
}

struct Scene {
    world: World,
    kling: Kling,
}

impl Scene {
    fn new(settings: &[(&str, &str)], answers: impl IntoIterator<Item = (u16, Value)>) -> Self {
        let world = World::new(MapConfig::from_pairs(settings));
        world.clock.0.set(NOW);
        let kling = Kling {
            answers: RefCell::new(answers.into_iter().collect()),
            asked: RefCell::default(),
        };
        Self { world, kling }
    }

    /// Does something with Kling's executor and what it may use.
    fn with<T>(&self, what: impl AsyncFnOnce(&dyn Executor, &Outside<'_>) -> T) -> T {
        let ports = Ports {
            http: &self.kling,
            ..self.world.ports()
        };
        let registry = Registry::standard(ports.config);
        let assets = AssetStore::open(ports.database, ports.http, ports.config).unwrap();
        let outside = Outside {
            http: ports.http,
            config: ports.config,
            clock: ports.clock,
            assets: &assets,
            callback_url: "https://here.example/webhooks/kling",
        };
        block_on(what(registry.service("kling").unwrap(), &outside))
    }

    fn submit(&self, task: &Task, params: Value) -> Result<Progress, Failure> {
        self.with(async |kling, outside| kling.submit(task, &params, outside).await)
    }

    /// What Kling was asked: method and path.
    fn asked(&self) -> Vec<String> {
        let asked = self.kling.asked.borrow();
        asked
            .iter()
            .map(|(method, path, ..)| format!("{method} {path}"))
            .collect()
    }
}

fn task() -> Task {
    Task {
        task_id: "task_1_a".into(),
        project_id: "p".into(),
        ..Task::new(NOW)
    }
}

/// A job that goes on, and whether it is asked about at once.
fn goes_on(answer: Result<Progress, Failure>) -> (String, bool) {
    match answer.unwrap() {
        Progress::Running {
            external_task_id,
            look_again,
        } => (external_task_id, look_again.is_some()),
        Progress::Done(product) => panic!("{product:?}"),
    }
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
        let values: Map<String, Value> = params.as_object().unwrap().clone();
        let registry = Registry::standard(&MapConfig::default());
        let mut read = Fields::new(&values, "params.");
        let kling = registry.for_type("kling_video").unwrap();
        kling.check("kling_video", &mut read);
        let found: Vec<String> = read.finish().into_iter().map(|one| one.field).collect();
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
                "duration": "10", "cfg_scale": 0.5, "model": "kling-v2", "image_path": "",
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
        let scene = Scene::new(&[KEY, BASE], [job("k1", "submitted")]);
        assert_eq!(goes_on(scene.submit(&task(), params)), ("k1".into(), false));
        let asked = scene.kling.asked.borrow();
        let expected = (
            "POST".to_owned(),
            path.to_owned(),
            "Bearer secret".to_owned(),
            body,
        );
        assert_eq!(*asked, [expected]);
    }
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
        let scene = Scene::new(&[KEY, BASE], answers);
        let answer = scene.submit(task, json!({ "prompt": "a hill" }));
        assert_eq!(goes_on(answer), (found.0.to_owned(), found.1));
        assert_eq!(scene.asked(), asked);
    }
    // If Kling cannot tell, there may be such a job.
    for (status, code) in [(401, 1000), (500, 5000)] {
        let refusal = (status, json!({ "code": code, "message": "not now" }));
        let scene = Scene::new(&[KEY, BASE], [refusal]);
        let answer = scene.submit(&again, json!({ "prompt": "a hill" }));
        assert!(matches!(answer, Err(Failure::Retry { .. })), "{answer:?}");
        assert_eq!(scene.asked(), [find("task_1_a")]);
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
        let scene = Scene::new(&[KEY, BASE], [job("k1", "processing")]);
        let answer =
            scene.with(async |kling, outside| kling.poll(&accepted, &params, outside).await);
        assert_eq!(goes_on(answer), ("k1".into(), false));
        assert_eq!(scene.asked(), [path]);
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
    let scene = Scene::new(&pair, [off(), job("k1", "submitted")]);
    let answer = scene.submit(&task(), json!({ "prompt": "a hill" }));
    assert_eq!(goes_on(answer), ("k1".into(), false));
    let tokens: Vec<String> = {
        let asked = scene.kling.asked.borrow();
        asked.iter().map(|(_, _, token, _)| token.clone()).collect()
    };
    assert_eq!(tokens.len(), 2);
    assert_ne!(tokens[0], tokens[1]);
    // It is not tried a third time.
    let scene = Scene::new(&pair, [off(), off()]);
    let answer = scene.submit(&task(), json!({ "prompt": "a hill" }));
    assert!(matches!(answer, Err(Failure::Retry { .. })), "{answer:?}");
    assert_eq!(scene.asked().len(), 2);
}

#[test]
fn without_a_key_kling_is_not_asked() {
    for settings in [&[BASE][..], &[KEY]] {
        let scene = Scene::new(settings, []);
        let answer = scene.submit(&task(), json!({ "prompt": "a hill" }));
        assert!(matches!(answer, Err(Failure::Access(_))), "{answer:?}");
        assert!(scene.asked().is_empty());
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
    assert_eq!(kling.title(), "Kling");
    let enveloped = json!({ "data": { "task_id": "k1", "task_status": "processing" } });
    let callback = kling.process_webhook(&enveloped).unwrap();
    assert_eq!(callback.about.as_deref(), Some("k1"));
}
