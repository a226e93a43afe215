//! The callbacks of Kling in both of its forms, and their signatures.

use auth::webhooks::WebhookKey;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use platform::native::block_on;
use serde_json::{Value, json};
use tasks::{Arrived, Engine, Status, Task, TaskError, TaskRequest, rows};

use crate::fake::Service;

const NOW: i64 = 1_781_080_794;

/// The key whose secrets for agents have the form of Kling's.
fn sender() -> WebhookKey {
    WebhookKey::new("what Kling signs with")
}

struct World {
    kling: Service,
    task: Task,
}

impl World {
    /// A task of this model that Kling has accepted. With a secret, Kling signs.
    fn new(model: &str, is_signed: bool) -> Self {
        let secret = STANDARD.encode(sender().notification_secret("kling"));
        let secret = format!("whsec_{secret}");
        let mut settings = vec![
            ("kling_api_key", "secret"),
            ("kling_base_url", "https://kling.example"),
            ("public_url", "http://here"),
        ];
        if is_signed {
            settings.push(("kling_webhook_secret", secret.as_str()));
        }
        let kling = Service::answering("kling", &settings, |asked| {
            let is_new = asked.call.contains("-video/") || asked.call.contains("/tasks");
            let name = if is_new { "id" } else { "task_id" };
            let status = if asked.call.starts_with("POST") {
                "submitted"
            } else {
                "succeeded"
            };
            let outputs = json!([{ "type": "video", "url": "https://cdn.example/polled.mp4" }]);
            let job =
                json!({ name: "k1", "status": status, "task_status": status, "outputs": outputs });
            (200, json!({ "code": 0, "data": job }))
        });
        kling.world.clock.0.set(NOW);
        let params = json!({ "prompt": "a hill", "model": model });
        let body = json!({ "project_id": "p", "task_type": "kling_video", "params": params });
        let body = body.to_string();
        let engine = block_on(Engine::open(kling.ports())).unwrap();
        let request = TaskRequest::read(body.as_bytes()).unwrap();
        let created = tasks::create(engine.ports, &engine.registry, &request, None);
        let task = block_on(created).unwrap();
        block_on(engine.tick());
        let world = Self { kling, task };
        assert_eq!(world.seen().external_task_id.as_deref(), Some("k1"));
        world
    }

    fn engine(&self) -> Engine<'_> {
        block_on(Engine::open(self.kling.ports())).unwrap()
    }

    fn seen(&self) -> Task {
        let database = self.kling.ports().database;
        block_on(rows::get(database, &self.task.task_id))
            .unwrap()
            .unwrap()
    }

    /// Calls back as Kling does, with a signature of this time, or with none.
    fn call(&self, job: &str, body: &Value, at: Option<i64>) -> Result<(), TaskError> {
        let body = body.to_string();
        let signature = at.map(|at| {
            let codes = sender().sign_notification("kling", "msg", at, body.as_bytes());
            format!("v1,AAAA v1,{}", STANDARD.encode(codes[0]))
        });
        let at = at.map(|at| at.to_string());
        let header = |name: &str| match name {
            "webhook-id" => Some("msg"),
            "webhook-timestamp" => at.as_deref(),
            "webhook-signature" => signature.as_deref(),
            _ => None,
        };
        let callback = Arrived {
            header: &header,
            body: body.as_bytes(),
        };
        block_on(self.engine().receive_callback("kling", job, callback))
    }
}

/// Returns what Kling sends when a job has ended, in its newer form.
fn ended(status: &str) -> Value {
    json!({
        "id": "k1", "status": status, "message": "too dark", "external_id": "any", "create_time": 1, "update_time": 2,
        "outputs": [{ "type": "video", "url": "https://cdn.example/called.mp4" }],
        "billing": [{ "charge_type": "unit", "amount": "2" }],
    })
}

#[test]
fn a_callback_of_either_form_completes_or_fails_its_task() {
    let old = json!({
        "task_id": "k1", "task_status": "succeed", "final_unit_deduction": "2",
        "task_result": { "videos": [{ "url": "https://cdn.example/called.mp4" }] },
    });
    for (model, body) in [("kling-v3", old), ("kling-3.0", ended("succeeded"))] {
        let world = World::new(model, false);
        let before = world.seen();
        for status in ["submitted", "processing"] {
            let running = json!({ "id": "k1", "status": status, "outputs": [] });
            world.call(&world.task.job(), &running, None).unwrap();
        }
        assert_eq!(world.seen(), before);
        world.call(&world.task.job(), &body, None).unwrap();
        let done = world.seen();
        assert_eq!(done.status, Status::Completed);
        let url = "https://cdn.example/called.mp4";
        assert_eq!(done.result_url.as_deref(), Some(url));
        let database = world.kling.ports().database;
        let data = block_on(rows::result_data(database, &done.task_id)).unwrap();
        let data: Value = serde_json::from_str(&data.unwrap()).unwrap();
        let cost = json!([{ "charge_type": "unit", "amount": "2" }]);
        assert_eq!(data["cost"], cost);
    }
    let world = World::new("kling-3.0", false);
    world
        .call(&world.task.job(), &ended("failed"), None)
        .unwrap();
    let failed = world.seen();
    assert_eq!(failed.status, Status::Failed);
    assert_eq!(failed.error_message.as_deref(), Some("Kling: too dark"));
}

/// An operator presses "test" in Kling's console, for the address of a job or for the bare one.
#[test]
fn the_consoles_test_is_taken_and_changes_nothing() {
    let test = json!({ "id": "871", "status": "submitted", "outputs": [] });
    for is_signed in [false, true] {
        let world = World::new("kling-3.0", is_signed);
        let before = world.seen();
        world.call(&world.task.job(), &test, Some(NOW)).unwrap();
        let bare = (
            world.engine().authenticate("kling", "", ""),
            world.call("", &test, Some(NOW)),
        );
        match bare {
            (Ok(()), Ok(())) => assert!(is_signed),
            (Err(TaskError::BadSignature), Err(TaskError::BadSignature)) => assert!(!is_signed),
            other => panic!("{other:?}"),
        }
        // Half an address is neither the bare one nor a job's.
        let job = world.task.job();
        for (job, signature) in [(job.as_str(), ""), ("", "a signature")] {
            let half = world.engine().authenticate("kling", job, signature);
            assert!(matches!(half, Err(TaskError::BadSignature)), "{job}");
        }
        // At the bare address, not even the end of a job changes anything.
        drop(world.call("", &ended("succeeded"), Some(NOW)));
        assert_eq!(world.seen(), before);
        let other = world.engine().authenticate("gemini", "", "");
        assert!(matches!(other, Err(TaskError::BadSignature)), "{other:?}");
    }
}

#[test]
fn a_signed_callback_counts_once_and_for_five_minutes_and_a_poll_completes_the_rest() {
    let is_refused = |answer: Result<(), TaskError>| matches!(answer, Err(TaskError::BadSignature));
    let done = ended("succeeded");
    for age in [0, 299, -299] {
        let world = World::new("kling-3.0", true);
        let job = world.task.job();
        world.call(&job, &done, Some(NOW - age)).unwrap();
        let first = world.seen();
        assert_eq!(first.status, Status::Completed, "{age}");
        world.call(&job, &done, Some(NOW - age)).unwrap();
        assert_eq!(world.seen(), first, "a second completion");
    }
    let world = World::new("kling-3.0", true);
    let job = world.task.job();
    for at in [None, Some(NOW - 360), Some(NOW + 360)] {
        assert!(is_refused(world.call(&job, &done, at)), "{at:?}");
    }
    assert_eq!(world.seen().status, Status::Processing);
    world.kling.world.clock.0.set(NOW + 10);
    block_on(world.engine().tick());
    let polled = world.seen();
    assert_eq!(polled.status, Status::Completed);
    let url = "https://cdn.example/polled.mp4";
    assert_eq!(polled.result_url.as_deref(), Some(url));
}

/// Checks that an operator cannot set a text that is no secret, because then no callback would be accepted.
#[test]
fn a_text_that_is_no_secret_is_reported_to_the_operator() {
    let told = |text: &str| {
        let pairs = [("kling_webhook_secret", text)];
        tasks::check_settings(&platform::native::MapConfig::from_pairs(&pairs))
    };
    assert!(told("whsec_dGVzdA==").is_ok());
    for wrong in ["dGVzdA==", "whsec_", "whsec_no secret"] {
        let words = told(wrong).unwrap_err().to_string();
        assert!(words.contains("`kling_webhook_secret`"), "{words}");
    }
}
