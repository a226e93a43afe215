//! The requests to Gemini, without a Gemini: requests are compared as they leave.

use auth::webhooks::WebhookKey;
use platform::native::{MapConfig, block_on};
use serde_json::{Value, json};
use tasks::{
    AssetStore, CreateError, Engine, Failure, Media, Progress, Registry, Task, TaskRequest, rows,
};

use crate::fake::{Asked, PIXEL, Service, wrong_fields_with};

const SETTINGS: [(&str, &str); 4] = [
    ("gemini_api_key", "secret"),
    ("gemini_base_url", "https://gemini.example/"),
    ("nano_banana_model", "small"),
    ("nano_banana_pro_model", "large"),
];

const MODELS: [(&str, &str); 2] = [
    ("nano_banana_model", "gemini-nano-banana-2.1"),
    ("nano_banana_pro_model", "gemini-3-pro-image"),
];

/// Submits a task, and returns the answer with what Gemini was asked.
fn submitted(
    settings: &[(&str, &str)],
    status: u16,
    task_type: &str,
    params: &Value,
) -> (Result<Progress, Failure>, Vec<Asked>) {
    let inline = json!({ "inlineData": { "mimeType": "image/png", "data": PIXEL } });
    let drawn = json!({ "candidates": [{ "content": { "parts": [inline] } }] });
    let gemini = Service::new("gemini", settings, [(status, drawn)]);
    let task = Task {
        task_type: task_type.into(),
        project_id: "p".into(),
        ..Task::new(0)
    };
    let answer =
        gemini.with(async |executor, context| executor.submit(&task, params, context).await);
    (answer, gemini.asked())
}

#[test]
fn a_text_that_is_no_table_of_models_is_reported_to_the_operator() {
    for (text, is_table) in [(r#"{"gemini-4": {"sizes": ["1K"]}}"#, true), ("[]", false)] {
        let told = tasks::check_settings(&MapConfig::from_pairs(&[("gemini_models", text)]));
        assert_eq!(told.is_ok(), is_table, "{text}");
        if let Err(error) = told {
            assert!(error.to_string().contains("`gemini_models`"), "{error}");
        }
    }
}

#[test]
fn a_submission_says_what_gemini_needs_and_no_more() {
    let inline = json!({ "inlineData": { "mimeType": "image/png", "data": PIXEL } });
    let plain = json!({ "responseModalities": ["TEXT", "IMAGE"] });
    let with =
        |config: Value| json!({ "responseModalities": ["TEXT", "IMAGE"], "imageConfig": config });
    for (task_type, model, params, parts, config, system) in [
        (
            "nano_banana",
            "small",
            json!({ "prompt": "a hill" }),
            json!([{ "text": "a hill" }]),
            plain.clone(),
            Value::Null,
        ),
        (
            "nano_banana_pro",
            "large",
            json!({ "text": "a hill", "prompt": "no", "aspect_ratio": "1:1", "image_size": "4K" }),
            json!([{ "text": "a hill" }]),
            with(json!({ "aspectRatio": "1:1", "imageSize": "4K" })),
            Value::Null,
        ),
        (
            "nano_banana",
            "small",
            json!({ "prompt": "a", "aspect_ratio": "", "image_size": "", "system_prompt": "" }),
            json!([{ "text": "a" }]),
            plain.clone(),
            Value::Null,
        ),
        (
            "nano_banana",
            "small",
            json!({ "prompt": "a", "base64_images": [PIXEL, PIXEL], "system_prompt": "be brief" }),
            json!([{ "text": "a" }, inline, inline]),
            plain.clone(),
            json!({ "parts": [{ "text": "be brief" }] }),
        ),
        (
            "nano_banana",
            "small",
            json!({ "prompt": "a", "image_size": "2K", "generation_config": { "seed": 5 } }),
            json!([{ "text": "a" }]),
            json!({
                "responseModalities": ["TEXT", "IMAGE"], "imageConfig": { "imageSize": "2K" }, "seed": 5,
            }),
            Value::Null,
        ),
    ] {
        let (answer, asked) = submitted(&SETTINGS, 200, task_type, &params);
        let Ok(Progress::Done(product)) = answer else {
            panic!("{answer:?}");
        };
        assert!(matches!(&product.media[..], [Media::Inline { .. }]));
        let mut body = json!({
            "contents": [{ "role": "user", "parts": parts }], "generationConfig": config,
        });
        if !system.is_null() {
            body["systemInstruction"] = system;
        }
        let expected = Asked {
            call: format!("POST https://gemini.example/v1beta/models/{model}:generateContent"),
            key: "secret".into(),
            body,
        };
        assert_eq!(asked, [expected]);
    }
}

/// The first picture is often a draft.
#[test]
fn every_final_image_is_an_asset_and_the_first_is_the_result() {
    let part = |is_thought: bool| {
        let inline = json!({ "mimeType": "image/png", "data": PIXEL });
        json!({ "inlineData": inline, "thought": is_thought })
    };
    for finals in [1, 3] {
        let mut parts = vec![part(true)];
        parts.extend((0..finals).map(|_| part(false)));
        let drawn =
            json!({ "candidates": [{ "finishReason": "STOP", "content": { "parts": parts } }] });
        let gemini = Service::new("gemini", &SETTINGS, [(200, drawn)]);
        let engine = engine(&gemini);
        let ports = engine.ports;
        let posted =
            r#"{"project_id": "p", "task_type": "nano_banana", "params": {"prompt": "a"}}"#;
        let posted = TaskRequest::read(posted.as_bytes()).unwrap();
        let task = block_on(tasks::create(ports, &engine.registry, &posted, None)).unwrap();
        block_on(engine.take_up(&task));
        let ended = block_on(rows::get(ports.database, &task.task_id));
        let url = ended.unwrap().unwrap().result_url.unwrap();
        let data = block_on(rows::result_data(ports.database, &task.task_id));
        let data: Value = serde_json::from_str(&data.unwrap().unwrap()).unwrap();
        if finals == 1 {
            assert_eq!(data, json!({ "text": "" }));
            continue;
        }
        let images = data["images"].as_array().unwrap();
        assert_eq!((images.len(), &images[0]), (finals, &json!(url)));
        for image in images {
            let id = image.as_str().unwrap().strip_prefix("/assets/").unwrap();
            let id = id.split('.').next().unwrap();
            assert!(block_on(engine.assets.describe(id)).unwrap().is_some());
        }
    }
}

/// An engine with this Gemini.
fn engine(gemini: &Service) -> Engine<'_> {
    let ports = gemini.ports();
    Engine {
        ports,
        assets: AssetStore::open(ports.database, ports.http, ports.config).unwrap(),
        registry: Registry::standard(ports.config),
        key: WebhookKey::new("key"),
    }
}

/// Posts a task, and returns it or the wrong fields.
fn posted(engine: &Engine<'_>, task_type: &str, params: &Value) -> Result<Task, Vec<String>> {
    posted_in(engine, "p", task_type, params)
}

fn posted_in(
    engine: &Engine<'_>,
    project: &str,
    task_type: &str,
    params: &Value,
) -> Result<Task, Vec<String>> {
    let body = json!({ "project_id": project, "task_type": task_type, "params": params });
    let body = body.to_string();
    let request = TaskRequest::read(body.as_bytes()).unwrap();
    match block_on(tasks::create(
        engine.ports,
        &engine.registry,
        &request,
        None,
    )) {
        Ok(task) => Ok(task),
        Err(CreateError::Invalid(errors)) => {
            let words = errors
                .into_iter()
                .map(|e| format!("{} {}", e.field, e.message));
            Err(words.collect())
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_task_goes_on_from_the_picture_of_an_earlier_one() {
    let picture = json!({ "mimeType": "image/png", "data": PIXEL });
    let drawn = json!({ "candidates": [{ "content": { "parts": [
        { "inlineData": picture, "thought": true, "thoughtSignature": "of a draft" },
        { "text": "Here." },
        { "inlineData": picture, "thoughtSignature": "of the result" },
        { "inlineData": picture, "thoughtSignature": "of another" },
    ] } }] });
    let gemini = Service::new("gemini", &SETTINGS, [(200, drawn.clone()), (200, drawn)]);
    let engine = engine(&gemini);
    let ports = engine.ports;
    let first = posted(&engine, "nano_banana", &json!({ "prompt": "a hill" })).unwrap();
    let edit = json!({ "prompt": "with snow", "edit_of": first.task_id });
    let too_early = posted(&engine, "nano_banana", &edit).unwrap_err();
    let expected = "params.edit_of must be a task that is completed, and it is pending";
    assert_eq!(too_early, [expected]);

    block_on(engine.take_up(&first));
    let second = posted(&engine, "nano_banana", &edit).unwrap();
    block_on(engine.take_up(&second));
    let ended = block_on(rows::get(ports.database, &second.task_id));
    assert!(ended.unwrap().unwrap().result_url.is_some());
    let answered = json!({ "inlineData": picture, "thoughtSignature": "of the result" });
    let turns = json!([
        { "role": "user", "parts": [{ "text": "a hill" }] },
        { "role": "model", "parts": [answered] },
        { "role": "user", "parts": [{ "text": "with snow" }] },
    ]);
    assert_eq!(gemini.asked()[1].body["contents"], turns);

    // No client sees the signature, because only the service has a use for it.
    let told = block_on(rows::get(ports.database, &first.task_id)).unwrap();
    let told = serde_json::to_string(&told.unwrap()).unwrap();
    let data = block_on(rows::result_data(ports.database, &first.task_id)).unwrap();
    assert!(!told.contains("of the result") && !data.unwrap().contains("of the result"));

    let unknown = json!({ "prompt": "a", "edit_of": "task_1_x" });
    let number = json!({ "prompt": "a", "edit_of": 7 });
    for (project, task_type, params, words) in [
        (
            "p",
            "nano_banana",
            &unknown,
            "is not the id of a task of this project",
        ),
        (
            "q",
            "nano_banana",
            &edit,
            "is not the id of a task of this project",
        ),
        (
            "p",
            "nano_banana_pro",
            &edit,
            "must be a task of the type nano_banana_pro",
        ),
        ("p", "nano_banana", &number, "must be a string"),
    ] {
        let wrong = posted_in(&engine, project, task_type, params).unwrap_err();
        assert_eq!(wrong, [format!("params.edit_of {words}")]);
    }
    let third = posted(&engine, "nano_banana", &edit).unwrap();
    for (length, is_right) in [(10 << 20, true), ((10 << 20) + 1, false)] {
        let sql = format!("UPDATE assets SET length = {length}");
        gemini.world.rows(&sql);
        let answer = posted(&engine, "nano_banana", &edit);
        assert_eq!(answer.is_ok(), is_right, "{length}: {answer:?}");
    }
    gemini.world.rows("DELETE FROM assets");
    let wrong = posted(&engine, "nano_banana", &edit).unwrap_err();
    assert_eq!(
        wrong,
        ["params.edit_of has a picture that is no longer kept here"]
    );
    // The picture was there when this task was posted.
    block_on(engine.take_up(&third));
    let failed = block_on(rows::get(ports.database, &third.task_id))
        .unwrap()
        .unwrap();
    assert!(failed.error_message.unwrap().ends_with("does not exist"));
    assert_eq!(gemini.asked().len(), 2);
}

/// A signature is valid for the model and the account that were set when Gemini gave it.
#[test]
fn a_signature_that_is_refused_is_left_out() {
    let part = |signature: &str| json!({ "inlineData": { "mimeType": "image/png", "data": PIXEL }, "thoughtSignature": signature });
    let drawn = |signature: &str| {
        let content = json!({ "parts": [part(signature)] });
        (200, json!({ "candidates": [{ "content": content }] }))
    };
    let refused = json!({ "error": { "code": 400, "message": "Invalid thought signature." } });
    let answers = [drawn("s"), (400, refused), drawn("t")];
    let gemini = Service::new("gemini", &SETTINGS, answers);
    let engine = engine(&gemini);
    let ports = engine.ports;
    let first = posted(&engine, "nano_banana", &json!({ "prompt": "a hill" })).unwrap();
    block_on(engine.take_up(&first));
    let edit = json!({ "prompt": "with snow", "edit_of": first.task_id });
    let second = posted(&engine, "nano_banana", &edit).unwrap();
    block_on(engine.take_up(&second));
    let ended = block_on(rows::get(ports.database, &second.task_id)).unwrap();
    assert_eq!(ended.unwrap().status.as_str(), "completed");
    let asked = gemini.asked();
    let answered = |n: usize| &asked[n].body["contents"][1]["parts"][0];
    assert_eq!((asked.len(), answered(1)), (3, &part("s")));
    let mut without = asked[1].body.clone();
    let turn = without["contents"][1]["parts"][0].as_object_mut().unwrap();
    turn.remove("thoughtSignature");
    assert_eq!(asked[2].body, without);
}

#[test]
fn what_the_operator_must_set_is_named() {
    for missing in ["gemini_api_key", "gemini_base_url", "nano_banana_model"] {
        let mut settings = SETTINGS.to_vec();
        settings.retain(|(name, _)| *name != missing);
        let params = json!({ "prompt": "a hill" });
        let (answer, asked) = submitted(&settings, 200, "nano_banana", &params);
        let Err(Failure::Access(reason)) = answer else {
            panic!("{answer:?}");
        };
        assert!(reason.contains(missing), "{reason}");
        assert!(asked.is_empty());
    }
    let params = json!({ "prompt": "a hill" });
    let (answer, _) = submitted(&SETTINGS, 404, "nano_banana_pro", &params);
    let Err(Failure::Permanent(reason)) = answer else {
        panic!("{answer:?}");
    };
    assert!(
        reason.contains("`large`") && reason.contains("nano_banana_pro_model"),
        "{reason}"
    );
}

#[test]
fn parameters_that_gemini_would_refuse_are_named() {
    let most = vec!["/assets/asset_a"; 14];
    let too_many = vec!["/assets/asset_a"; 15];
    for (task_type, params, fields) in [
        ("nano_banana", json!({ "prompt": "a hill" }), &[][..]),
        ("nano_banana", json!({ "text": "a hill" }), &[]),
        ("nano_banana", json!({}), &["params.prompt"]),
        ("nano_banana", json!({ "text": 7 }), &["params.text"]),
        (
            "nano_banana",
            json!({ "prompt": "a", "aspect_ratio": "7:1" }),
            &["params.aspect_ratio"],
        ),
        (
            "nano_banana",
            json!({ "prompt": "a", "aspect_ratio": "8:1", "image_size": "4K" }),
            &[],
        ),
        (
            "nano_banana_pro",
            json!({ "prompt": "a", "aspect_ratio": "8:1" }),
            &["params.aspect_ratio"],
        ),
        (
            "nano_banana",
            json!({ "prompt": "a", "generation_config": [] }),
            &["params.generation_config"],
        ),
        (
            "nano_banana_pro",
            json!({ "prompt": "a", "image_size": "1K" }),
            &[],
        ),
        (
            "nano_banana_pro",
            json!({ "prompt": "a", "image_size": "3K" }),
            &["params.image_size"],
        ),
        (
            "nano_banana",
            json!({ "prompt": "a", "base64_images": most }),
            &[],
        ),
        (
            "nano_banana",
            json!({ "prompt": "a", "base64_images": too_many }),
            &["params.base64_images"],
        ),
        (
            "nano_banana",
            json!({ "prompt": "a", "base64_images": most, "reference_image_urls": ["/assets/asset_b"] }),
            &["params.reference_image_urls"],
        ),
    ] {
        let found = wrong_fields_with(&MODELS, task_type, &params);
        assert_eq!(found, fields, "{task_type} {:.100}", params.to_string());
    }
    // Nothing is known about these models, so nothing is refused unless the operator describes one.
    let odd = json!({ "prompt": "a", "aspect_ratio": "7:1", "image_size": "9K" });
    assert_eq!(wrong_fields_with(&SETTINGS, "nano_banana", &odd), [""; 0]);
    let mut told = SETTINGS.to_vec();
    told.push((
        "gemini_models",
        r#"{"sma": {"ratios": ["7:1"], "sizes": [], "references": 1}}"#,
    ));
    let fields = wrong_fields_with(&told, "nano_banana", &odd);
    assert_eq!(fields, ["params.image_size"]);
    let registry = Registry::standard(&MapConfig::default());
    let gemini = registry.service("gemini").unwrap();
    assert_eq!(
        (gemini.title(), gemini.places(&MapConfig::default())),
        ("Gemini", 64)
    );
    // A submission may take as long as its pictures and the call together.
    assert_eq!(gemini.patience().as_secs(), 135);
    assert!(gemini.process_webhook(&json!({ "a": 1 })).is_none());
    for answer in [json!({ "candidates": [] }), json!({ "promptFeedback": {} })] {
        assert!(gemini.process_webhook(&answer).is_some(), "{answer}");
    }
}

#[test]
fn generation_config_has_the_bounds_of_the_parameters_beside_it() {
    let of = |config: Value| {
        let params = json!({ "prompt": "a", "generation_config": config });
        let found = wrong_fields_with(&MODELS, "nano_banana", &params);
        let names = found.iter().map(|field| {
            field
                .strip_prefix("params.generation_config.")
                .unwrap()
                .to_owned()
        });
        names.collect::<Vec<String>>()
    };
    for right in [
        json!({ "imageConfig": { "imageSize": "4K", "aspectRatio": "8:1" }, "seed": 5 }),
        json!({ "responseModalities": ["IMAGE"], "candidateCount": 1 }),
    ] {
        assert_eq!(of(right.clone()), [""; 0], "{right}");
    }
    for (wrong, name) in [
        (
            json!({ "imageConfig": { "imageSize": "9K" } }),
            "imageConfig.imageSize",
        ),
        (
            json!({ "imageConfig": { "aspectRatio": 7 } }),
            "imageConfig.aspectRatio",
        ),
        (
            json!({ "image_config": { "aspect_ratio": "7:3" } }),
            "image_config.aspect_ratio",
        ),
        (
            json!({ "responseModalities": ["TEXT"] }),
            "responseModalities",
        ),
        (json!({ "response_modalities": [] }), "response_modalities"),
        (json!({ "candidateCount": 8 }), "candidateCount"),
    ] {
        assert_eq!(of(wrong.clone()), [name], "{wrong}");
    }
    let edit = json!({ "prompt": "a", "base64_images": vec!["/assets/asset_a"; 14], "edit_of": "task_1_a" });
    let fields = wrong_fields_with(&MODELS, "nano_banana", &edit);
    assert_eq!(fields, ["params.reference_image_urls"]);
}
