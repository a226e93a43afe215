//! Checks Gemini: its pictures, its refusals, and pictures as the input of other tasks.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use e2e::document::until_shown;
use e2e::gemini::{LARGE, PIXEL};
use e2e::kling::Plan;
use e2e::raw::Client;
use e2e::tasks::{World, created, id, post};
use futures_util::future::join_all;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_of_gemini_are_kept_and_its_refusals_have_their_reason() {
    let world = World::start(Plan::default()).await;
    let watcher = Client::join(&world.host.address, "p").await;
    let params = json!({
        "text": "a picture", "system_prompt": "be kind", "aspect_ratio": "4:3",
        "base64_images": [PIXEL],
    });
    let picture = id(&world.posted("nano_banana", params).await);
    let pro = json!({ "prompt": "a professional one", "image_size": "2K" });
    let pro = id(&world.posted("nano_banana_pro", pro).await);
    let refused = world.prompted("nano_banana", "refused").await;
    let busy = world.prompted("nano_banana", "busy-first").await;

    let done = world.finished(&picture).await;
    assert_eq!(done["status"], "completed", "{done}");
    // The picture that came with the parameters is kept beside them.
    let params: Value = serde_json::from_str(done["params"].as_str().unwrap()).unwrap();
    let input = params["base64_images"][0].as_str().unwrap();
    let input = world.host.http().get(input).await;
    assert_eq!(input.body, STANDARD.decode(PIXEL).unwrap());
    assert_eq!(done["external_service"], "gemini");
    assert_eq!(done["result_data"], "{\"text\":\"Here it is.\"}");
    until_shown(&watcher, &done).await;
    let asset = world.host.http().get(&world.asset_path(&done)).await;
    assert_eq!(asset.header("content-type"), "image/png");
    assert_eq!(asset.body, STANDARD.decode(PIXEL).unwrap());
    let inline = json!({ "inlineData": { "mimeType": "image/png", "data": PIXEL } });
    let (model, body) = world.gemini.asked("a picture").remove(0);
    assert_eq!(model, "gemini-nano-banana-2.1");
    assert_eq!(
        body,
        json!({
            "contents": [{ "role": "user", "parts": [{ "text": "a picture" }, inline] }],
            "systemInstruction": { "parts": [{ "text": "be kind" }] },
            "generationConfig": {
                "responseModalities": ["TEXT", "IMAGE"], "imageConfig": { "aspectRatio": "4:3" }
            },
        })
    );

    assert_eq!(world.finished(&pro).await["status"], "completed");
    let (model, body) = world.gemini.asked("professional").remove(0);
    assert_eq!(model, "gemini-3-pro-image");
    assert_eq!(
        body["generationConfig"]["imageConfig"],
        json!({ "imageSize": "2K" })
    );

    let done = world.finished(&refused).await;
    assert_eq!(
        (&done["status"], &done["retry_count"]),
        (&json!("failed"), &json!(0))
    );
    assert!(
        done["error_message"]
            .as_str()
            .unwrap()
            .contains("PROHIBITED_CONTENT"),
        "{done}"
    );
    assert_eq!(world.gemini.asked("refused").len(), 1);
    until_shown(&watcher, &done).await;

    let done = world.finished(&busy).await;
    assert_eq!(done["status"], "completed", "{done}");
    assert_eq!(world.gemini.asked("busy-first").len(), 2);
    until_shown(&watcher, &done).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_asset_is_the_input_of_another_task() {
    let world = World::start(Plan::default()).await;
    let first = world.prompted("nano_banana", "first").await;
    let url = world.finished(&first).await["result_url"].clone();
    let params = json!({ "prompt": "second", "reference_image_urls": [url] });
    let second = id(&world.posted("nano_banana", params).await);
    assert_eq!(world.finished(&second).await["status"], "completed");
    let inline = json!({ "inlineData": { "mimeType": "image/png", "data": PIXEL } });
    let (_, body) = world.gemini.asked("second").remove(0);
    assert_eq!(body["contents"][0]["parts"][1], inline);
    // For a task of another project the same asset does not exist.
    let params = json!({ "prompt": "third", "reference_image_urls": [url] });
    let body = json!({ "project_id": "q", "task_type": "nano_banana", "params": params });
    let third = world
        .finished(&id(&created(&world.host.http(), &body).await))
        .await;
    assert_eq!(third["status"], "failed", "{third}");
    assert!(world.gemini.asked("third").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_continues_from_the_picture_of_an_earlier_one() {
    let world = World::start(Plan::default()).await;
    let first = world.prompted("nano_banana", "a hill").await;
    let done = world.finished(&first).await;
    assert_eq!(done["status"], "completed", "{done}");
    assert!(!done.to_string().contains("signed: "), "{done}");
    let params = json!({ "prompt": "by night", "edit_of": first });
    let second = id(&world.posted("nano_banana", params).await);
    let done = world.finished(&second).await;
    assert_eq!(done["status"], "completed", "{done}");
    let (_, body) = world.gemini.asked("by night").remove(0);
    assert_eq!(body["contents"].as_array().unwrap().len(), 3, "{body}");
    assert_eq!(body["contents"][0]["parts"][0]["text"], "a hill");

    // An edit of an edit has one turn, too.
    let params = json!({ "prompt": "in winter", "edit_of": second });
    let third = id(&world.posted("nano_banana", params).await);
    assert_eq!(world.finished(&third).await["status"], "completed");
    let (_, body) = world.gemini.asked("in winter").remove(0);
    assert_eq!(body["contents"][0]["parts"][0]["text"], "by night");
    let params = json!({ "prompt": "by night", "edit_of": first });
    let body = json!({ "project_id": "q", "task_type": "nano_banana", "params": params });
    let refused = post(&world.host.http(), "/tasks", &[], &body).await;
    refused.assert_problem(422, "invalid-fields");
    assert_eq!(refused.json()["errors"][0]["field"], "params.edit_of");
    world.host.stop().await;
}

/// Reproduces the report "We paid for 254 pictures and got 8": the service was away for a moment, so that all pictures are
/// due in one round, and together they need more memory than several instances have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_that_are_due_at_once_are_each_paid_for_once() {
    const PICTURES: usize = 30;
    let world = World::start(Plan::default()).await;
    let ids = join_all((0..PICTURES).map(async |n| {
        let prompt = format!("busy-first large {n}");
        world.prompted("nano_banana", &prompt).await
    }))
    .await;
    for id in &ids {
        let done = world.finished(id).await;
        assert_eq!(done["status"], "completed", "{done}");
    }
    // Each was refused once, and answered once.
    assert_eq!(world.gemini.asked("large").len(), 2 * PICTURES);
    let url = world.task(&ids[0]).await["result_url"].clone();
    let path = url.as_str().unwrap().split_once("/assets/").unwrap().1;
    let asset = world.host.http().get(&format!("/assets/{path}")).await;
    assert_eq!(asset.body.len(), LARGE / 4 * 3);
    world.host.stop().await;
}
