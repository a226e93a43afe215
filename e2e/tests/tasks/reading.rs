//! Checks the reading of tasks: a request that waits for a change, and lists in pages.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use e2e::both_relays;
use e2e::host::Kind;
use e2e::kling::Plan;
use e2e::tasks::{World, created, id};
use serde_json::json;
use tokio::time::sleep;

both_relays! {
    async fn a_request_waits_for_a_change(relay: Kind) {
        let world = World::start_with(relay, Plan::until_told(), |setup| setup).await;
        let http = world.host.http();
        let id = world.video("slow").await;
        world.accepted(&id).await;
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
        // A finished task does not change, so the answer comes at once.
        let start = Instant::now();
        let finished = http.get(&format!("{path}?wait=30")).await;
        assert_eq!(finished.json(), changed.json());
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        for nonsense in ["51", "-1", "soon"] {
            http.get(&format!("{path}?wait={nonsense}")).await.assert_problem(400, "bad-request");
        }
    }
}

/// The app alone holds an instance during a wait, so the wait is short and the client asks again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_app_alone_waits_for_a_few_seconds_and_says_so() {
    let world = World::start_with(Kind::None, Plan::until_told(), |setup| setup).await;
    let http = world.host.http();
    let id = world.video("slow").await;
    world.accepted(&id).await;
    let start = Instant::now();
    let answer = http.get(&format!("/tasks/{id}?wait=30")).await;
    let took = start.elapsed();
    assert!(
        (5..15).contains(&took.as_secs()) && answer.status == 200,
        "{took:?} {answer:?}"
    );
    assert_eq!(answer.header("retry-after"), "0");
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
            assert_eq!(task.as_object().unwrap().len(), 18, "{task}");
            assert!(
                task["params"].is_null() && task["result_data"].is_null(),
                "{task}"
            );
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

    let one = http
        .get("/tasks?limit=1&project_id=q&fields=params,result_data")
        .await
        .json();
    assert_eq!(one["tasks"][0]["params"], at_once(0, false).to_string());
    assert_eq!(one["tasks"][0]["result_data"], "{\"prompt\":\"0\"}");
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
        "fields=secrets",
    ] {
        http.get(&format!("/tasks?{bad}"))
            .await
            .assert_problem(400, "bad-request");
    }
}
