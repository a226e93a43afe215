//! The parameters that Kling's models take, and the requests to its second generation.

use serde_json::{Value, json};
use tasks::{Failure, Media, Progress, Task};

use crate::fake::{
    self, Asked, PIXEL,
    kling::{BASE, KEY, goes_on, job, kling, submit, task},
    wrong_fields,
};

/// Checks that the error about a parameter that a model does not take says what to send instead.
#[test]
fn what_a_model_does_not_take_is_refused_in_words_that_name_what_to_send() {
    for (params, field, words) in [
        (
            json!({ "model": "kling-v1", "duration": 7 }),
            "duration",
            "5 or 10",
        ),
        (
            json!({ "model": "kling-v2-6", "duration": 15 }),
            "duration",
            "5 or 10",
        ),
        (
            json!({ "model": "kling-v3", "duration": 16 }),
            "duration",
            "a whole number from 3 to 15",
        ),
        (
            json!({ "model": "kling-3.0", "duration": 3.5 }),
            "duration",
            "from 3 to 15",
        ),
        (
            json!({ "model": "kling-video-o1", "duration": 11 }),
            "duration",
            "from 3 to 10",
        ),
        (json!({ "mode": "4k" }), "mode", "std, pro"),
        (
            json!({ "model": "kling-3.0-turbo", "mode": "4k" }),
            "mode",
            "std, pro",
        ),
        (
            json!({ "model": "kling-3.0-turbo", "resolution": "4k" }),
            "resolution",
            "720p, 1080p",
        ),
        (
            json!({ "sound": "on" }),
            "sound",
            "on is not available with `kling-v1`; send off",
        ),
        (json!({ "sound": "loud" }), "sound", "on, off"),
        (
            json!({ "model": "kling-v2-6", "sound": "on" }),
            "sound",
            "`mode` pro",
        ),
        (
            json!({ "model": "kling-2.6", "sound": true, "mode": "std" }),
            "sound",
            "`mode` pro",
        ),
        (
            json!({ "model": "kling-3.0-turbo", "sound": false }),
            "sound",
            "leave it out",
        ),
        (
            json!({ "model": "kling-3.0-turbo", "image_path": "/assets/asset_a", "image_tail": "/assets/asset_b" }),
            "image_tail",
            "the first picture alone",
        ),
        (
            json!({ "image_tail": "/assets/asset_b" }),
            "image_tail",
            "needs `image_path`",
        ),
        (
            json!({ "model": "kling-v2-5-turbo", "cfg_scale": 0.7 }),
            "cfg_scale",
            "leave it out",
        ),
        (
            json!({ "model": "kling-3.0", "negative_prompt": "rain" }),
            "negative_prompt",
            "say it in `prompt`",
        ),
        (
            json!({ "model": "kling-v3-omni" }),
            "model",
            "send `kling-v3`",
        ),
        (json!({ "model": "../kling" }), "model", "letters"),
        (json!({ "model": ".." }), "model", "begin with a letter"),
        (
            json!({ "model": "kling-3.0", "settings": 1 }),
            "settings",
            "object",
        ),
        (
            json!({ "model": "kling-3.0", "contents": {} }),
            "contents",
            "list",
        ),
    ] {
        let mut all = params.clone();
        all["prompt"] = json!("a hill");
        let found = fake::errors_with(&[], "kling_video", &all);
        let told: Vec<&str> = found.iter().map(|one| one.field.as_str()).collect();
        assert_eq!(told, [format!("params.{field}")], "{params}");
        assert!(found[0].message.contains(words), "{params}: {found:?}");
    }
    for params in [
        json!({ "model": "kling-v3", "duration": 15, "mode": "4k", "sound": "on" }),
        json!({ "model": "kling-v2-6", "sound": "on", "mode": "pro" }),
        json!({ "model": "kling-v2-6", "sound": false }),
        json!({ "sound": "off" }),
        json!({ "model": "kling-video-o1", "aspect_ratio": "21:9" }),
        json!({ "model": "kling-3.0-turbo", "sound": "on" }),
        json!({ "model": "kling-3.0-turbo", "duration": "3" }),
        // A client that always sends Kling's own default asks for nothing special.
        json!({ "model": "kling-v2-6", "cfg_scale": 0.5 }),
        // Nothing is refused for a model that is not known.
        json!({ "model": "kling-9.0", "duration": 90, "mode": "8k", "sound": "on", "aspect_ratio": "2:1", "seed": [1] }),
    ] {
        let mut all = params.clone();
        all["prompt"] = json!("a hill");
        let found = wrong_fields("kling_video", &all);
        assert_eq!(found, [""; 0], "{params}");
    }
    let table = r#"{"kling-v1": {"durations": [7]}, "kling-old": {"instead": "kling-v3"}, "Kling-X": {"modes": ["x"]}}"#;
    let refused =
        |params: Value| fake::wrong_fields_with(&[("kling_models", table)], "kling_video", &params);
    assert_eq!(refused(json!({ "prompt": "a", "duration": 7 })), [""; 0]);
    assert_eq!(
        refused(json!({ "prompt": "a", "model": "Kling-X" })),
        [""; 0],
        "the operator knows how it is written"
    );
    assert_eq!(
        refused(json!({ "prompt": "a", "duration": 5 })),
        ["params.duration"]
    );
    assert_eq!(
        refused(json!({ "prompt": "a", "model": "kling-old" })),
        ["params.model"]
    );
}

/// The second generation takes a wish in several spellings, which are all checked, and none may contradict another.
#[test]
fn every_spelling_of_the_second_generation_is_checked() {
    let refused = |params: &Value| {
        let mut all = params.clone();
        all["prompt"] = json!("a hill");
        wrong_fields("kling_video", &all)
    };
    for (params, field) in [
        (
            json!({ "model": "kling-2.6", "mode": "pro", "sound": "on", "resolution": "720p" }),
            "resolution",
        ),
        (json!({ "model": "kling-2.6", "audio": "native" }), "audio"),
        (
            json!({ "model": "kling-2.6", "mode": "std", "audio": "native" }),
            "audio",
        ),
        (
            json!({ "model": "kling-2.6", "settings": { "audio": "native" } }),
            "settings.audio",
        ),
        (
            json!({ "model": "kling-3.0", "sound": "off", "settings": { "audio": "native" } }),
            "settings.audio",
        ),
        (json!({ "model": "kling-3.0", "audio": "loud" }), "audio"),
        (
            json!({ "model": "kling-2.6", "settings": { "duration": 7 } }),
            "settings.duration",
        ),
        (
            json!({ "model": "kling-3.0", "settings": { "duration": 99 } }),
            "settings.duration",
        ),
        (
            json!({ "model": "kling-3.0", "duration": 5, "settings": { "duration": 6 } }),
            "settings.duration",
        ),
        (
            json!({ "model": "kling-3.0-turbo", "settings": { "resolution": "4k" } }),
            "settings.resolution",
        ),
        (
            json!({ "model": "kling-3.0-turbo", "settings": { "audio": "off" } }),
            "settings.audio",
        ),
        (
            json!({ "model": "kling-3.0", "mode": "std", "settings": { "resolution": "4k" } }),
            "settings.resolution",
        ),
        (
            json!({ "model": "kling-3.0", "settings": { "cfg_scale": 0.7 } }),
            "settings.cfg_scale",
        ),
        (
            json!({ "model": "kling-3.0", "settings": { "aspect_ratio": "2:1" } }),
            "settings.aspect_ratio",
        ),
        (
            json!({ "model": "kling-3.0", "contents": ["x"] }),
            "contents[0]",
        ),
        (
            json!({ "model": "kling-3.0-turbo", "contents": [{ "type": "last_frame", "url": "https://a.example/a.png" }] }),
            "contents[0]",
        ),
        (
            json!({ "model": "kling-3.0", "contents": [{}, { "type": "first_frame", "url": "https://a.example/a.webp" }] }),
            "contents[1].url",
        ),
        (json!({ "model": "kling-video-o1", "mode": "4k" }), "mode"),
        (json!({ "model": "kling-video-o1", "sound": "on" }), "sound"),
        (json!({ "model": "KLING-3.0" }), "model"),
        (json!({ "model": "Kling-V2-6" }), "model"),
    ] {
        assert_eq!(refused(&params), [format!("params.{field}")], "{params}");
    }
    for params in [
        json!({ "model": "kling-2.6", "sound": "on", "resolution": "1080p" }),
        json!({ "model": "kling-2.6", "audio": "native", "settings": { "resolution": "1080p" } }),
        json!({ "model": "kling-3.0", "mode": "4k", "settings": { "resolution": "4k", "duration": 15, "fps": 30 } }),
        json!({ "model": "kling-9.0", "audio": "loud", "settings": { "resolution": "8k", "duration": 90 } }),
        json!({ "model": "MY-OWN", "mode": "4k" }),
        json!({ "model": "kling-3.0-turbo", "audio": "" }),
        json!({ "model": "kling-3.0-turbo", "contents": [{ "type": "first_frame", "url": "https://a.example/a.png" }] }),
        json!({ "model": "kling-3.0", "contents": [{ "type": "last_frame", "url": "https://a.example/a.png" }] }),
    ] {
        assert_eq!(refused(&params), [""; 0], "{params}");
    }
}

/// The answer of the second generation about a job.
fn job_2(id: &str, status: &str) -> Value {
    json!({ "id": id, "status": status, "message": "", "external_id": "task_1_a" })
}

fn answer_2(data: Value) -> (u16, Value) {
    (
        200,
        json!({ "code": 0, "message": "SUCCEED", "data": data }),
    )
}

#[test]
fn a_submission_of_the_second_generation_has_the_model_in_its_path() {
    let options = json!({
        "external_task_id": "task_1_a", "callback_url": "https://here.example/webhooks/kling",
    });
    let far = "https://pictures.example/a.png";
    for (params, path, body) in [
        (
            json!({ "model": "kling-3.0", "prompt": "a hill" }),
            "/text-to-video/kling-3.0",
            json!({ "prompt": "a hill", "settings": { "duration": 5 }, "options": options }),
        ),
        (
            json!({
                "model": "kling-3.0", "prompt": "a hill", "mode": "4k", "sound": "on", "duration": "12",
                "aspect_ratio": "1:1", "multi_shot": false, "cfg_scale": 0.5, "negative_prompt": "",
                "seed": 7, "callback_url": "https://elsewhere.example", "settings": { "fps": 30 },
                "options": { "callback_url": "https://elsewhere.example", "priority": 1 },
                "watermark_info": { "enabled": false },
            }),
            "/text-to-video/kling-3.0",
            json!({
                "prompt": "a hill", "seed": 7,
                "settings": {
                    "resolution": "4k", "audio": "native", "duration": 12, "aspect_ratio": "1:1",
                    "multi_shot": false, "fps": 30,
                },
                "options": {
                    "external_task_id": "task_1_a", "callback_url": "https://here.example/webhooks/kling",
                    "priority": 1, "watermark_info": { "enabled": false },
                },
            }),
        ),
        (
            json!({
                "model": "kling-2.6", "image_path": far, "image_tail": PIXEL, "prompt": "go", "mode": "pro",
                "sound": "off", "aspect_ratio": "1:1", "contents": [{ "type": "element", "element_id": "7" }],
            }),
            "/image-to-video/kling-2.6",
            json!({
                "contents": [
                    { "type": "prompt", "text": "go" },
                    { "type": "first_frame", "url": far },
                    { "type": "last_frame", "url": PIXEL },
                    { "type": "element", "element_id": "7" },
                ],
                "settings": { "resolution": "1080p", "audio": "off", "duration": 5 },
                "options": options,
            }),
        ),
        (
            json!({
                "model": "kling-3.0", "prompt": "go", "aspect_ratio": "1:1",
                "contents": [{ "type": "first_frame", "url": far }],
            }),
            "/image-to-video/kling-3.0",
            json!({
                "contents": [{ "type": "prompt", "text": "go" }, { "type": "first_frame", "url": far }],
                "settings": { "duration": 5 },
                "options": options,
            }),
        ),
        (
            json!({ "model": "kling-3.0-turbo", "image_path": far }),
            "/image-to-video/kling-3.0-turbo",
            json!({
                "contents": [{ "type": "first_frame", "url": far }],
                "settings": { "duration": 5 },
                "options": options,
            }),
        ),
    ] {
        let service = kling(&[KEY, BASE], [answer_2(job_2("k1", "submitted"))]);
        let answer = submit(&service, &task(), params);
        assert_eq!(goes_on(answer), ("k1".into(), false));
        let expected = Asked {
            call: format!("POST https://kling.example{path}"),
            key: "Bearer secret".into(),
            body,
        };
        assert_eq!(service.asked(), [expected]);
    }
    // Parameters that the first generation does not know pass through as well.
    let service = kling(&[KEY, BASE], [job("k1", "submitted")]);
    let params = json!({
        "model": "kling-v3", "prompt": "a", "sound": true, "multi_shot": true, "callback_url": "https://elsewhere.example",
    });
    goes_on(submit(&service, &task(), params));
    let body = &service.asked()[0].body;
    assert_eq!(
        (&body["multi_shot"], &body["sound"]),
        (&json!(true), &json!("on"))
    );
    assert_eq!(body["callback_url"], "https://here.example/webhooks/kling");
}

/// Kling cannot reach a server behind a firewall.
#[test]
fn a_picture_in_contents_that_is_kept_here_goes_as_its_bytes() {
    let service = kling(&[KEY, BASE], [answer_2(job_2("k1", "submitted"))]);
    let sent = service.with(async |kling, context| {
        let png = b"\x89PNG\r\n\x1a\n".to_vec();
        let id = context.assets.store("p", "t", "image/png", png, 7).await;
        let contents = json!([
            { "type": "last_frame", "url": format!("/assets/{}", id.unwrap()) },
            { "type": "element", "url": "element-7" },
        ]);
        let params = json!({
            "model": "kling-3.0", "prompt": "a", "image_path": "https://pictures.example/a.png",
            "contents": contents,
        });
        kling.submit(&task(), &params, context).await
    });
    goes_on(sent);
    let contents = &service.asked()[0].body["contents"];
    assert_eq!(
        contents[2],
        json!({ "type": "last_frame", "url": "iVBORw0KGgo=" })
    );
    assert_eq!(
        contents[3],
        json!({ "type": "element", "url": "element-7" })
    );
}

#[test]
fn a_job_of_the_second_generation_is_found_and_polled_and_has_its_cost() {
    let params = json!({ "model": "kling-3.0", "prompt": "a" });
    let again = Task {
        attempts: 2,
        ..task()
    };
    let find = "GET /tasks?external_task_ids=task_1_a";
    let service = kling(&[KEY, BASE], [answer_2(json!([job_2("k1", "processing")]))]);
    assert_eq!(
        goes_on(submit(&service, &again, params.clone())),
        ("k1".into(), true)
    );
    assert_eq!(service.calls(), [find]);
    let service = kling(
        &[KEY, BASE],
        [answer_2(json!([])), answer_2(job_2("k2", "submitted"))],
    );
    assert_eq!(
        goes_on(submit(&service, &again, params.clone())),
        ("k2".into(), false)
    );
    assert_eq!(service.calls(), [find, "POST /text-to-video/kling-3.0"]);

    let accepted = Task {
        external_task_id: Some("k1".into()),
        ..task()
    };
    let poll = |jobs: Value| {
        let service = kling(&[KEY, BASE], [answer_2(jobs)]);
        let news =
            service.with(async |kling, context| kling.poll(&accepted, &params, context).await);
        assert_eq!(service.calls(), ["GET /tasks?task_ids=k1"]);
        news
    };
    assert_eq!(goes_on(poll(json!([job_2("k1", "processing")]))).0, "k1");
    let mut done = job_2("k1", "succeeded");
    let video = json!({ "type": "video", "id": "v", "url": "https://cdn/v.mp4", "duration": "5" });
    done["outputs"] = json!([{ "type": "audio", "mp3_url": "https://cdn/v.mp3" }, video]);
    done["billing"] = json!([{ "charge_type": "unit", "amount": "3.5", "package_type": "video" }]);
    let Ok(Progress::Done(product)) = poll(json!([done.clone()])) else {
        panic!("not done");
    };
    assert_eq!(product.media, [Media::Url("https://cdn/v.mp4".into())]);
    assert_eq!(
        product.data,
        json!({ "videos": [video], "cost": done["billing"] })
    );
    let mut failed = job_2("k1", "failed");
    failed["message"] = json!("the risk control objects");
    assert_eq!(
        poll(json!([failed])),
        Err(Failure::permanent("Kling: the risk control objects"))
    );
    assert!(matches!(poll(json!([])), Err(Failure::Permanent(_))));

    // The second generation does not take the older pair of keys.
    let pair = [("kling_access_key", "a"), ("kling_secret_key", "b"), BASE];
    let service = kling(&pair, []);
    let answer = submit(&service, &task(), params.clone());
    assert!(matches!(&answer, Err(Failure::Access(words)) if words.contains("`kling_api_key`")));
}
