//! Checks Kling: how its jobs end, and what its errors mean.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use e2e::document::until_shown;
use e2e::gemini::PIXEL;
use e2e::host::Kind;
use e2e::kling::{self, API_KEY, Call, Course, Fault, Plan};
use e2e::raw::Client;
use e2e::tasks::{World, created, id, outcome};
use serde_json::json;

/// The first of callback, poll and answer completes the task, and nothing changes it afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_video_completes_by_a_callback_a_poll_or_before_its_submission_is_answered() {
    let course = |_, prompt: &str| match prompt {
        "polled" => Course::silent(),
        "early" => Course {
            is_early: true,
            ..Course::default()
        },
        "twice" => Course {
            callbacks: 2,
            ..Course::default()
        },
        "failing" => Course {
            failure: Some("the GPU is on fire"),
            ..Course::default()
        },
        _ => Course::default(),
    };
    let plan = Plan::default().course(course);
    let world = World::start(plan).await;
    let watcher = Client::join(&world.host.address, "p").await;
    let mut ids = Vec::new();
    for prompt in ["called", "polled", "early", "twice", "failing"] {
        ids.push(world.video(prompt).await);
    }
    let params = json!({
        "prompt": "of an image", "image_path": format!("data:image/png;base64,{PIXEL}"), "duration": "10",
        "mode": "pro", "cfg_scale": 0.7, "negative_prompt": "no", "model": "kling-v1-6",
    });
    ids.push(id(&world.posted("kling_video", params).await));
    for id in &ids {
        let done = world.finished(id).await;
        let job = world.kling.job(id).unwrap();
        assert_eq!(done["external_task_id"], job.task_id, "{done}");
        assert_eq!(done["external_service"], "kling");
        assert_eq!(done["retry_count"], 0);
        if job.prompt() == "failing" {
            assert_eq!(done["status"], "failed");
            let message = done["error_message"].as_str().unwrap();
            assert!(message.contains("the GPU is on fire"), "{done}");
        } else {
            assert_eq!(done["status"], "completed", "{done}");
            assert_eq!(done["result_url"], job.result_url());
        }
        let polls = world
            .kling
            .calls()
            .iter()
            .filter(|call| call.name == *id)
            .count()
            - 1;
        assert_eq!(
            polls,
            usize::from(job.prompt() == "polled"),
            "{}",
            job.prompt()
        );
        until_shown(&watcher, &done).await;
        // Callbacks that are repeated, late, or contradict the first one change nothing.
        for _ in 0..2 {
            assert_eq!(world.kling.call_back(id).await, 200);
        }
        let contrary = json!({ "task_id": job.task_id, "status": "failed", "error": "never mind" });
        assert_eq!(
            kling::notify(job.callback_url(), contrary.to_string()).await,
            200
        );
        assert_eq!(world.task(id).await, done);
    }
    let of_an_image = world.kling.job(&ids[5]).unwrap();
    assert_eq!(of_an_image.endpoint, "image2video");
    let mut body = of_an_image.body.clone();
    body.as_object_mut().unwrap().remove("callback_url");
    assert_eq!(
        body,
        json!({
            "model_name": "kling-v1-6", "image": PIXEL, "prompt": "of an image", "negative_prompt": "no",
            "duration": "10", "mode": "pro", "cfg_scale": 0.7, "external_task_id": ids[5],
        })
    );
    assert!(
        world
            .kling
            .called_back()
            .iter()
            .all(|(_, status)| *status == 200)
    );
    assert_eq!(world.kling.repeated(), [""; 0]);
    assert_eq!(world.kling.rejected(), 0);
    assert_eq!(world.kling.jobs().len(), ids.len());
}

/// The answer to the job's submission is lost, and the job does not call back: a poll finds it when it is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_found_when_it_is_done_is_named_in_its_row() {
    let fault = |call: &Call| (call.before == 0).then_some(Fault::DropAfter);
    let course = |_, _: &str| Course::silent();
    let plan = Plan::default().fault(fault).course(course);
    let world = World::start(plan).await;
    let id = world.video("lost").await;
    let done = world.finished(&id).await;
    let job = world.kling.job(&id).unwrap();
    assert_eq!(done["result_url"], job.result_url(), "{done}");
    assert_eq!(done["external_task_id"], job.task_id, "{done}");
    assert_eq!(world.kling.repeated(), [""; 0]);
}

/// Reproduces the report "Our key was being replaced, and every film under way is lost, and charged": an error that
/// concerns a query does not end the job.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_film_under_way_survives_every_error_that_is_not_its_own() {
    let fault = |call: &Call| {
        let about_us = match (call.prompt.as_str(), call.before) {
            (_, 0) => return None,
            ("key", 1) => Fault::Error(401, 1002, "the access key is unknown"),
            ("balance", 1) => Fault::Error(429, 1102, "no balance"),
            ("forbidden", 1) => Fault::Error(403, 1103, "no access"),
            ("proxy", 1) => Fault::Error(403, 0, "authentication required"),
            ("fast", 1) => Fault::TOO_FAST,
            ("broken", 1) => Fault::BROKEN,
            ("garbage", 1) => Fault::Garbage,
            ("early", 1) => Fault::Error(401, 1003, "not yet valid"),
            ("refused", 1) => Fault::REFUSED,
            _ => return None,
        };
        Some(about_us)
    };
    let course = |_, _: &str| Course::silent();
    let plan = Plan::default().fault(fault).course(course);
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
            assert_eq!(outcome(&done).0, "failed", "{done}");
        } else {
            assert_eq!(done["status"], "completed", "{}: {done}", job.prompt());
            assert_eq!(done["result_url"], job.result_url());
        }
    }
    assert_eq!(world.kling.jobs().len(), 9);
    world.host.stop().await;
}

/// Reproduces the report "Our clock was wrong by a minute, and Kling refused every call": films under way were lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_too_early_or_expired_is_made_anew_by_the_clock_of_the_service() {
    let course = |_, _: &str| Course::silent();
    let plan = Plan::default().course(course);
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
        // The submission had such a token, and so had at least one query.
        assert!(world.kling.untimely() >= before + 2);
    }
    assert_eq!(world.kling.rejected(), 0);
    world.host.stop().await;
}

/// Reproduces the report "I made a key in Kling's console today, and there is only one."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_models_of_today_work_and_a_model_that_is_gone_names_its_setting() {
    let world = World::start_with(Kind::Native, Plan::default(), |setup| {
        setup
            .variable("kling_api_key", API_KEY)
            .variable("nano_banana_pro_model", "gone")
    })
    .await;
    let video = world.video("with the API key").await;
    assert_eq!(world.finished(&video).await["status"], "completed");
    assert!(world.kling.with_api_key() > 0);
    assert_eq!(world.kling.calls().len(), world.kling.with_api_key());
    let gone = world.prompted("nano_banana_pro", "x").await;
    let done = world.finished(&gone).await;
    let (status, error) = outcome(&done);
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

/// Reproduces the report "Our new models are of the second API": a video from words, one from a picture, one that fails,
/// and two that only a poll finds; and Kling signs its callbacks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_generation_makes_videos_with_signed_callbacks_and_one_question_for_many() {
    const SECRET: &str = "what Kling signs with";
    let course = |_, prompt: &str| match prompt {
        "called" | "of an image" => Course::default(),
        "failing" => Course {
            failure: Some("the GPU is on fire"),
            ..Course::default()
        },
        _ => Course::silent(),
    };
    let mut plan = Plan::default().course(course);
    plan.secret = Some(SECRET);
    let world = World::start_with(Kind::Native, plan, |setup| {
        let secret = format!("whsec_{}", STANDARD.encode(SECRET));
        setup
            .variable("kling_api_key", API_KEY)
            .variable("kling_webhook_secret", &secret)
    })
    .await;
    let image = format!("data:image/png;base64,{PIXEL}");
    let mut ids = Vec::new();
    for params in [
        json!({ "prompt": "called", "mode": "4k", "sound": "on", "duration": 15, "aspect_ratio": "1:1" }),
        json!({ "prompt": "of an image", "image_path": image, "image_tail": image }),
        json!({ "prompt": "failing" }),
        json!({ "prompt": "polled 1" }),
        json!({ "prompt": "polled 2" }),
    ] {
        let mut params = params;
        params["model"] = json!("kling-3.0");
        ids.push(id(&world.posted("kling_video", params).await));
    }
    for id in &ids {
        let done = world.finished(id).await;
        let job = world.kling.job(id).unwrap();
        assert_eq!(job.model.as_deref(), Some("kling-3.0"));
        assert_eq!(done["external_task_id"], job.task_id, "{done}");
        if job.prompt() == "failing" {
            let (status, error) = outcome(&done);
            assert_eq!((status, error), ("failed", "Kling: the GPU is on fire"));
        } else {
            assert_eq!(done["result_url"], job.result_url(), "{done}");
            let told = done["result_data"].as_str().unwrap();
            let told: serde_json::Value = serde_json::from_str(told).unwrap();
            assert_eq!(told["cost"][0]["amount"], "2", "{done}");
        }
        // A callback that is late, repeated, or not signed changes nothing.
        assert_eq!(world.kling.call_back(id).await, 200);
        let body = job.data().to_string();
        assert_eq!(kling::notify(job.callback_url(), body).await, 401);
        assert_eq!(world.task(id).await, done);
    }
    assert!(
        world
            .kling
            .called_back()
            .iter()
            .all(|(_, status)| *status == 200)
    );
    // A refused callback leaves the end to a poll.
    let late = id(&world
        .posted(
            "kling_video",
            json!({ "prompt": "polled 3", "model": "kling-3.0" }),
        )
        .await);
    world.accepted(&late).await;
    let job = world.kling.finish(&late);
    let body = job.data().to_string();
    let url = job.callback_url();
    assert_eq!(kling::notify_signed(url, SECRET, 360, &body).await, 401);
    assert_eq!(world.finished(&late).await["status"], "completed");
    assert_eq!(kling::notify_signed(url, SECRET, 290, &body).await, 200);
    // Kling's console sends its test to the bare address.
    let (bare, _) = url.split_once('?').unwrap();
    let test = json!({ "id": "1", "status": "submitted", "outputs": [] }).to_string();
    assert_eq!(kling::notify_signed(bare, SECRET, 0, &test).await, 200);
    assert_eq!(kling::notify(bare, test).await, 401);
    assert_eq!(world.kling.repeated(), [""; 0]);
    assert_eq!(world.kling.rejected(), 0);
    world.host.stop().await;
}
