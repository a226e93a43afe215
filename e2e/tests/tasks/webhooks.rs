//! Checks webhooks: which callbacks of a service the app believes, and what they may bring.

use e2e::document::entry;
use e2e::elsewhere::max_body_mib;
use e2e::kling::{self, Plan};
use e2e::raw::Client;
use e2e::sign;
use e2e::tasks::{ROUNDS, WEBHOOK_KEY, World, outcome};
use e2e::wait::until_within;
use http::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callback_is_believed_only_with_the_signature_of_its_address() {
    let world = World::start(Plan::until_told()).await;
    let http = world.host.http();
    let task_id = world.video("one").await;
    let before = world.accepted(&task_id).await;
    let job = world.kling.finish(&task_id);
    let (_, signature) = job.callback_url().split_once("&signature=").unwrap();
    assert_eq!(signature, sign::callback(WEBHOOK_KEY, "kling", &task_id));
    let reported = job.data();
    let call = async |path: &str, body: &str| {
        let headers = [("content-type", "application/json")];
        http.send(Method::POST, path, &headers, body.to_owned().into())
            .await
    };
    let native = reported.to_string();

    let unknown = "task_1_unknown";
    for path in [
        "/webhooks/kling".to_owned(),
        format!("/webhooks/kling?job={task_id}"),
        format!("/webhooks/kling?job={task_id}&signature="),
        format!("/webhooks/kling?job={task_id}&signature={}", "0".repeat(64)),
        format!("/webhooks/kling?job={unknown}&signature={signature}"),
        format!("/webhooks/gemini?job={task_id}&signature={signature}"),
        format!("/webhooks/kling?job={unknown}&signature="),
    ] {
        call(&path, &native)
            .await
            .assert_problem(401, "bad-signature");
        // The signature is checked before the body is read.
        call(&path, "garbage")
            .await
            .assert_problem(401, "bad-signature");
    }
    let signed = |service: &str, job: &str| {
        let signature = sign::callback(WEBHOOK_KEY, service, job);
        format!("/webhooks/{service}?job={job}&signature={signature}")
    };
    call(&signed("weather", &task_id), &native)
        .await
        .assert_problem(404, "not-found");
    call(&signed("kling", unknown), &native)
        .await
        .assert_problem(404, "not-found");
    // The signature is right, but the task is another service's.
    let gemini = json!({ "task_id": task_id, "status": "success", "result_url": "https://a/b" });
    call(&signed("gemini", &task_id), &gemini.to_string())
        .await
        .assert_problem(404, "not-found");
    let right = signed("kling", &task_id);
    for garbage in [
        "",
        "garbage",
        "[]",
        "{}",
        "{\"task_status\":7}",
        "{\"task_id\":\"x\",\"status\":\"perhaps\"}",
    ] {
        call(&right, garbage)
            .await
            .assert_problem(400, "bad-request");
    }
    let mut others = reported.clone();
    others["task_id"] = json!("another");
    call(&right, &others.to_string())
        .await
        .assert_problem(404, "not-found");
    assert_eq!(http.get("/webhooks/kling").await.status, 405);
    assert_eq!(world.task(&task_id).await, before);

    let running = json!({ "task_id": job.task_id, "status": "processing" });
    assert_eq!(call(&right, &running.to_string()).await.status, 200);
    assert_eq!(world.task(&task_id).await["status"], "processing");
    let plain =
        json!({ "task_id": job.task_id, "status": "success", "result_url": "https://a/b.mp4" });
    assert_eq!(call(&right, &plain.to_string()).await.status, 200);
    let done = world.task(&task_id).await;
    assert_eq!(done["status"], "completed");
    assert_eq!(done["result_url"], "https://a/b.mp4");
    // Kling's own report comes too late.
    assert_eq!(call(&right, &native).await.status, 200);
    assert_eq!(world.task(&task_id).await, done);

    let failing = world.video("two").await;
    world.accepted(&failing).await;
    let failed = json!({ "task_id": failing, "status": "failed", "error": "no luck" });
    assert_eq!(
        call(&signed("kling", &failing), &failed.to_string())
            .await
            .status,
        200
    );
    let done = world.task(&failing).await;
    assert_eq!(
        (&done["status"], &done["error_message"]),
        (&json!("failed"), &json!("no luck"))
    );
}

/// Reproduces the report "Since that film failed, our canvas does not open any more."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_11_mb_in_a_callback_leaves_the_room_readable() {
    let world = World::start(Plan::until_told()).await;
    let http = world.host.http();
    let video = world.video("wordy").await;
    world.accepted(&video).await;
    let job = world.kling.job(&video).unwrap();
    let mib = max_body_mib().map_or(11, |most| most - 1);
    let error = "\u{e9}".repeat(mib << 19);
    let told = json!({ "task_id": job.task_id, "status": "failed", "error": error });
    assert_eq!(
        kling::notify(job.callback_url(), told.to_string()).await,
        200
    );
    let done = world.finished(&video).await;
    assert_eq!(outcome(&done), ("failed", "\u{e9}".repeat(500).as_str()));

    // A script or a megabyte of text is not the address of a film.
    for (address, words) in [
        ("javascript:alert(1)".to_owned(), "not an http(s) URL"),
        (
            format!("https://a.example/{}", "x".repeat(mib << 20)),
            "bytes",
        ),
    ] {
        let video = world.video(words).await;
        world.accepted(&video).await;
        let job = world.kling.job(&video).unwrap();
        let told = json!({ "task_id": job.task_id, "status": "success", "result_url": address });
        assert_eq!(
            kling::notify(job.callback_url(), told.to_string()).await,
            200
        );
        let done = world.finished(&video).await;
        assert_eq!(done["status"], "failed");
        assert!(outcome(&done).1.contains(words), "{done}");
    }
    // A result that comes inline is kept, and gets an address.
    let inline = world.video("inline").await;
    world.accepted(&inline).await;
    let job = world.kling.job(&inline).unwrap();
    let url = "data:video/mp4;base64,AAECAw==";
    let told = json!({ "task_id": job.task_id, "status": "success", "result_url": url });
    assert_eq!(
        kling::notify(job.callback_url(), told.to_string()).await,
        200
    );
    let done = world.finished(&inline).await;
    let path = world.asset_path(&done);
    // A page that knows the address alone shows a film, and not a picture.
    assert!(path.ends_with(".mp4"), "{path}");
    let asset = http.get(&path).await;
    assert_eq!(asset.header("content-type"), "video/mp4");
    assert_eq!(asset.body, [0, 1, 2, 3].as_slice());

    let client = Client::join(&world.host.address, "p").await;
    until_within(ROUNDS, "the errors in the document", async || {
        entry(&client, &video)["error"] == "\u{e9}".repeat(500)
            && entry(&client, &inline)["status"] == "completed"
    })
    .await;
    let whole = http.get("/sync/p").await;
    assert_eq!(whole.status, 200);
    assert!(whole.body.len() < 100_000, "{}", whole.body.len());
    world.host.stop().await;
}
