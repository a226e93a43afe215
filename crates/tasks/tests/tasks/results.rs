//! The results that a service keeps at an address of its own.

use std::{rc::Rc, time::Duration};

use async_trait::async_trait;
use auth::webhooks::WebhookKey;
use platform::{
    Ports,
    native::{MapConfig, World, block_on},
};
use serde_json::{Value, json};
use tasks::{
    AssetStore, Callback, Context, Engine, Executor, Failure, Fields, Progress, Registry, Status,
    Task, TaskRequest, rows,
};

/// A service that accepts every job and calls back.
struct Service;

const KEPT: i64 = 30 * 24 * 3600;

#[async_trait(?Send)]
impl Executor for Service {
    fn service(&self) -> &'static str {
        "stub"
    }

    fn task_types(&self) -> &'static [&'static str] {
        &["stub"]
    }

    fn keeps_results(&self) -> Option<Duration> {
        Some(Duration::from_secs(KEPT as u64))
    }

    fn check(&self, _: &str, _: &mut Fields<'_>) {}

    async fn submit(&self, task: &Task, _: &Value, _: &Context<'_>) -> Result<Progress, Failure> {
        Ok(running(task))
    }

    async fn poll(&self, task: &Task, _: &Value, _: &Context<'_>) -> Result<Progress, Failure> {
        Ok(running(task))
    }

    fn process_webhook(&self, _: &Value) -> Option<Callback> {
        None
    }
}

fn running(task: &Task) -> Progress {
    Progress::Running {
        external_task_id: format!("job-{}", task.job()),
        look_again: None,
    }
}

fn engine(ports: Ports<'_>) -> Engine<'_> {
    Engine {
        ports,
        assets: AssetStore::open(ports.database, ports.http, ports.config).unwrap(),
        registry: Registry::of(vec![Rc::new(Service)]),
        key: WebhookKey::new("key"),
    }
}

/// Posts a task and hands it to the service.
fn posted(ports: Ports<'_>) -> Task {
    let engine = engine(ports);
    let body = json!({ "project_id": "p", "task_type": "stub", "params": {} }).to_string();
    let request = TaskRequest::read(body.as_bytes()).unwrap();
    let task = block_on(tasks::create(ports, &engine.registry, &request, None)).unwrap();
    block_on(engine.tick());
    task
}

/// Calls back as the service does, with a result at this address.
fn call_back(ports: Ports<'_>, task: &Task, url: &str) {
    let told = json!({ "task_id": task.job(), "status": "success", "result_url": url });
    let engine = engine(ports);
    block_on(engine.call_back("stub", &task.job(), told.to_string().as_bytes())).unwrap();
}

fn read(ports: Ports<'_>, task: &Task) -> (Task, Value) {
    let now = block_on(rows::get(ports.database, &task.task_id)).unwrap();
    let data = block_on(rows::result_data(ports.database, &task.task_id)).unwrap();
    let data = data.map_or(Value::Null, |data| serde_json::from_str(&data).unwrap());
    (now.unwrap(), data)
}

#[test]
fn a_result_that_its_service_keeps_has_an_end() {
    let world = World::new(MapConfig::from_pairs(&[("public_url", "http://here")]));
    let ports = world.ports();
    // No server of the Internet has this address, so nothing is fetched from there.
    let theirs = "http://10.0.0.1/film.mp4";
    let task = posted(ports);
    call_back(ports, &task, theirs);
    let (now, data) = read(ports, &task);
    assert_eq!(now.status, Status::Completed);
    assert_eq!(now.result_url.as_deref(), Some(theirs));
    let expected = ports.clock.unix_seconds() + KEPT;
    assert_eq!(now.result_expires_at, Some(expected));
    assert_eq!(data, json!({ "source_url": theirs }));
}

#[test]
fn a_result_that_came_with_the_answer_has_none() {
    let world = World::new(MapConfig::from_pairs(&[("public_url", "http://here")]));
    let ports = world.ports();
    let task = posted(ports);
    call_back(ports, &task, "data:image/png;base64,AAEC");
    let (now, data) = read(ports, &task);
    assert!(now.result_url.unwrap().starts_with("/assets/asset_"));
    assert_eq!(now.result_expires_at, None);
    assert_eq!(data, json!({}));
}
