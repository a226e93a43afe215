//! The pictures in the parameters of a new task: they go to the asset store, and nothing else carries them.

use base64::{Engine, prelude::BASE64_STANDARD};
use platform::native::{MapConfig, World, block_on};
use serde_json::{Value, json};
use tasks::{AssetStore, CreateError, Registry, Task, TaskRequest, rows};

use crate::fake::PIXEL;

fn world() -> World {
    World::new(MapConfig::from_pairs(&[("public_url", "http://here")]))
}

fn create(world: &World, params: &Value, key: Option<&str>) -> Result<Task, CreateError> {
    create_of("nano_banana", world, params, key)
}

fn create_of(
    task_type: &str,
    world: &World,
    params: &Value,
    key: Option<&str>,
) -> Result<Task, CreateError> {
    let ports = world.ports();
    let body = json!({ "project_id": "p", "task_type": task_type, "params": params });
    let body = body.to_string();
    let request = TaskRequest::read(body.as_bytes())?;
    let registry = Registry::standard(ports.config);
    block_on(tasks::create(ports, &registry, &request, key))
}

fn params(world: &World, task: &Task) -> Value {
    let text = block_on(rows::params(world.ports().database, &task.task_id)).unwrap();
    serde_json::from_str(&text.unwrap()).unwrap()
}

fn assets(world: &World) -> i64 {
    world.rows("SELECT count(*) FROM assets")[0]
        .integer(0)
        .unwrap()
}

#[test]
fn a_picture_is_kept_once_and_the_parameters_hold_its_address() {
    let world = world();
    let sent = json!({
        "prompt": "x", "note": [1, { "mine": true }],
        "base64_images": [PIXEL, format!("data:image/png;base64,{PIXEL}")],
        "reference_image_urls": ["https://example.com/a.png", "/assets/asset_earlier"],
    });
    let task = create(&world, &sent, Some("key")).unwrap();
    let kept = params(&world, &task);
    assert_eq!(kept["prompt"], sent["prompt"]);
    assert_eq!(kept["note"], sent["note"]);
    assert_eq!(kept["reference_image_urls"], sent["reference_image_urls"]);
    assert!(!kept.to_string().contains(PIXEL));
    let ports = world.ports();
    let store = AssetStore::open(ports.database, ports.http, ports.config).unwrap();
    for n in 0..2 {
        let address = kept["base64_images"][n].as_str().unwrap();
        let id = address.strip_prefix("/assets/").unwrap();
        let asset = block_on(store.read(id, None)).unwrap().unwrap();
        assert_eq!(
            (asset.media_type.as_str(), asset.project_id.as_str()),
            ("image/png", "p")
        );
        assert!(asset.bytes.starts_with(b"\x89PNG"));
    }
    // The quota counts the pictures and what is left of the parameters.
    let pixel = BASE64_STANDARD.decode(PIXEL).unwrap().len();
    let sql = "SELECT rest FROM quota_usage WHERE holder = 'project:p'";
    let counted = world.rows(sql)[0].integer(0).unwrap();
    assert_eq!(counted as usize, kept.to_string().len() + 2 * pixel);
    // The same request again is the same task, and another picture is another request.
    assert_eq!(
        create(&world, &sent, Some("key")).unwrap().task_id,
        task.task_id
    );
    let other = json!({ "prompt": "x", "base64_images": ["/9j/4AAQ"] });
    assert!(matches!(
        create(&world, &other, Some("key")),
        Err(CreateError::Conflict)
    ));
    assert_eq!(assets(&world), 2);
}

#[test]
fn as_many_addresses_as_a_model_takes_fit_into_the_parameters() {
    let world = world();
    let address = format!("https://example.com/{}.png", "x".repeat(80));
    let sent = json!({ "prompt": "x", "reference_image_urls": vec![address; 14] });
    let task = create(&world, &sent, None).unwrap();
    assert_eq!(params(&world, &task), sent);
}

#[test]
fn a_service_that_takes_no_pictures_gets_its_parameters_as_they_came() {
    let world = world();
    let picture = format!("data:image/png;base64,{PIXEL}");
    let sent = json!({ "prompt": "x", "": picture, "image": picture, "xyzzy": picture });
    let task = create_of("demo", &world, &sent, None).unwrap();
    assert_eq!(params(&world, &task), sent);
    assert_eq!(assets(&world), 0);
}

#[test]
fn a_wrong_request_stores_nothing() {
    let world = world();
    let long = "x".repeat(70_000);
    for (params, field) in [
        (
            json!({ "prompt": "x", "base64_images": [PIXEL, "AAAA"] }),
            "params.base64_images[1]",
        ),
        (
            json!({ "prompt": "x", "base64_images": [PIXEL, ""] }),
            "params.base64_images[1]",
        ),
        (
            json!({ "prompt": "x", "base64_images": PIXEL }),
            "params.base64_images",
        ),
        (
            json!({ "prompt": "x", "base64_images": [PIXEL, 7] }),
            "params.base64_images",
        ),
        (json!({ "base64_images": [PIXEL] }), "params.prompt"),
        (json!({ "prompt": "x", "note": long }), "params"),
        (
            json!({ "prompt": "x", "base64_images": [PIXEL], "note": vec![0; 40_000] }),
            "params",
        ),
        (
            json!({ "prompt": "x", "base64_images": vec![""; 2000] }),
            "params",
        ),
        (
            json!({ "prompt": "x", "base64_images": vec![Value::Null; 14_000] }),
            "params",
        ),
        (json!("x"), "params"),
    ] {
        let Err(CreateError::Invalid(errors)) = create(&world, &params, None) else {
            panic!("taken: {field}");
        };
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, [field], "{errors:?}");
    }
    assert_eq!(assets(&world), 0);
    assert!(world.rows("SELECT 1 FROM aigc_tasks").is_empty());
}

#[test]
fn only_an_object_is_a_request() {
    for body in [
        "", "nonsense", "[]", "\"task\"", "null", "{\"a\":1", "{} {}",
    ] {
        let read = TaskRequest::read(body.as_bytes());
        assert!(matches!(read, Err(CreateError::NotAnObject)), "{body}");
    }
    let body = json!({ "project_id": vec![0; 100_000] }).to_string();
    let read = TaskRequest::read(body.as_bytes());
    assert!(matches!(read, Err(CreateError::Invalid(_))));
}

/// A user reports: "Our film failed two minutes later, because the picture was a WebP."
#[test]
fn a_picture_that_kling_does_not_take_is_refused_before_the_task_is_taken() {
    let world = world();
    let ports = world.ports();
    let post = |params: Value| {
        let mut all = json!({ "prompt": "it moves" });
        all.as_object_mut()
            .unwrap()
            .extend(params.as_object().unwrap().clone());
        let body = json!({ "project_id": "p", "task_type": "kling_video", "params": all });
        let body = body.to_string();
        let request = TaskRequest::read(body.as_bytes())?;
        let registry = Registry::standard(ports.config);
        block_on(tasks::create(ports, &registry, &request, None))
    };
    let store = AssetStore::open(ports.database, ports.http, ports.config).unwrap();
    let kept = |media_type: &str, project: &str| {
        let stored = store.store(project, "t", media_type, b"x".to_vec(), 7);
        format!("/assets/{}", block_on(stored).unwrap())
    };
    let webp = "data:image/webp;base64,UklGRgAAAABXRUJQ";
    let (webp_kept, png_kept) = (kept("image/webp", "p"), kept("image/png", "p"));
    let uploaded = tasks::upload(ports, "p", b"RIFF\0\0\0\0WEBP".to_vec());
    let uploaded = block_on(uploaded).unwrap();
    let before = assets(&world);
    for (params, fields) in [
        (json!({ "image_path": webp }), vec!["params.image_path"]),
        (
            json!({ "image_path": webp_kept, "image_tail": webp }),
            vec!["params.image_tail"],
        ),
        (
            json!({ "image_path": webp_kept, "image_tail": png_kept }),
            vec!["params.image_path"],
        ),
        (
            json!({ "image_path": format!("http://here{webp_kept}") }),
            vec!["params.image_path"],
        ),
        (
            json!({ "image_path": "R0lGODlh" }),
            vec!["params.image_path"],
        ),
        (
            json!({ "image_path": "UklGRgAAAABXRUJQ", "image_tail": png_kept }),
            vec!["params.image_path"],
        ),
        // This picture is declared as PNG, but is a WebP.
        (
            json!({ "image_path": webp.replace("webp", "png") }),
            vec!["params.image_path"],
        ),
        (
            json!({ "image_path": uploaded.path, "image_tail": "https://example.com/a.WebP?w=9" }),
            vec!["params.image_path", "params.image_tail"],
        ),
    ] {
        let Err(CreateError::Invalid(errors)) = post(params.clone()) else {
            panic!("{params} is taken");
        };
        let told: Vec<&str> = errors.iter().map(|one| one.field.as_str()).collect();
        assert_eq!(told, fields, "{params}");
        let words = &errors[0].message;
        assert!(words.contains("send png or jpeg"), "{words}");
    }
    assert_eq!(assets(&world), before, "nothing was stored");
    for params in [
        json!({ "image_path": PIXEL, "image_tail": "/9j/4AAQ" }),
        json!({ "image_path": png_kept }),
        // A picture elsewhere is judged by its ending alone, and the submission reports a picture of another project.
        json!({ "image_path": "https://example.com/a.png" }),
        json!({ "image_path": "https://example.com/webp?name=a.webp", "image_tail": PIXEL }),
        json!({ "image_path": kept("image/webp", "another") }),
    ] {
        assert!(post(params.clone()).is_ok(), "{params}");
    }
}
