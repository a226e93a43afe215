//! The requests for tasks: what they must be, what is stored of them, and how tasks are listed.

use std::rc::Rc;

use async_trait::async_trait;
use auth::projects::{self, NewProject};
use platform::native::{MapConfig, World, block_on};
use serde_json::{Value, json};
use tasks::{
    Callback, Context, CreateError, Executor, Failure, Fields, Progress, Registry, Status, Task,
    TaskRequest,
    rows::{self, Filter},
};

/// A picture of one pixel.
const PIXEL: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

const NOW: i64 = 1_700_000_000;

/// A service that paints from words, and can paint over a picture.
struct Painter;

#[async_trait(?Send)]
impl Executor for Painter {
    fn service(&self) -> &'static str {
        "painter"
    }

    fn task_types(&self) -> &'static [&'static str] {
        &["painting", "drawing"]
    }

    fn pictures(&self) -> &'static [&'static str] {
        &["image"]
    }

    fn check(&self, _: &str, params: &mut Fields<'_>) {
        params.required_text("prompt", 100);
    }

    async fn submit(&self, _: &Task, _: &Value, _: &Context<'_>) -> Result<Progress, Failure> {
        Err(Failure::permanent("it paints nothing"))
    }

    async fn poll(&self, _: &Task, _: &Value, _: &Context<'_>) -> Result<Progress, Failure> {
        Err(Failure::permanent("it paints nothing"))
    }

    fn process_webhook(&self, _: &Value) -> Option<Callback> {
        None
    }
}

fn world() -> World {
    let world = World::new(MapConfig::from_pairs(&[("public_url", "http://here")]));
    world.clock.0.set(NOW);
    world
}

/// A request that is right, with these fields in place of its own.
fn request(changes: Value) -> Value {
    let mut request = json!({
        "project_id": "p", "task_type": "painting", "params": { "prompt": "a hill" },
    });
    for (name, value) in changes.as_object().unwrap() {
        request[name] = value.clone();
    }
    request
}

fn post_bytes(world: &World, body: &[u8], key: Option<&str>) -> Result<Task, CreateError> {
    let registry = Registry::of(vec![Rc::new(Painter)]);
    let request = TaskRequest::read(body)?;
    block_on(tasks::create(world.ports(), &registry, &request, key))
}

fn post(world: &World, changes: Value, key: Option<&str>) -> Result<Task, CreateError> {
    post_bytes(world, request(changes).to_string().as_bytes(), key)
}

/// The names of the wrong fields, in their order.
fn wrong(refused: Result<Task, CreateError>) -> Vec<String> {
    match refused {
        Ok(_) => Vec::new(),
        Err(CreateError::Invalid(errors)) => errors.into_iter().map(|error| error.field).collect(),
        Err(error) => panic!("{error}"),
    }
}

fn params_of(world: &World, task: &Task) -> Value {
    let params = rows::params(world.ports().database, &task.task_id);
    serde_json::from_str(&block_on(params).unwrap().unwrap()).unwrap()
}

fn stored(world: &World, task: &Task) -> Task {
    let stored = block_on(rows::get(world.ports().database, &task.task_id));
    stored.unwrap().unwrap()
}

#[test]
fn every_wrong_field_is_named() {
    let world = world();
    let url = |bytes: usize| {
        let begin = "https://agent.example/";
        format!("{begin}{}", "x".repeat(bytes - begin.len()))
    };
    let prompt = |more: Value| json!({ "params": { "prompt": "a hill", "more": more } });
    for (changes, fields) in [
        (json!({}), &[][..]),
        (json!({ "project_id": "a".repeat(128) }), &[]),
        (json!({ "project_id": "a".repeat(129) }), &["project_id"]),
        (json!({ "project_id": "a b" }), &["project_id"]),
        (json!({ "project_id": null }), &["project_id"]),
        (json!({ "project_id": 7 }), &["project_id"]),
        (json!({ "task_type": "drawing" }), &[]),
        (json!({ "task_type": "sculpture" }), &["task_type"]),
        (json!({ "task_type": "" }), &["task_type"]),
        (json!({ "params": {} }), &["params.prompt"]),
        (json!({ "params": null }), &["params.prompt"]),
        (json!({ "params": [] }), &["params"]),
        (json!({ "params": "a hill" }), &["params"]),
        (json!({ "max_retries": 0 }), &[]),
        (json!({ "max_retries": 20 }), &[]),
        (json!({ "max_retries": 21 }), &["max_retries"]),
        (json!({ "max_retries": -1 }), &["max_retries"]),
        (json!({ "max_retries": 1.5 }), &["max_retries"]),
        (json!({ "max_retries": "3" }), &[]),
        (json!({ "max_retries": "many" }), &["max_retries"]),
        (json!({ "node_id": "n".repeat(1024) }), &[]),
        (json!({ "node_id": "n".repeat(1025) }), &["node_id"]),
        (json!({ "callback_url": url(2048) }), &[]),
        (json!({ "callback_url": url(2049) }), &["callback_url"]),
        (
            json!({ "callback_url": "ftp://agent.example" }),
            &["callback_url"],
        ),
        (json!({ "callback_url": "" }), &[]),
        // All of these are wrong at once.
        (
            json!({ "project_id": "", "max_retries": -1, "params": {} }),
            &["project_id", "max_retries", "params.prompt"],
        ),
        // The notes of an agent are its own, however long they are.
        (json!({ "notes": "x".repeat(1 << 20) }), &[]),
        (
            json!({ "node_id": "n".repeat(65 << 10) }),
            &[
                "project_id, task_type, node_id, max_retries, callback_url, events, cancel_after, tags, metadata",
            ],
        ),
        (prompt(json!("x".repeat(63 << 10))), &[]),
        (prompt(json!("x".repeat(64 << 10))), &["params"]),
        (prompt(json!(vec![0; 40_000])), &["params"]),
    ] {
        let words = changes.to_string();
        let found = wrong(post(&world, changes, None));
        assert_eq!(found, fields, "{:.100}", words);
    }
    let unknown = post(&world, json!({ "task_type": "sculpture" }), None);
    match unknown.unwrap_err() {
        CreateError::Invalid(errors) => {
            assert_eq!(errors[0].message, "must be one of painting, drawing");
        }
        error => panic!("{error}"),
    }
    for (project_id, named) in [
        (json!("q"), Some("q")),
        (json!(7), None),
        (json!(null), None),
    ] {
        let body = request(json!({ "project_id": project_id })).to_string();
        let read = TaskRequest::read(body.as_bytes()).unwrap();
        assert_eq!(read.project_id(), named);
    }
    let half = r#"{"project_id": "p", "metadata": {"a": 1e400}"#;
    for body in ["", "[]", "null", "{", "\"a\"", "{} {}", half] {
        let refused = post_bytes(&world, body.as_bytes(), None);
        assert!(matches!(refused, Err(CreateError::NotAnObject)), "{body}");
    }
}

/// Checks values that have the grammar of JSON, but cannot be read.
#[test]
fn a_value_that_cannot_be_read_names_its_field() {
    let world = world();
    for value in ["1e400", r#""\ud800""#] {
        for field in ["metadata", "tags", "params"] {
            let body = format!(
                r#"{{"project_id": "p", "task_type": "painting", "{field}": {{"a": {value}}}}}"#
            );
            match post_bytes(&world, body.as_bytes(), None) {
                Err(CreateError::Invalid(errors)) => {
                    assert_eq!(errors[0].field, field, "{errors:?}");
                    assert!(errors[0].message.contains("cannot be read"), "{errors:?}");
                }
                other => panic!("{body}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_task_is_stored_as_it_was_asked_for() {
    let world = world();
    let plain = post(&world, json!({}), None).unwrap();
    assert_eq!((plain.max_retries, plain.node_id.as_deref()), (3, None));
    let full = json!({
        "params": { "prompt": "a hill", "style": { "of": ["oil", 1, -2, 1.5, true, null] } },
        "max_retries": 7, "node_id": "n", "callback_url": "https://agent.example/hook",
        "tags": ["red", "night"], "metadata": { "shot": 7 },
    });
    let task = post(&world, full.clone(), None).unwrap();
    assert_ne!(task.task_id, plain.task_id);
    assert_eq!((task.status, task.created_at), (Status::Pending, NOW));
    let stored = stored(&world, &task);
    assert_eq!(stored.project_id, "p");
    assert_eq!(stored.task_type, "painting");
    assert_eq!(stored.external_service.as_deref(), Some("painter"));
    assert_eq!(stored.max_retries, 7);
    assert_eq!(stored.node_id.as_deref(), Some("n"));
    assert_eq!(stored.tags, ["red", "night"]);
    assert_eq!(stored.metadata, Some(full["metadata"].clone()));
    let url = stored.callback_url.as_deref();
    assert_eq!(url, Some("https://agent.example/hook"));
    assert_eq!(params_of(&world, &task), full["params"]);
    let none = rows::params(world.ports().database, "task_1_a");
    assert_eq!(block_on(none).unwrap(), None);
}

#[test]
fn pictures_go_to_the_asset_store_and_their_addresses_into_the_parameters() {
    let world = world();
    let with = |image: Value| json!({ "params": { "prompt": "a hill", "image": image } });
    let assets = || {
        world
            .rows("SELECT asset_id FROM assets ORDER BY rowid")
            .len()
    };
    let far = "https://pictures.example/a.png";
    for (image, stored) in [
        (json!(far), 0),
        (json!(""), 0),
        (json!(PIXEL), 1),
        (json!([PIXEL, far, PIXEL]), 2),
        // The sender says that it is a picture, and it may be of a form that is not known here.
        (json!("data:image/png;base64,aGVsbG8="), 1),
        (json!([]), 0),
        // The check of the fields says what is wrong with these, not the asset store.
        (json!(7), 0),
        (json!(-1), 0),
        (json!(1.5), 0),
        (json!(true), 0),
        (json!(null), 0),
        (json!({ "a": 1 }), 0),
    ] {
        let before = assets();
        let task = post(&world, with(image.clone()), None).unwrap();
        assert_eq!(assets() - before, stored, "{image}");
        let kept = params_of(&world, &task)["image"].clone();
        if !image.is_string() && !image.is_array() && !image.is_object() {
            assert_eq!(kept, image);
        }
        let kept = kept.to_string();
        assert!(!kept.contains("base64"), "{kept}");
        assert_eq!(kept.matches("/assets/asset_").count(), stored, "{kept}");
        assert_eq!(kept.contains(far), image.to_string().contains(far));
    }
    let before = assets();
    for (image, field) in [
        (json!("no picture"), "params.image"),
        (json!("data:text/plain;base64,aGVsbG8="), "params.image"),
        (json!("http://127.0.0.1/a.png"), "params.image"),
        (json!([PIXEL, ""]), "params.image[1]"),
        (json!([PIXEL, far, "no picture"]), "params.image[2]"),
    ] {
        let found = wrong(post(&world, with(image.clone()), None));
        assert_eq!(found, [field], "{image}");
    }
    assert_eq!(assets(), before);
}

#[test]
fn the_same_request_a_minute_later_is_the_same_task() {
    let world = world();
    let sent = || json!({ "cancel_after": 600, "tags": ["red"] });
    let first = post(&world, sent(), Some("key")).unwrap();
    assert_eq!(first.cancel_at, Some(NOW + 600));
    world.clock.0.set(NOW + 60);
    assert_eq!(
        post(&world, sent(), Some("key")).unwrap(),
        stored(&world, &first)
    );
    let other = json!({ "cancel_after": 660, "tags": ["red"] });
    let conflict = post(&world, other, Some("key"));
    assert!(matches!(conflict, Err(CreateError::Conflict)));
    // Each of these fields alone makes another request.
    let url = "https://agent.example/hook";
    post(&world, json!({ "callback_url": url }), Some("plain")).unwrap();
    for (name, value) in [
        ("cancel_after", json!(600)),
        ("events", json!(["failed"])),
        ("tags", json!(["red"])),
        ("metadata", json!({ "a": 1 })),
    ] {
        let other = post(
            &world,
            json!({ "callback_url": url, name: value }),
            Some("plain"),
        );
        assert!(matches!(other, Err(CreateError::Conflict)), "{name}");
    }
}

#[test]
fn one_key_is_one_request_with_its_pictures() {
    let world = world();
    let with = |image: &str| json!({ "params": { "prompt": "a hill", "image": image } });
    let post = |changes: Value, key| post(&world, changes, Some(key));
    let first = post(with(PIXEL), "k").unwrap();
    let again = post(with(PIXEL), "k").unwrap();
    assert_eq!(first.task_id, again.task_id);
    assert_eq!(world.rows("SELECT 1 FROM assets").len(), 1);
    assert_ne!(post(with(PIXEL), "l").unwrap().task_id, first.task_id);
    for other in [
        with("https://pictures.example/a.png"),
        json!({}),
        json!({ "project_id": "q" }),
        json!({ "node_id": "n" }),
        json!({ "max_retries": 4 }),
        json!({ "task_type": "drawing" }),
    ] {
        let refused = post(other.clone(), "k");
        assert!(matches!(refused, Err(CreateError::Conflict)), "{other}");
    }
}

#[test]
fn a_list_is_newest_first_and_holds_what_the_filter_says() {
    let world = world();
    let ports = world.ports();
    for (project_id, owner_id) in [("p", "ann"), ("q", "bob")] {
        let new = NewProject {
            project_id,
            name: project_id,
            owner_id,
        };
        block_on(projects::create(ports.database, ports.clock, new)).unwrap();
    }
    let mut posted = Vec::new();
    for (second, changes) in [
        json!({}),
        json!({ "project_id": "q" }),
        json!({ "task_type": "drawing" }),
        json!({}),
    ]
    .into_iter()
    .enumerate()
    {
        world.clock.0.set(NOW + second as i64);
        posted.push(post(&world, changes, None).unwrap());
    }
    let sql = format!(
        "UPDATE aigc_tasks SET status = 'completed', version = 5 WHERE task_id = '{}'",
        posted[3].task_id
    );
    world.rows(&sql);
    let all = || Filter {
        limit: 10,
        ..Filter::default()
    };
    let of = |project: &str| Filter {
        project_id: Some(project.into()),
        ..all()
    };
    let user = |user: &str| Filter {
        user_id: Some(user.into()),
        ..all()
    };
    let listed = |filter: Filter| -> Vec<usize> {
        let listed = block_on(rows::list(ports.database, &filter)).unwrap();
        let place = |task: Task| posted.iter().position(|one| one.task_id == task.task_id);
        listed
            .into_iter()
            .map(|task| place(task).unwrap())
            .collect()
    };
    let after = |place: usize| {
        let task = &posted[place];
        Some((task.created_at, task.task_id.clone()))
    };
    for (filter, expected) in [
        (all(), &[3, 2, 1, 0][..]),
        (of("p"), &[3, 2, 0]),
        (of("none"), &[]),
        (user("ann"), &[3, 2, 0]),
        (user("bob"), &[1]),
        (user("eve"), &[]),
        (
            Filter {
                status: Some(Status::Pending),
                ..of("p")
            },
            &[2, 0],
        ),
        (
            Filter {
                task_type: Some("drawing".into()),
                ..all()
            },
            &[2],
        ),
        (
            Filter {
                after: after(2),
                ..all()
            },
            &[1, 0],
        ),
        (
            Filter {
                after: after(3),
                limit: 1,
                status: Some(Status::Pending),
                ..user("ann")
            },
            &[2],
        ),
    ] {
        assert_eq!(listed(filter.clone()), expected, "{filter:?}");
    }
    // A mark changes with its task, and a task that is gone has none.
    let ids = |tasks: &[&str]| -> Vec<String> { tasks.iter().map(|id| (*id).to_owned()).collect() };
    let asked = ids(&["gone", &posted[3].task_id, &posted[0].task_id]);
    let marks = block_on(rows::marks(ports.database, &asked)).unwrap();
    let mark = |place: usize| {
        let task = block_on(rows::get(ports.database, &posted[place].task_id));
        Some(task.unwrap().unwrap().mark())
    };
    assert_eq!(marks, [None, mark(3), mark(0)]);
    assert_ne!(mark(3), Some(posted[3].mark()));
    assert!(
        block_on(rows::marks(ports.database, &[]))
            .unwrap()
            .is_empty()
    );
    assert!(block_on(tasks::delete(ports, "q")).is_ok());
    assert_eq!(listed(all()), [3, 2, 0]);
}
