//! Tasks: posted by agents, done by services that are made up, shown in documents.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use e2e::agent::{self, Agent};
use e2e::both_relays;
use e2e::gemini::PIXEL;
use e2e::http::Http;
use e2e::kling::{self, Course, Fault, Plan, UNTIL_TOLD};
use e2e::raw::{Client, converged};
use e2e::sign;
use e2e::tasks::{ROUNDS, WEBHOOK_KEY, World, created, entry, id, keys, node, post, shown, task};
use e2e::wait::{until, until_within};
use futures_util::future::join_all;
use http::Method;
use loro::LoroMap;
use serde_json::{Value, json};
use tokio::time::sleep;

/// The fields that a 422 finds wrong.
fn wrong_fields(answer: &e2e::http::Answer) -> Vec<String> {
    answer.assert_problem(422, "invalid-fields");
    let errors = answer.json()["errors"].as_array().unwrap().clone();
    let field = |error: &Value| {
        assert!(!error["message"].as_str().unwrap().is_empty(), "{error}");
        error["field"].as_str().unwrap().to_owned()
    };
    errors.iter().map(field).collect()
}

/// Makes a node that is a map of its own, with its data another.
async fn nested_node(client: &Client, key: &str, task_id: Option<&str>) {
    client
        .edit(|doc| {
            let node = doc
                .get_map("nodes")
                .insert_container(key, LoroMap::new())
                .unwrap();
            node.insert("x", 0).unwrap();
            let data = node.insert_container("data", LoroMap::new()).unwrap();
            data.insert("label", "kept").unwrap();
            if let Some(task_id) = task_id {
                data.insert("taskId", task_id).unwrap();
            }
        })
        .await;
}

/// Makes a node that is one plain value.
async fn plain_node(client: &Client, key: &str, task_id: &str) {
    let node = json!({ "x": 1, "data": { "label": "kept", "taskId": task_id } });
    client
        .edit(|doc| doc.get_map("nodes").insert(key, node).unwrap())
        .await;
}

/// Waits until a client's document shows a task as its row is.
async fn until_shown(client: &Client, task: &Value) {
    let task_id = task["task_id"].as_str().unwrap();
    let what = format!("{task} in the document");
    until_within(ROUNDS, &what, async || {
        keys(&entry(client, task_id)) == shown(task)
    })
    .await;
}

both_relays! {
    async fn a_task_ends_in_its_row_and_in_every_document(relay: Kind) {
        let world = World::start_with(relay, Plan::default()).await;
        let http = world.host.http();
        let watcher = Client::join(&world.host.address, "p").await;
        let owner = Client::join(&world.host.address, "p").await;
        let params = json!({ "prompt": "a <hill>", "seconds": 2 });
        let body = json!({
            "project_id": "p", "task_type": "demo", "params": params, "node_id": "by-node-id"
        });
        let answer = post(&http, "/tasks", &[], &body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let posted = answer.json();
        let id = id(&posted);
        assert_eq!(answer.header("location"), format!("/tasks/{id}"));
        let created_at = posted["created_at"].as_i64().unwrap();
        assert_eq!(posted, json!({"task_id": id, "status": "pending", "created_at": created_at}));
        assert!(id.starts_with(&format!("task_{created_at}_")), "{id}");
        nested_node(&owner, "nested", Some(&id)).await;
        nested_node(&owner, "by-node-id", None).await;
        plain_node(&owner, "plain", &id).await;
        nested_node(&owner, "another's", Some("task_1_a")).await;

        let done = world.finished(&id).await;
        let completed_at = done["completed_at"].as_i64().unwrap();
        let url = done["result_url"].as_str().unwrap();
        assert!((created_at..created_at + 60).contains(&completed_at), "{done}");
        let external = done["external_task_id"].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Value>(done["params"].as_str().unwrap()).unwrap(), params);
        assert_eq!(done, json!({
            "task_id": id, "project_id": "p", "task_type": "demo", "status": "completed",
            "external_task_id": external, "external_service": "demo", "params": done["params"],
            "result_url": url, "result_data": "{\"prompt\":\"a <hill>\"}", "error_message": null,
            "created_at": created_at, "updated_at": completed_at, "completed_at": completed_at,
            "retry_count": 0, "max_retries": 3,
        }));

        for client in [&watcher, &owner] {
            until_shown(client, &done).await;
            for key in ["nested", "by-node-id", "plain"] {
                let what = format!("the result in node {key}");
                client.until(&what, |client| {
                    keys(&node(client, key)["data"]) == [json!("completed"), json!(url), Value::Null]
                })
                .await;
                assert_eq!(node(client, key)["data"]["label"], "kept");
                assert!(node(client, key)["x"].is_number());
            }
            assert_eq!(entry(client, &id)["task_type"], "demo");
            assert_eq!(entry(client, &id)["node_id"], "by-node-id");
            assert_eq!(keys(&node(client, "another's")["data"]), [Value::Null, Value::Null, Value::Null]);
        }

        let path = url.strip_prefix(&format!("http://{}", world.host.address)).unwrap();
        let asset = http.get(path).await;
        assert_eq!(asset.status, 200, "{asset:?}");
        assert_eq!(asset.header("content-type"), "image/svg+xml");
        assert_eq!(asset.header("content-length"), asset.body.len().to_string());
        assert_eq!(asset.header("cache-control"), "private, max-age=31536000, immutable");
        assert_eq!(asset.header("accept-ranges"), "bytes");
        assert!(asset.text().starts_with("<svg") && asset.text().contains("a &lt;hill&gt;"));
        let tag = asset.header("etag");
        assert!(tag.starts_with('"'), "{tag}");
        let same = http.get_with(path, &[("if-none-match", tag)]).await;
        assert_eq!((same.status.as_u16(), same.body.len(), same.header("etag")), (304, 0, tag));
        let length = asset.body.len();
        for (range, part) in [
            ("bytes=0-9", 0..10),
            ("bytes=5-", 5..length),
            ("bytes=-7", length - 7..length),
            ("bytes=1-999999", 1..length),
        ] {
            let answer = http.get_with(path, &[("range", range)]).await;
            assert_eq!(answer.status, 206, "{range}: {answer:?}");
            let told = format!("bytes {}-{}/{length}", part.start, part.end - 1);
            assert_eq!(answer.header("content-range"), told);
            assert_eq!(answer.body, asset.body[part], "{range}");
        }
        let beyond = http.get_with(path, &[("range", "bytes=999999-")]).await;
        beyond.assert_problem(416, "range-not-satisfiable");
        assert_eq!(beyond.header("content-range"), format!("bytes */{length}"));
        let head = http.send(Method::HEAD, path, &[], Bytes::new()).await;
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), length.to_string());
        http.get("/assets/none").await.assert_problem(404, "not-found");
        world.host.stop().await;
    }

    /// One client moves a node all the time, from before its task is posted to after its end.
    async fn a_node_that_is_dragged_gets_its_result_and_stays_where_it_was_put(relay: Kind) {
        let world = World::start_with(relay, Plan::default()).await;
        let dragger = Client::join(&world.host.address, "p").await;
        let watcher = Client::join(&world.host.address, "p").await;
        let params = json!({ "prompt": "dragged", "seconds": 1 });
        let id = id(&world.posted("demo", params).await);
        nested_node(&dragger, "n", Some(&id)).await;
        let start = Instant::now();
        let (mut x, mut after) = (0_i64, 0);
        while after < 30 {
            assert!(start.elapsed() < ROUNDS, "no result");
            x += 1;
            dragger
                .edit(|doc| {
                    let node = doc.get_map("nodes").get("n").unwrap().into_container().unwrap();
                    node.into_map().unwrap().insert("x", x).unwrap();
                })
                .await;
            after += u32::from(node(&watcher, "n")["data"]["status"] == "completed");
            sleep(Duration::from_millis(5)).await;
        }
        let done = world.finished(&id).await;
        for client in [&dragger, &watcher] {
            client.until("the last position", |client| node(client, "n")["x"] == x).await;
        }
        converged("after a drag", &[&dragger, &watcher]).await;
        assert_eq!(keys(&node(&watcher, "n")["data"]), shown(&done));
        assert_eq!(done["status"], "completed");
    }

    async fn seven_agents_at_the_same_instant_all_get_their_results(relay: Kind) {
        const AGENTS: usize = 7;
        let world = World::start_with(relay, Plan::default()).await;
        let watcher = Client::join(&world.host.address, "p").await;
        let agents =
            join_all((0..AGENTS).map(|_| Client::join_with_events(&world.host.address, "p"))).await;
        for agent in &agents {
            agent.event("synced").await;
        }
        let world = &world;
        let ids = join_all(agents.iter().enumerate().map(|(n, agent)| async move {
            let params = json!({ "prompt": format!("agent {n}"), "seconds": 0 });
            let id = id(&world.posted("demo", params).await);
            nested_node(agent, &format!("n{n}"), Some(&id)).await;
            id
        }))
        .await;
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), AGENTS);
        for (n, id) in ids.iter().enumerate() {
            let done = world.finished(id).await;
            assert_eq!(done["status"], "completed");
            for client in agents.iter().chain([&watcher]) {
                until_shown(client, &done).await;
                client.until("the result in its node", |client| {
                    keys(&node(client, &format!("n{n}"))["data"]) == shown(&done)
                })
                .await;
            }
        }
    }

    async fn a_change_is_waited_for(relay: Kind) {
        let world = World::start_with(relay, Plan::until_told()).await;
        let http = world.host.http();
        let id = world.video("slow").await;
        world.task_until(&id, |task| task["external_task_id"].is_string()).await;
        let path = format!("/tasks/{id}");
        let now = http.get(&path).await;
        let tag = now.header("etag").to_owned();
        let same = http.get_with(&format!("{path}?wait=1"), &[("if-none-match", &tag)]).await;
        assert_eq!((same.status.as_u16(), same.body.len()), (304, 0));

        let waiting = {
            let (http, path, tag) = (http.clone(), format!("{path}?wait=25"), tag.clone());
            tokio::spawn(async move { http.get_with(&path, &[("if-none-match", &tag)]).await })
        };
        sleep(Duration::from_millis(500)).await;
        assert!(!waiting.is_finished());
        world.kling.finish(&id);
        let start = Instant::now();
        assert_eq!(world.kling.call_back(&id).await, 200);
        let changed = waiting.await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert_eq!(changed.json()["status"], "completed");
        assert_ne!(changed.header("etag"), tag);
        // It is finished: there is nothing to wait for.
        let start = Instant::now();
        let finished = http.get(&format!("{path}?wait=30")).await;
        assert_eq!(finished.json(), changed.json());
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        for nonsense in ["51", "-1", "soon"] {
            http.get(&format!("{path}?wait={nonsense}")).await.assert_problem(400, "bad-request");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_request_is_one_task() {
    let world = World::start(Plan::default()).await;
    let http = world.host.http();
    let body =
        json!({ "project_id": "p", "task_type": "kling_video", "params": { "prompt": "one" } });
    let key = [("idempotency-key", "k-1")];
    let again: Vec<_> = join_all((0..8).map(|_| post(&http, "/tasks", &key, &body))).await;
    let ids: BTreeSet<String> = again
        .iter()
        .map(|answer| {
            assert_eq!(answer.status, 201, "{answer:?}");
            id(&answer.json())
        })
        .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let id = ids.first().unwrap();
    let done = world.finished(id).await;
    let answer = post(&http, "/tasks", &key, &body).await;
    assert_eq!(answer.status, 201);
    let expected = json!({"task_id": id, "status": "completed", "created_at": done["created_at"]});
    assert_eq!(answer.json(), expected);
    let other =
        json!({ "project_id": "p", "task_type": "kling_video", "params": { "prompt": "two" } });
    post(&http, "/tasks", &key, &other)
        .await
        .assert_problem(409, "idempotency-conflict");
    assert_ne!(
        self::id(&post(&http, "/tasks", &[], &body).await.json()),
        *id
    );
    for bad in ["", "with space", &"k".repeat(256)] {
        let answer = post(&http, "/tasks", &[("idempotency-key", bad)], &body).await;
        answer.assert_problem(400, "bad-request");
    }
    assert_eq!(world.kling.repeated(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_task_is_said_field_by_field() {
    let world = World::start(Plan::default()).await;
    let http = world.host.http();
    for body in ["", "nonsense", "[]", "\"task\"", "null"] {
        let headers = [("content-type", "application/json")];
        let answer = http
            .send(Method::POST, "/tasks", &headers, body.into())
            .await;
        answer.assert_problem(400, "bad-request");
    }
    let video =
        |params: Value| json!({"project_id": "p", "task_type": "kling_video", "params": params});
    let image =
        |params: Value| json!({"project_id": "p", "task_type": "nano_banana", "params": params});
    let cases = [
        (json!({}), vec!["project_id", "task_type"]),
        (
            json!({ "project_id": "a/b", "task_type": "sculpture", "params": {} }),
            vec!["project_id", "task_type"],
        ),
        (
            json!({
                "project_id": 7, "task_type": "demo", "params": { "prompt": 1 },
                "max_retries": 1.5, "callback_url": "http://10.0.0.1/", "node_id": [],
            }),
            vec![
                "project_id",
                "max_retries",
                "callback_url",
                "node_id",
                "params.prompt",
            ],
        ),
        (
            json!({ "project_id": "p", "task_type": "demo", "params": "x" }),
            vec!["params", "params.prompt"],
        ),
        (video(json!({})), vec!["params.prompt"]),
        (
            video(json!({
                "prompt": "", "duration": 7, "mode": "fast", "cfg_scale": 2, "model": 1,
                "aspect_ratio": "2:1", "negative_prompt": 3,
            })),
            vec![
                "params.prompt",
                "params.duration",
                "params.mode",
                "params.cfg_scale",
                "params.model",
                "params.aspect_ratio",
                "params.negative_prompt",
            ],
        ),
        (
            video(json!({ "image_path": "/home/me/a.png" })),
            vec!["params.image_path"],
        ),
        (
            video(json!({ "image_path": "http://192.168.0.1/a.png" })),
            vec!["params.image_path"],
        ),
        (
            video(json!({ "image_path": PIXEL, "image_tail": "??" })),
            vec!["params.image_tail"],
        ),
        (
            image(json!({
                "text": "t", "image_size": "2K", "aspect_ratio": "x",
                "reference_image_urls": ["https://example.com/a.png", "http://127.0.0.1/a.png", "http://[::1]/"],
                "base64_images": ["AAAA"],
            })),
            vec![
                "params.image_size",
                "params.aspect_ratio",
                "params.reference_image_urls[1]",
                "params.reference_image_urls[2]",
                "params.base64_images[0]",
            ],
        ),
    ];
    for (body, expected) in cases {
        let mut wrong = wrong_fields(&post(&http, "/tasks", &[], &body).await);
        let mut expected = expected;
        wrong.sort();
        expected.sort_unstable();
        assert_eq!(wrong, expected, "{body}");
    }
    assert_eq!(
        http.get("/tasks").await.json(),
        json!({"tasks": [], "next_cursor": null})
    );
    http.get("/tasks/task_1_none")
        .await
        .assert_problem(404, "not-found");
    for deed in ["cancel", "retry"] {
        let path = format!("/tasks/task_1_none/{deed}");
        post(&http, &path, &[], &json!({}))
            .await
            .assert_problem(404, "not-found");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_not_finished_is_cancelled_and_only_what_did_not_work_is_retried() {
    let course = |_, prompt: &str| Course {
        duration: if prompt == "slow" {
            UNTIL_TOLD
        } else {
            Duration::ZERO
        },
        ..Course::default()
    };
    let plan = Plan {
        course: Box::new(course),
        ..Plan::default()
    };
    let world = World::start(plan).await;
    let http = world.host.http();
    let watcher = Client::join(&world.host.address, "p").await;
    let deed = async |id: &str, deed: &str| {
        post(&http, &format!("/tasks/{id}/{deed}"), &[], &json!({})).await
    };

    let slow = world.video("slow").await;
    world
        .task_until(&slow, |task| task["external_task_id"].is_string())
        .await;
    deed(&slow, "retry")
        .await
        .assert_problem(409, "task-not-retryable");
    let cancelled = deed(&slow, "cancel").await;
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    let cancelled = cancelled.json();
    assert_eq!(cancelled["status"], "cancelled");
    assert!(cancelled["completed_at"].is_i64());
    deed(&slow, "cancel")
        .await
        .assert_problem(409, "task-finished");
    until_shown(&watcher, &cancelled).await;
    // What its service makes of it now is of no interest.
    world.kling.finish(&slow);
    assert_eq!(world.kling.call_back(&slow).await, 200);
    assert_eq!(world.task(&slow).await, cancelled);

    // Once more: the job is paid for and has its result, so there is no second one.
    let retried = deed(&slow, "retry").await;
    assert_eq!(retried.status, 200, "{retried:?}");
    let retried = retried.json();
    assert_eq!(retried["status"], "pending");
    assert_eq!(retried["completed_at"], Value::Null);
    let done = world.finished(&slow).await;
    assert_eq!(world.kling.jobs().len(), 1);
    assert_eq!(done["result_url"], world.kling.jobs()[0].result_url());
    until_shown(&watcher, &done).await;
    for name in ["cancel", "retry"] {
        let kind = if name == "cancel" {
            "task-finished"
        } else {
            "task-not-retryable"
        };
        deed(&slow, name).await.assert_problem(409, kind);
    }
    assert_eq!(world.task(&slow).await, done);
    assert_eq!(world.kling.repeated(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_a_list_are_stable_while_tasks_arrive() {
    let world = World::start(Plan::default()).await;
    let http = world.host.http();
    let at_once = |n: usize, fail: bool| json!({ "prompt": format!("{n}"), "complete": "at_once", "fail": fail });
    let mut ids = BTreeSet::new();
    for n in 0..23 {
        ids.insert(id(&world.posted("demo", at_once(n, n % 4 == 0)).await));
    }
    let other = json!({ "project_id": "q", "task_type": "demo", "params": at_once(0, false) });
    let other = id(&created(&http, &other).await);
    for id in ids.iter().chain([&other]) {
        world.finished(id).await;
    }

    let mut seen: Vec<(i64, String)> = Vec::new();
    let mut path = "/tasks?project_id=p&limit=5".to_owned();
    for page in 0..50 {
        let list = http.get(&path).await.json();
        let tasks = list["tasks"].as_array().unwrap();
        assert!(tasks.len() <= 5);
        for task in tasks {
            assert_eq!(task.as_object().unwrap().len(), 15, "{task}");
            seen.push((task["created_at"].as_i64().unwrap(), id(task)));
        }
        world.posted("demo", at_once(100 + page, false)).await;
        match list["next_cursor"].as_str() {
            Some(cursor) => path = format!("/tasks?project_id=p&limit=5&cursor={cursor}"),
            None => break,
        }
    }
    assert!(
        seen.windows(2).all(|pair| pair[0] > pair[1]),
        "not newest first, or twice: {seen:?}"
    );
    let listed: BTreeSet<String> = seen.into_iter().map(|(_, id)| id).collect();
    assert!(listed.is_superset(&ids), "some are missing");
    assert!(!listed.contains(&other));

    let count = async |query: &str| {
        let list = http.get(&format!("/tasks?{query}&limit=200")).await.json();
        list["tasks"].as_array().unwrap().len()
    };
    assert_eq!(count("project_id=p&status=failed").await, 6);
    assert_eq!(count("project_id=q&status=completed").await, 1);
    assert_eq!(count("project_id=q&task_type=kling_video").await, 0);
    assert_eq!(count("project_id=none").await, 0);
    for bad in [
        "limit=0",
        "limit=201",
        "limit=x",
        "status=done",
        "cursor=%21",
    ] {
        http.get(&format!("/tasks?{bad}"))
            .await
            .assert_problem(400, "bad-request");
    }
}

/// Whoever of callback, poll and answer comes first completes the task, and nothing changes it then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_video_completes_by_a_callback_a_poll_or_before_its_submission_is_answered() {
    let course = |_, prompt: &str| match prompt {
        "polled" => Course {
            callbacks: 0,
            ..Course::default()
        },
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
    let plan = Plan {
        course: Box::new(course),
        ..Plan::default()
    };
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
            let words = done["error_message"].as_str().unwrap();
            assert!(words.contains("the GPU is on fire"), "{done}");
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
        // Repeated, late, or the other way round.
        for _ in 0..2 {
            assert_eq!(world.kling.call_back(id).await, 200);
        }
        let contrary = json!({ "task_id": job.task_id, "status": "failed", "error": "never mind" });
        assert_eq!(
            kling::tell(job.callback_url(), contrary.to_string()).await,
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
    assert_eq!(world.kling.strangers(), 0);
    assert_eq!(world.kling.jobs().len(), ids.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_for_now_are_tried_again_and_errors_for_good_are_not() {
    let fault = |call: &kling::Call| match (call.prompt.as_str(), call.before) {
        ("busy" | "dropped" | "garbage" | "lost", 1..) if !call.is_submission => None,
        ("busy", 0) => Some(Fault::TOO_FAST),
        ("busy", 2) => Some(Fault::BROKEN),
        ("dropped", 0) => Some(Fault::DropBefore),
        ("garbage", 0) => Some(Fault::Garbage),
        ("lost", 0) => Some(Fault::DropAfter),
        ("refused", _) => Some(Fault::REFUSED),
        ("always busy", _) => Some(Fault::BROKEN),
        _ => None,
    };
    let plan = Plan {
        fault: Box::new(fault),
        ..Plan::default()
    };
    let world = World::start(plan).await;
    let watcher = Client::join(&world.host.address, "p").await;

    let refused = world.video("refused").await;
    let done = world.finished(&refused).await;
    assert_eq!(
        (&done["status"], &done["retry_count"]),
        (&json!("failed"), &json!(0)),
        "{done}"
    );
    let words = done["error_message"].as_str().unwrap();
    assert!(
        words.contains("the risk control system objects") && words.contains("1301"),
        "{words}"
    );
    until_shown(&watcher, &done).await;

    let hopeless = json!({
        "project_id": "p", "task_type": "kling_video", "params": { "prompt": "always busy" }, "max_retries": 1
    });
    let hopeless = id(&created(&world.host.http(), &hopeless).await);
    let mut ids = Vec::new();
    for prompt in ["busy", "dropped", "garbage", "lost"] {
        ids.push(world.video(prompt).await);
    }
    for id in &ids {
        let done = world.finished(id).await;
        let job = world.kling.job(id).unwrap();
        assert_eq!(done["status"], "completed", "{done}");
        assert_eq!(done["result_url"], job.result_url());
        assert_eq!(done["error_message"], Value::Null);
        assert_eq!(done["external_task_id"], job.task_id);
        until_shown(&watcher, &done).await;
    }
    let done = world.finished(&hopeless).await;
    assert_eq!(
        (&done["status"], &done["retry_count"]),
        (&json!("failed"), &json!(1)),
        "{done}"
    );
    assert!(
        done["error_message"]
            .as_str()
            .unwrap()
            .contains("internal error"),
        "{done}"
    );
    until_shown(&watcher, &done).await;
    assert_eq!(world.kling.jobs().len(), ids.len());
    assert_eq!(world.kling.repeated(), [""; 0]);
}

/// The answer to its submission is lost, it does not call back, and is done when it is found again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_found_when_it_is_done_is_named_in_its_row() {
    let fault = |call: &kling::Call| (call.before == 0).then_some(Fault::DropAfter);
    let course = |_, _: &str| Course {
        callbacks: 0,
        ..Course::default()
    };
    let plan = Plan {
        fault: Box::new(fault),
        course: Box::new(course),
    };
    let world = World::start(plan).await;
    let id = world.video("lost").await;
    let done = world.finished(&id).await;
    let job = world.kling.job(&id).unwrap();
    assert_eq!(done["result_url"], job.result_url(), "{done}");
    assert_eq!(done["external_task_id"], job.task_id, "{done}");
    assert_eq!(world.kling.repeated(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callback_is_believed_only_with_the_signature_of_its_address() {
    let world = World::start(Plan::until_told()).await;
    let http = world.host.http();
    let task_id = world.video("one").await;
    let before = world
        .task_until(&task_id, |task| task["external_task_id"].is_string())
        .await;
    let job = world.kling.finish(&task_id);
    let (_, signature) = job.callback_url().split_once("&signature=").unwrap();
    assert_eq!(signature, sign::callback(WEBHOOK_KEY, "kling", &task_id));
    let told = job.data();
    let call = async |path: &str, body: &str| {
        let headers = [("content-type", "application/json")];
        http.send(Method::POST, path, &headers, body.to_owned().into())
            .await
    };
    let native = told.to_string();

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
        // Before anything else is looked at.
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
    // The address of another service's task.
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
    let mut others = told.clone();
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
    // Kling's own words come too late.
    assert_eq!(call(&right, &native).await.status, 200);
    assert_eq!(world.task(&task_id).await, done);

    let failing = world.video("two").await;
    world
        .task_until(&failing, |task| task["external_task_id"].is_string())
        .await;
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
    let refused = id(&world
        .posted("nano_banana", json!({ "prompt": "refused" }))
        .await);
    let busy = id(&world
        .posted("nano_banana", json!({ "prompt": "busy-first" }))
        .await);

    let done = world.finished(&picture).await;
    assert_eq!(done["status"], "completed", "{done}");
    assert_eq!(done["external_service"], "gemini");
    assert_eq!(done["result_data"], "{\"text\":\"Here it is.\"}");
    until_shown(&watcher, &done).await;
    let url = done["result_url"].as_str().unwrap().to_owned();
    let path = url
        .strip_prefix(&format!("http://{}", world.host.address))
        .unwrap();
    let asset = world.host.http().get(path).await;
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
async fn a_result_of_our_own_is_the_input_of_another_task() {
    let world = World::start(Plan::default()).await;
    let first = id(&world
        .posted("nano_banana", json!({ "prompt": "first" }))
        .await);
    let url = world.finished(&first).await["result_url"].clone();
    let params = json!({ "prompt": "second", "reference_image_urls": [url] });
    let second = id(&world.posted("nano_banana", params).await);
    assert_eq!(world.finished(&second).await["status"], "completed");
    let inline = json!({ "inlineData": { "mimeType": "image/png", "data": PIXEL } });
    let (_, body) = world.gemini.asked("second").remove(0);
    assert_eq!(body["contents"][0]["parts"][1], inline);
    // Not of a task of another project, to which it is not there.
    let params = json!({ "prompt": "third", "reference_image_urls": [url] });
    let body = json!({ "project_id": "q", "task_type": "nano_banana", "params": params });
    let third = world
        .finished(&id(&created(&world.host.http(), &body).await))
        .await;
    assert_eq!(third["status"], "failed", "{third}");
    assert!(world.gemini.asked("third").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_told_of_the_end_of_its_task_until_it_has_heard() {
    let world = World::start(Plan::default()).await;
    let http = world.host.http();
    let (quick, slow) = (Agent::start(0).await, Agent::start(1).await);
    let mut posted = Vec::new();
    for (agent, fail) in [(&quick, false), (&slow, true)] {
        let params = json!({ "prompt": "told", "complete": "at_once", "fail": fail });
        let body = json!({
            "project_id": "p", "task_type": "demo", "params": params, "callback_url": agent.url()
        });
        posted.push((agent, created(&http, &body).await));
    }
    for (agent, posted) in &posted {
        let secret = posted["callback_secret"].as_str().unwrap();
        let expected = if std::ptr::eq(*agent, &slow) { 2 } else { 1 };
        until_within(ROUNDS, "the agent is told", async || {
            agent.told().len() == expected
        })
        .await;
        let done = world.task(&id(posted)).await;
        let told = agent.told();
        for told in &told {
            assert!(agent::is_signed(told, secret), "{told:?}");
            assert_eq!(told.method, Method::POST);
            assert_eq!(told.header("content-type"), "application/json");
            assert_eq!(told.json(), done);
            assert_eq!(
                told.header("webhook-id"),
                agent.told()[0].header("webhook-id")
            );
        }
    }
    let secrets: BTreeSet<String> = posted
        .iter()
        .map(|(_, posted)| posted["callback_secret"].to_string())
        .collect();
    assert_eq!(secrets.len(), 2);
    // It has heard: another round tells nobody.
    assert_eq!(world.poll().await.status, 202);
    let next = json!({ "prompt": "next", "complete": "at_once" });
    world.finished(&id(&world.posted("demo", next).await)).await;
    assert_eq!((quick.told().len(), slow.told().len()), (1, 2));
}

/// Tasks whose first submission failed are due all at once, and many pollers find them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_number_of_pollers_submit_a_task_once() {
    const TASKS: usize = 40;
    let fault = |call: &kling::Call| (call.before == 0).then_some(Fault::TOO_FAST);
    let plan = Plan {
        fault: Box::new(fault),
        ..Plan::default()
    };
    let world = World::start(plan).await;
    let ids = join_all((0..TASKS).map(|n| {
        let world = &world;
        async move { world.video(&format!("video {n}")).await }
    }))
    .await;
    until_within(ROUNDS, "all are submitted", async || {
        let polls = join_all((0..6).map(|_| world.poll())).await;
        assert!(polls.iter().all(|answer| answer.status == 202));
        world.kling.jobs().len() == TASKS
    })
    .await;
    for id in &ids {
        let done = world.finished(id).await;
        assert_eq!(done["status"], "completed");
        assert_eq!(
            done["result_url"],
            world.kling.job(id).unwrap().result_url()
        );
        let calls = world.kling.calls();
        let submissions = calls
            .iter()
            .filter(|call| call.name == *id && call.is_submission);
        // The one that failed, and the other.
        assert_eq!(submissions.count(), 2, "{id}");
    }
    assert_eq!(world.kling.repeated(), [""; 0]);
    let refused = world.host.app_http().post("/internal/poll", "").await;
    assert_eq!(refused.status, 401, "without a token");
}

/// More tasks than are worked on at once wait for a service that never answers; another service's are
/// none the worse, also where the poller has to see to them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_hangs_holds_up_no_other() {
    const HANGING: usize = 48;
    let plan = Plan {
        fault: Box::new(|_| Some(Fault::Hang)),
        ..Plan::default()
    };
    let world = World::start(plan).await;
    let hanging = join_all((0..HANGING).map(|n| {
        let world = &world;
        async move { world.video(&format!("video {n}")).await }
    }))
    .await;
    until("all hang", async || world.kling.calls().len() >= HANGING).await;
    for (task_type, params) in [
        ("nano_banana", json!({ "prompt": "a picture" })),
        (
            "demo",
            json!({ "prompt": "a picture", "complete": "at_once" }),
        ),
    ] {
        let start = Instant::now();
        let done = world
            .finished(&id(&world.posted(task_type, params).await))
            .await;
        assert_eq!(done["status"], "completed", "{done}");
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{:?}",
            start.elapsed()
        );
    }
    let polled = [
        world
            .posted("nano_banana", json!({ "prompt": "busy-first" }))
            .await,
        world
            .posted("demo", json!({ "prompt": "slow", "seconds": 15 }))
            .await,
    ];
    let start = Instant::now();
    for posted in &polled {
        assert_eq!(world.finished(&id(posted)).await["status"], "completed");
    }
    assert!(
        start.elapsed() < Duration::from_secs(40),
        "{:?}",
        start.elapsed()
    );
    // They were put off, not lost.
    let waits = |task: &Value| task["retry_count"].as_i64().unwrap() > 0;
    let waiting = world.task_until(&hanging[0], waits).await;
    assert_eq!(waiting["status"], "processing", "{waiting}");
    assert!(waiting["error_message"].is_string());
}

/// The demo's ways to complete are those of any service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_completes_and_fails_in_each_way() {
    let world = World::start(Plan::default()).await;
    let http: Http = world.host.http();
    let watcher = Client::join(&world.host.address, "p").await;
    let mut ids = Vec::new();
    for complete in ["poll", "webhook", "at_once"] {
        for fail in [json!(null), json!(true), json!("no paint")] {
            let params =
                json!({ "prompt": complete, "complete": complete, "seconds": 1, "fail": fail });
            ids.push((id(&world.posted("demo", params).await), fail));
        }
    }
    for (id, fail) in ids {
        world.finished(&id).await;
        let done = task(&http, &id).await;
        let (status, words) = match fail {
            Value::Null => ("completed", json!(null)),
            Value::String(words) => ("failed", json!(words)),
            _ => ("failed", json!("the demo was told to fail")),
        };
        assert_eq!(
            (&done["status"], &done["error_message"]),
            (&json!(status), &words),
            "{done}"
        );
        until_shown(&watcher, &done).await;
    }
}
