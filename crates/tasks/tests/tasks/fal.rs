//! The requests to fal, and the callbacks that are believed, without a fal.

use auth::{secrets::hex, webhooks::WebhookKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer, SigningKey};
use platform::native::{MapConfig, block_on};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tasks::{
    Arrived, AssetStore, Engine, Failure, Media, Progress, Registry, Status, Task, TaskError,
    TaskRequest, rows,
};

use crate::fake::{Asked, PIXEL, Service, wrong_fields};

const SETTINGS: [(&str, &str); 4] = [
    ("fal_key", "secret"),
    ("fal_base_url", "https://fal.example/"),
    ("fal_rest_url", "https://fal.example"),
    ("public_url", "https://here.example"),
];

const MODEL: &str = "fal:fal-ai/flux/dev";

fn task() -> Task {
    Task {
        task_type: MODEL.into(),
        project_id: "p".into(),
        ..Task::new(0)
    }
}

fn submitted(
    task: &Task,
    params: Value,
    answers: &[(u16, Value)],
) -> (Result<Progress, Failure>, Service) {
    let fal = Service::new("fal", &SETTINGS, answers.to_vec());
    let news = fal.with(async |executor, context| executor.submit(task, &params, context).await);
    (news, fal)
}

fn polled(answers: &[(u16, Value)]) -> (Result<Progress, Failure>, Vec<String>) {
    let fal = Service::new("fal", &SETTINGS, answers.to_vec());
    let task = Task {
        external_task_id: Some("r-1".into()),
        ..task()
    };
    let news = fal.with(async |executor, context| executor.poll(&task, &json!({}), context).await);
    (news, fal.calls())
}

#[test]
fn a_submission_has_the_parameters_as_they_came() {
    let params = json!({ "prompt": "a hill", "num_images": 2, "image_url": PIXEL, "mask_url": "",
        "image_urls": ["https://a.example/b.png", PIXEL] });
    let accepted = json!({ "request_id": "r-1", "status_url": "https://elsewhere.example/" });
    let (news, fal) = submitted(&task(), params, &[(200, accepted)]);
    let running = Progress::Running {
        external_task_id: "r-1".into(),
        look_again: None,
    };
    assert_eq!(news, Ok(running));
    let callback = "https%3A%2F%2Fhere.example%2Fwebhooks%2Ffal";
    let inline = format!("data:image/png;base64,{PIXEL}");
    let expected = Asked {
        call: format!("POST https://fal.example/fal-ai/flux/dev?fal_webhook={callback}"),
        key: "Key secret".into(),
        body: json!({ "prompt": "a hill", "num_images": 2, "image_url": inline,
            "image_urls": ["https://a.example/b.png", inline] }),
    };
    assert_eq!(fal.asked(), [expected]);
}

#[test]
fn a_job_of_an_earlier_run_is_continued_unless_it_failed() {
    let again = Task {
        earlier_jobs: Some("r-0".into()),
        ..task()
    };
    let (news, fal) = submitted(
        &again,
        json!({}),
        &[(200, json!({ "status": "IN_PROGRESS" }))],
    );
    assert!(
        matches!(news, Ok(Progress::Running { external_task_id, .. }) if external_task_id == "r-0")
    );
    assert_eq!(fal.calls(), ["GET /fal-ai/flux/requests/r-0/status"]);
    let (news, fal) = submitted(
        &again,
        json!({}),
        &[
            (404, json!({ "detail": "no such request" })),
            (200, json!({ "request_id": "r-1" })),
        ],
    );
    assert!(
        matches!(news, Ok(Progress::Running { external_task_id, .. }) if external_task_id == "r-1")
    );
    assert_eq!(fal.calls().len(), 2);
    // It is not known whether there is such a job, and another would have to be paid for.
    let (news, fal) = submitted(&again, json!({}), &[(401, json!({}))]);
    assert!(matches!(news, Err(Failure::Retry { .. })), "{news:?}");
    assert_eq!(fal.calls().len(), 1);
}

#[test]
fn a_poll_asks_for_the_result_once_the_job_has_ended() {
    for state in ["IN_QUEUE", "IN_PROGRESS"] {
        let (news, calls) = polled(&[(200, json!({ "status": state, "queue_position": 3 }))]);
        assert!(matches!(news, Ok(Progress::Running { .. })), "{news:?}");
        assert_eq!(calls, ["GET /fal-ai/flux/requests/r-1/status"]);
    }
    let output = json!({ "images": [{ "url": "https://a/1.png" }, { "url": "https://a/2.png" }] });
    let ended = (200, json!({ "status": "COMPLETED" }));
    let (news, calls) = polled(&[ended.clone(), (200, output.clone())]);
    let Ok(Progress::Done(product)) = news else {
        panic!("{news:?}");
    };
    let expected = ["https://a/1.png", "https://a/2.png"].map(|url| Media::Url(url.into()));
    assert_eq!(
        (product.media.as_slice(), &product.data),
        (&expected[..], &output)
    );
    assert_eq!(calls[1], "GET /fal-ai/flux/requests/r-1");
    let (news, _) = polled(&[ended, (422, json!({ "detail": "content refused" }))]);
    assert!(
        matches!(&news, Err(Failure::Permanent(why)) if why.contains("refused")),
        "{news:?}"
    );
}

#[test]
fn what_the_operator_must_set_is_named() {
    for missing in ["fal_key", "fal_base_url"] {
        let settings: Vec<_> = SETTINGS
            .into_iter()
            .filter(|(name, _)| *name != missing)
            .collect();
        let fal = Service::new("fal", &settings, []);
        let news =
            fal.with(async |executor, context| executor.submit(&task(), &json!({}), context).await);
        assert!(
            matches!(&news, Err(Failure::Access(why)) if why.contains(missing)),
            "{news:?}"
        );
    }
}

#[test]
fn the_registry_finds_fal_by_the_beginning_of_the_type() {
    let registry = Registry::standard(&MapConfig::default());
    assert_eq!(
        registry.for_type(MODEL).map(|found| found.service()),
        Some("fal")
    );
    let types = registry.for_type(MODEL).unwrap().task_types();
    assert_eq!(types, ["fal:{model}"], "as users see it");
    for other in ["fal:", "fal:x", "fal:a/../b", "falcon:a/b"] {
        assert!(registry.for_type(other).is_none(), "{other}");
    }
    let none: [&str; 0] = [];
    assert_eq!(
        wrong_fields(
            MODEL,
            &json!({ "anything": [1], "image_urls": ["https://a.example/b"] })
        ),
        none
    );
    let wrong = json!({ "image_url": 7, "image_urls": "https://a.example/b" });
    assert_eq!(
        wrong_fields(MODEL, &wrong),
        ["params.image_url", "params.image_urls"]
    );
}

/// The key of the fal of these tests.
fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// A callback that this key signs at this time: its headers and its body.
fn signed(key: &SigningKey, at: i64, body: &Value) -> (Vec<(&'static str, String)>, Vec<u8>) {
    let body = body.to_string().into_bytes();
    let message = format!("q\nu\n{at}\n{}", hex(&Sha256::digest(&body)));
    let headers = vec![
        ("x-fal-webhook-request-id", "q".to_owned()),
        ("x-fal-webhook-user-id", "u".to_owned()),
        ("x-fal-webhook-timestamp", at.to_string()),
        (
            "x-fal-webhook-signature",
            hex(&key.sign(message.as_bytes()).to_bytes()),
        ),
    ];
    (headers, body)
}

/// The keys of fal, as it sends them.
fn keys() -> Value {
    json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(key().verifying_key()) }] })
}

/// A fal with an accepted task.
fn fal_with_job() -> (Service, Task) {
    fal_that_tells(200, keys())
}

/// A fal with an accepted task that answers with this status and these keys if it is asked for its keys.
fn fal_that_tells(status: u16, keys: Value) -> (Service, Task) {
    let fal = Service::answering("fal", &SETTINGS, move |asked| {
        if asked.call.ends_with("/jwks.json") {
            return (status, keys.clone());
        }
        if asked.call.starts_with("PUT ") {
            return (202, json!({ "status": "CANCELLATION_REQUESTED" }));
        }
        (200, json!({ "request_id": "r-1" }))
    });
    let request =
        json!({ "project_id": "p", "task_type": MODEL, "params": { "prompt": "a" } }).to_string();
    let request = TaskRequest::read(request.as_bytes()).unwrap();
    let task = {
        let (ports, engine) = (fal.ports(), engine(&fal));
        let task = block_on(tasks::create(ports, &engine.registry, &request, None)).unwrap();
        block_on(engine.take_up(&task));
        now(&fal, &task)
    };
    assert_eq!(task.external_task_id.as_deref(), Some("r-1"));
    (fal, task)
}

fn engine(fal: &Service) -> Engine<'_> {
    let ports = fal.ports();
    Engine {
        ports,
        assets: AssetStore::open(ports.database, ports.http, ports.config).unwrap(),
        registry: Registry::standard(ports.config),
        key: WebhookKey::new("key"),
    }
}

fn now(fal: &Service, task: &Task) -> Task {
    block_on(rows::get(fal.ports().database, &task.task_id))
        .unwrap()
        .unwrap()
}

fn receive(
    fal: &Service,
    task: &Task,
    (headers, body): &(Vec<(&str, String)>, Vec<u8>),
) -> Result<(), TaskError> {
    let header = |name: &str| {
        headers
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    };
    let callback = Arrived {
        header: &header,
        body,
    };
    block_on(engine(fal).receive_callback("fal", &task.job(), callback))
}

fn asked_for_keys(fal: &Service) -> usize {
    fal.calls()
        .iter()
        .filter(|call| call.contains("jwks"))
        .count()
}

#[test]
fn a_callback_is_believed_with_fals_signature_of_the_last_five_minutes() {
    let (fal, task) = fal_with_job();
    let at = fal.ports().clock.unix_seconds();
    let done = json!({ "request_id": "r-1", "status": "OK", "payload": { "video": { "url": "https://a.example/b.mp4" } } });
    let mut unsigned = signed(&key(), at, &done);
    unsigned.0.pop();
    let mut changed = signed(&key(), at, &done);
    changed.1.push(b' ');
    for wrong in [
        unsigned,
        changed,
        signed(&SigningKey::from_bytes(&[8; 32]), at, &done),
        signed(&key(), at - 301, &done),
        signed(&key(), at + 301, &done),
    ] {
        let received = receive(&fal, &task, &wrong);
        assert!(
            matches!(received, Err(TaskError::BadSignature)),
            "{received:?}"
        );
    }
    assert_eq!(now(&fal, &task).status, Status::Processing);
    let right = signed(&key(), at - 300, &done);
    receive(&fal, &task, &right).unwrap();
    let ended = now(&fal, &task);
    assert_eq!(ended.status, Status::Completed);
    assert_eq!(ended.result_url.as_deref(), Some("https://a.example/b.mp4"));
    // The same once more changes nothing.
    receive(&fal, &task, &right).unwrap();
    assert_eq!(now(&fal, &task), ended);
    assert_eq!(asked_for_keys(&fal), 1);
}

#[test]
fn fals_keys_are_kept_for_a_day_and_asked_for_again_if_they_do_not_fit() {
    let (fal, task) = fal_with_job();
    let (start, other) = (
        fal.ports().clock.unix_seconds(),
        SigningKey::from_bytes(&[8; 32]),
    );
    // The callback says nothing new about the job.
    let body = json!({ "request_id": "r-1", "status": "OK" });
    let day = 24 * 3600;
    for (seconds, key, is_believed, times) in [
        (0, key(), true, 1),
        (299, other.clone(), false, 1),
        // fal may have other keys by now.
        (300, other, false, 2),
        (301, key(), true, 2),
        (300 + day - 1, key(), true, 2),
        (300 + day, key(), true, 3),
        // The clock was set back.
        (0, key(), true, 4),
    ] {
        let at = start + seconds;
        fal.world.clock.0.set(at);
        let received = receive(&fal, &task, &signed(&key, at, &body));
        assert_eq!(received.is_ok(), is_believed, "{seconds}: {received:?}");
        assert_eq!(asked_for_keys(&fal), times, "{seconds}");
    }
}

#[test]
fn without_fals_keys_a_callback_is_neither_believed_nor_called_wrong() {
    let x = keys()["keys"][0]["x"].clone();
    for (status, keys, is_clear) in [
        (200, keys(), true),
        (500, keys(), false),
        (200, json!({ "keys": [] }), false),
        (200, json!({ "keys": [{ "kty": "OKP", "x": 7 }] }), false),
        (200, json!({ "keys": [{ "kty": "EC", "x": x }] }), false),
    ] {
        let (fal, task) = fal_that_tells(status, keys.clone());
        let at = fal.ports().clock.unix_seconds();
        let body = json!({ "request_id": "r-1", "status": "OK" });
        match receive(&fal, &task, &signed(&key(), at, &body)) {
            Ok(()) => assert!(is_clear, "{status} {keys}"),
            Err(TaskError::NotChecked(_)) => assert!(!is_clear, "{status} {keys}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_picture_for_fal_is_kept_here_until_it_is_sent() {
    let fal = Service::new("fal", &SETTINGS, []);
    let params = json!({ "image_url": format!("data:image/png;base64,{PIXEL}") });
    let request = json!({ "project_id": "p", "task_type": MODEL, "params": params }).to_string();
    let request = TaskRequest::read(request.as_bytes()).unwrap();
    let (ports, engine) = (fal.ports(), engine(&fal));
    let task = block_on(tasks::create(ports, &engine.registry, &request, None)).unwrap();
    let kept = block_on(rows::params(ports.database, &task.task_id)).unwrap();
    assert!(kept.unwrap().starts_with("{\"image_url\":\"/assets/"));
}

#[test]
fn a_cancelled_job_is_cancelled_at_fal() {
    let (fal, task) = fal_with_job();
    let engine = engine(&fal);
    let cancelled = block_on(engine.cancel(&task)).unwrap();
    block_on(engine.ended(&cancelled));
    assert!(
        fal.calls()
            .contains(&"PUT /fal-ai/flux/requests/r-1/cancel".to_owned()),
        "{:?}",
        fal.calls()
    );
}
