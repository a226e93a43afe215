//! What loses work, money or a room when services, clocks and instances fail: each as a user would say it.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use e2e::gemini::{Gemini, LARGE};
use e2e::host::{Host, Kind, Setup};
use e2e::kling::{self, API_KEY, Call, Course, Fault, Kling, Plan};
use e2e::raw::Client;
use e2e::tasks::{ROUNDS, World, created, entry, id, post, setup};
use e2e::wait::until_within;
use futures_util::future::join_all;
use http::Method;
use rusqlite::Connection;
use serde_json::{Value, json};

/// A host with the settings of this one's services and more.
async fn world_with(plan: Plan, more: impl FnOnce(Setup) -> Setup) -> World {
    let (kling, gemini) = (Kling::start(plan).await, Gemini::start().await);
    let host = more(setup(Kind::Native, &kling, &gemini)).start().await;
    World {
        host,
        kling,
        gemini,
    }
}

/// Changes rows behind the app's back.
fn sql(host: &Host, sql: &str) -> usize {
    let rows = Connection::open(host.database()).unwrap();
    rows.busy_timeout(Duration::from_secs(5)).unwrap();
    rows.execute(sql, []).unwrap()
}

async fn deed(world: &World, id: &str, deed: &str) -> Value {
    let path = format!("/tasks/{id}/{deed}");
    let answer = post(&world.host.http(), &path, &[], &json!({})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn ended(task: &Value) -> (&str, &str) {
    let text = |name: &str| task[name].as_str().unwrap_or_default();
    (text("status"), text("error_message"))
}

/// "We paid for 254 pictures and got 8": the service was away for a moment, so that all are due in one round, and what
/// it answers together fills the memory of several instances.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_that_are_due_at_once_are_each_paid_for_once() {
    const PICTURES: usize = 30;
    let world = World::start(Plan::default()).await;
    let ids = join_all((0..PICTURES).map(async |n| {
        let prompt = format!("busy-first large {n}");
        id(&world
            .posted("nano_banana", json!({ "prompt": prompt }))
            .await)
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

/// "Our key was being replaced, and every film that was under way is gone, and charged": whatever goes wrong with a
/// question about a job, the job goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_film_that_is_under_way_survives_all_that_concerns_us_and_not_it() {
    let fault = |call: &Call| {
        let about_us = match (call.prompt.as_str(), call.before) {
            (_, 0) => return None,
            ("key", 1) => Fault::Error(401, 1002, "the access key is unknown"),
            ("balance", 1) => Fault::Error(429, 1102, "no balance"),
            ("forbidden", 1) => Fault::Error(403, 1103, "no access"),
            ("proxy", 1) => Fault::Error(403, 0, "who are you?"),
            ("fast", 1) => Fault::TOO_FAST,
            ("broken", 1) => Fault::BROKEN,
            ("garbage", 1) => Fault::Garbage,
            ("early", 1) => Fault::Error(401, 1003, "not yet valid"),
            ("refused", 1) => Fault::REFUSED,
            _ => return None,
        };
        Some(about_us)
    };
    let course = |_, _: &str| Course {
        callbacks: 0,
        ..Course::default()
    };
    let plan = Plan {
        fault: Box::new(fault),
        course: Box::new(course),
    };
    let world = World::start(plan).await;
    let post = async |prompt: &str| {
        let body = json!({
            "project_id": "p", "task_type": "kling_video", "params": { "prompt": prompt }, "max_retries": 0
        });
        id(&created(&world.host.http(), &body).await)
    };
    for prompt in [
        "key",
        "balance",
        "forbidden",
        "proxy",
        "fast",
        "broken",
        "garbage",
        "early",
    ] {
        post(prompt).await;
    }
    let refused = post("refused").await;
    for job in world.kling.jobs() {
        let done = world.finished(&job.external_task_id).await;
        if job.external_task_id == refused {
            assert_eq!(ended(&done).0, "failed", "{done}");
        } else {
            assert_eq!(done["status"], "completed", "{}: {done}", job.prompt());
            assert_eq!(done["result_url"], job.result_url());
        }
    }
    assert_eq!(world.kling.jobs().len(), 9);
    world.host.stop().await;
}

/// "I clicked on retry and paid twice."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_pays_for_a_second_film_only_if_the_first_one_failed() {
    let course = |number, prompt: &str| Course {
        duration: match prompt {
            "running" => kling::UNTIL_TOLD,
            _ => Duration::ZERO,
        },
        callbacks: 0,
        failure: (prompt == "failing" && number == 0).then_some("the GPU is on fire"),
        is_early: false,
    };
    let plan = Plan {
        course: Box::new(course),
        ..Plan::default()
    };
    let world = World::start(plan).await;
    let failing = world.video("failing").await;
    assert_eq!(world.finished(&failing).await["status"], "failed");
    let running = world.video("running").await;
    let accepted = |task: &Value| task["external_task_id"].is_string();
    world.task_until(&running, accepted).await;
    deed(&world, &running, "cancel").await;
    assert_eq!(world.kling.jobs().len(), 2);

    deed(&world, &failing, "retry").await;
    let done = world.finished(&failing).await;
    assert_eq!(done["status"], "completed", "{done}");
    let jobs = world.kling.jobs();
    assert_eq!(jobs.len(), 3, "a failed job is begun anew");
    assert_eq!(done["result_url"], jobs[2].result_url());

    deed(&world, &running, "retry").await;
    let again = world.task_until(&running, accepted).await;
    assert_eq!(again["external_task_id"], jobs[1].task_id);
    // Its callback has the address of the first run.
    let job = world.kling.finish(&running);
    assert_eq!(world.kling.call_back(&running).await, 200);
    let done = world.finished(&running).await;
    assert_eq!(done["result_url"], job.result_url(), "{done}");
    assert_eq!(world.kling.jobs().len(), 3, "a running job is gone on with");
    assert_eq!(world.kling.repeated(), [""; 0]);
    world.host.stop().await;
}

/// "Our clock was wrong by a minute, and Kling took nothing any more", and what was under way was lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_too_early_or_expired_is_made_anew_by_the_clock_of_the_service() {
    let course = |_, _: &str| Course {
        callbacks: 0,
        ..Course::default()
    };
    let plan = Plan {
        course: Box::new(course),
        ..Plan::default()
    };
    let world = World::start(plan).await;
    for ahead in [-60, 3600] {
        world.kling.set_clock(ahead);
        let before = world.kling.untimely();
        let id = world
            .video(&format!("a clock that is {ahead} s ahead"))
            .await;
        let done = world.finished(&id).await;
        assert_eq!(done["status"], "completed", "{done}");
        assert_eq!(done["retry_count"], 0);
        // The submission, and a question at least.
        assert!(world.kling.untimely() >= before + 2);
    }
    assert_eq!(world.kling.strangers(), 0);
    world.host.stop().await;
}

/// "I made a key in Kling's console today, and there is only one."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_models_of_today_work_and_a_model_that_is_gone_names_its_setting() {
    let world = world_with(Plan::default(), |setup| {
        setup
            .variable("kling_api_key", API_KEY)
            .variable("nano_banana_pro_model", "gone")
    })
    .await;
    let video = world.video("with the API key").await;
    assert_eq!(world.finished(&video).await["status"], "completed");
    assert!(world.kling.with_api_key() > 0);
    assert_eq!(world.kling.calls().len(), world.kling.with_api_key());
    let gone = world
        .posted("nano_banana_pro", json!({ "prompt": "x" }))
        .await;
    let done = world.finished(&id(&gone)).await;
    let (status, error) = ended(&done);
    assert_eq!(status, "failed");
    for word in [
        "`gone`",
        "`nano_banana_pro_model`",
        "SPIN_VARIABLE_NANO_BANANA_PRO_MODEL",
    ] {
        assert!(error.contains(word), "{error}");
    }
    world.host.stop().await;
}

/// "The clock was a day ahead for a while, and my tasks stand still until tomorrow."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_go_on_after_the_clock_was_set_back() {
    let fault = |call: &Call| (call.prompt == "busy" && call.before < 2).then_some(Fault::TOO_FAST);
    let course = |_, _: &str| Course {
        callbacks: 0,
        duration: Duration::from_secs(1),
        ..Course::default()
    };
    let plan = Plan {
        fault: Box::new(fault),
        course: Box::new(course),
    };
    let world = World::start(plan).await;
    let (polled, busy) = (world.video("polled").await, world.video("busy").await);
    world
        .task_until(&polled, |task| task["external_task_id"].is_string())
        .await;
    world
        .task_until(&busy, |task| task["retry_count"] == 1)
        .await;
    // As if these times had been set by a clock that was a day ahead.
    let changed = sql(
        &world.host,
        "UPDATE aigc_tasks SET next_attempt_at = next_attempt_at + 86400, lease_until = lease_until + 86400
          WHERE completed_at IS NULL",
    );
    assert!(changed > 0, "they have ended already");
    for id in [&polled, &busy] {
        assert_eq!(world.finished(id).await["status"], "completed");
    }
    assert_eq!(world.kling.repeated(), [""; 0]);
    world.host.stop().await;
}

/// "Nobody can open our canvas any more since that film failed."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_11_mb_in_a_callback_leaves_the_room_readable() {
    let world = World::start(Plan::until_told()).await;
    let http = world.host.http();
    let video = world.video("wordy").await;
    world
        .task_until(&video, |task| task["external_task_id"].is_string())
        .await;
    let job = world.kling.job(&video).unwrap();
    let error = "\u{e9}".repeat(11 << 19);
    let told = json!({ "task_id": job.task_id, "status": "failed", "error": error });
    assert_eq!(kling::tell(job.callback_url(), told.to_string()).await, 200);
    let done = world.finished(&video).await;
    assert_eq!(ended(&done), ("failed", "\u{e9}".repeat(500).as_str()));

    // Neither a script nor a page of text is the address of a film.
    for (address, words) in [
        ("javascript:alert(1)".to_owned(), "no http(s) URL"),
        (
            format!("https://a.example/{}", "x".repeat(11 << 20)),
            "bytes",
        ),
    ] {
        let video = world.video(words).await;
        world
            .task_until(&video, |task| task["external_task_id"].is_string())
            .await;
        let job = world.kling.job(&video).unwrap();
        let told = json!({ "task_id": job.task_id, "status": "success", "result_url": address });
        assert_eq!(kling::tell(job.callback_url(), told.to_string()).await, 200);
        let done = world.finished(&video).await;
        assert_eq!(done["status"], "failed");
        assert!(ended(&done).1.contains(words), "{done}");
    }
    // A result that comes inline is kept, and has an address.
    let inline = world.video("inline").await;
    world
        .task_until(&inline, |task| task["external_task_id"].is_string())
        .await;
    let job = world.kling.job(&inline).unwrap();
    let url = "data:video/mp4;base64,AAECAw==";
    let told = json!({ "task_id": job.task_id, "status": "success", "result_url": url });
    assert_eq!(kling::tell(job.callback_url(), told.to_string()).await, 200);
    let done = world.finished(&inline).await;
    let url = done["result_url"].as_str().unwrap();
    let path = url.strip_prefix(&format!("http://{}", world.host.address));
    let asset = http.get(path.unwrap()).await;
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

/// "There was a log-in form at our own address": what a service says a result is, a browser does not get to believe.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_is_a_picture_or_a_file_and_never_a_page() {
    let world = World::start(Plan::default()).await;
    let http = world.host.http();
    let mut paths = Vec::new();
    for (told, served) in [
        ("text/html", None),
        ("text/html; charset=utf-8", None),
        ("image/png\r\nset-cookie: a=b", None),
        ("image/", None),
        ("", None),
        ("application/pdf", None),
        ("IMAGE/PNG; x=y", Some("image/png")),
        ("image/svg+xml", Some("image/svg+xml")),
        ("video/mp4", Some("video/mp4")),
        ("audio/wav", Some("audio/wav")),
    ] {
        let prompt = format!("a picture as {told}");
        let task = id(&world
            .posted("nano_banana", json!({ "prompt": prompt }))
            .await);
        let done = world.finished(&task).await;
        assert_eq!(done["status"], "completed", "{told:?}: {done}");
        let url = done["result_url"].as_str().unwrap();
        let path = url.strip_prefix(&format!("http://{}", world.host.address));
        paths.push((path.unwrap().to_owned(), told, served));
    }
    let check = async |path: &str, told: &str, served: Option<&str>| {
        for method in [Method::GET, Method::HEAD] {
            let asset = http.send(method, path, &[], Vec::new().into()).await;
            assert_eq!(asset.status, 200, "{told:?}: {asset:?}");
            let media_type = served.unwrap_or("application/octet-stream");
            assert_eq!(asset.header("content-type"), media_type, "{told:?}");
            let disposition = if served.is_some() { "" } else { "attachment" };
            assert_eq!(asset.header("content-disposition"), disposition, "{told:?}");
            assert_eq!(asset.header("x-content-type-options"), "nosniff");
            // A drawing that is opened by itself runs no scripts.
            let policy = asset.header("content-security-policy");
            assert!(
                policy.contains("sandbox") && policy.contains("default-src 'none'"),
                "{policy}"
            );
            assert_eq!(asset.header("set-cookie"), "");
        }
    };
    for (path, told, served) in &paths {
        check(path, told, *served).await;
    }
    // As an earlier release stored them.
    for told in ["text/html", "image/png\r\nset-cookie: a=b", "video/mp4\n"] {
        let changed = sql(
            &world.host,
            &format!("UPDATE assets SET media_type = '{told}'"),
        );
        assert_eq!(changed, paths.len());
        let served = (told == "video/mp4\n").then_some("video/mp4");
        check(&paths[0].0, told, served).await;
    }
    world.host.stop().await;
}
