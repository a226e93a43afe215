//! Checks fal: its queue, its signed callbacks, and what becomes of its pictures and films.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use e2e::document::until_shown;
use e2e::fal::{self, FILM, Fal};
use e2e::gemini::PIXEL;
use e2e::host::Kind;
use e2e::kling::{Plan, notify};
use e2e::raw::Client;
use e2e::tasks::{World, id, outcome};
use e2e::wait::until;
use serde_json::{Value, json};

const PICTURES: &str = "fal:fal-ai/flux/dev";
const FILMS: &str = "fal:fal-ai/kling-video/v2/text-to-video";

async fn start() -> (World, Fal) {
    let fal = Fal::start().await;
    let world = World::start_with(Kind::Native, Plan::until_told(), |setup| {
        setup
            .variable("fal_base_url", &fal.url())
            .variable("fal_rest_url", &fal.url())
            .variable("fal_key", fal::KEY)
    })
    .await;
    (world, fal)
}

/// Posts a task, waits until fal has accepted it, and returns its id and fal's name for the job.
async fn accepted(world: &World, task_type: &str, params: Value) -> (String, String) {
    let task = id(&world.posted(task_type, params).await);
    let row = world.accepted(&task).await;
    (task, row["external_task_id"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_and_films_of_fal_come_by_signed_callbacks_or_by_a_poll() {
    let (world, fal) = start().await;
    let watcher = Client::join(&world.host.address, "p").await;
    // The film is found by a poll, 10 s after its submission, while the pictures come by callbacks.
    let film = json!({ "prompt": "the sea", "duration": "5" });
    let (film, film_job) = accepted(&world, FILMS, film).await;
    fal.finish(&film_job);
    let params = json!({ "prompt": "a hill", "num_images": 2, "image_url": PIXEL });
    let (pictures, job) = accepted(&world, PICTURES, params).await;
    let submitted = fal.job(&job);
    assert_eq!(submitted.model, "fal-ai/flux/dev");
    let inline = format!("data:image/png;base64,{PIXEL}");
    assert_eq!(
        submitted.input,
        json!({ "prompt": "a hill", "num_images": 2, "image_url": inline })
    );

    // Without fal's signature, and with one that is six minutes old, a callback changes nothing.
    let forged = json!({ "request_id": job, "status": "OK", "payload": { "images": [{ "url": "https://a.example/b.png" }] } });
    assert_eq!(
        notify(&submitted.callback_url, forged.to_string()).await,
        401
    );
    assert_eq!(fal.call_back(&job, 360, None).await, 401);
    assert_eq!(world.task(&pictures).await["status"], "processing");
    // A repeated callback completes the task once.
    assert_eq!(fal.call_back(&job, 290, None).await, 200);
    let done = world.finished(&pictures).await;
    assert_eq!(fal.call_back(&job, 0, None).await, 200);
    assert_eq!(world.task(&pictures).await, done);
    assert_eq!(done["status"], "completed", "{done}");
    until_shown(&watcher, &done).await;
    let asset = world.host.http().get(&world.asset_path(&done)).await;
    assert_eq!(asset.body, STANDARD.decode(PIXEL).unwrap());
    let data: Value = serde_json::from_str(done["result_data"].as_str().unwrap()).unwrap();
    assert_eq!(
        (data["urls"].as_array().unwrap().len(), &data["seed"]),
        (2, &json!(7))
    );
    assert_eq!(data["source_url"], data["images"][0]["url"]);

    let (failing, job) = accepted(&world, PICTURES, json!({ "prompt": "no" })).await;
    assert_eq!(fal.call_back(&job, 0, Some("content refused")).await, 200);
    let failed = world.finished(&failing).await;
    assert_eq!(
        outcome(&failed),
        ("failed", "fal: the job failed: content refused")
    );

    let done = world.finished(&film).await;
    assert_eq!(done["status"], "completed", "{done}");
    assert!(fal.job(&film_job).looks > 0);
    until_shown(&watcher, &done).await;
    let asset = world.host.http().get(&world.asset_path(&done)).await;
    assert_eq!(
        (asset.header("content-type"), &asset.body[..]),
        ("video/mp4", FILM)
    );
    // The app requests fal's keys once a day, and has repeated no submission.
    assert_eq!((fal.asked_for_keys(), fal.submissions()), (1, 3));
    assert_eq!(fal.wrong(), [""; 0]);
    world.host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fal_is_told_of_a_cancelled_job_and_a_model_that_is_gone_is_named() {
    let (world, fal) = start().await;
    let (task, job) = accepted(&world, FILMS, json!({ "prompt": "the sea" })).await;
    assert_eq!(world.ask(&task, "cancel").await.status, 200);
    until("fal knows", async || fal.job(&job).is_cancelled).await;
    // The app ignores a result that fal makes nevertheless.
    fal.finish(&job);
    assert_eq!(fal.call_back(&job, 0, None).await, 200);
    let task = world.task(&task).await;
    assert_eq!(
        (&task["status"], &task["result_url"]),
        (&json!("cancelled"), &Value::Null)
    );

    let gone = world.prompted("fal:gone/model", "a hill").await;
    let gone = world.finished(&gone).await;
    let (status, words) = outcome(&gone);
    assert_eq!((status, gone["retry_count"].as_i64()), ("failed", Some(0)));
    assert!(
        words.contains("`gone/model`") && words.contains("`task_type`"),
        "{words}"
    );
    assert_eq!(fal.wrong(), [""; 0]);
    world.host.stop().await;
}
