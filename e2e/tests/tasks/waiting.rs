//! Checks the posting of a task and the waiting for its end in one request.

use std::time::{Duration, Instant};

use e2e::both_relays;
use e2e::host::Kind;
use e2e::kling::Plan;
use e2e::tasks::{World, id, post};
use e2e::wait::until;
use serde_json::{Value, json};

/// A demo task that takes this many seconds.
fn demo(seconds: u64) -> Value {
    let params = json!({ "prompt": "a mill", "seconds": seconds });
    json!({ "project_id": "p", "task_type": "demo", "params": params })
}

both_relays! {
    async fn who_posts_a_task_may_wait_for_its_end(relay: Kind) {
        let world = World::start_with(relay, Plan::default(), |setup| setup).await;
        let http = world.host.http();
        let answer = post(&http, "/tasks", &[("prefer", "respond-async, wait=40")], &demo(1)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(answer.header("preference-applied"), "wait=40");
        let mut told = answer.json();
        assert_eq!(told["status"], "completed");
        let base = format!("http://{}/tasks/{}", world.host.address, id(&told));
        assert_eq!(answer.header("location"), format!("/tasks/{}", id(&told)));
        for (name, url) in [("status_url", base.clone()), ("cancel_url", format!("{base}/cancel"))] {
            assert_eq!(told.as_object_mut().unwrap().remove(name).unwrap(), url);
        }
        told.as_object_mut().unwrap().retain(|name, _| !name.ends_with("_url") || name == "result_url");
        assert_eq!(told, world.task(&id(&told)).await);

        // The time is up before the task has ended.
        let start = Instant::now();
        let answer = post(&http, "/tasks?wait=3", &[], &demo(600)).await;
        assert!(start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());
        assert_eq!((answer.status.as_u16(), answer.header("preference-applied")), (201, ""));
        assert!(answer.json()["completed_at"].is_null(), "{answer:?}");
        // A refused request does not wait.
        for nonsense in ["51", "-1", "soon"] {
            let answer = post(&http, &format!("/tasks?wait={nonsense}"), &[], &demo(1)).await;
            answer.assert_problem(400, "bad-request");
        }
        let nothing = post(&http, "/tasks?wait=40", &[], &json!({ "project_id": "p" })).await;
        nothing.assert_problem(422, "invalid-fields");
    }
}

/// The app alone holds an instance during the wait, so the wait is short.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_app_alone_waits_for_an_end_for_a_few_seconds() {
    let world = World::start_with(Kind::None, Plan::default(), |setup| setup).await;
    let http = world.host.http();
    let start = Instant::now();
    let answer = post(&http, "/tasks", &[("prefer", "wait=40")], &demo(600)).await;
    assert!(
        start.elapsed() >= Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(answer.header("preference-applied"), "wait=5");
    assert!(answer.json()["completed_at"].is_null(), "{answer:?}");
    // A task is submitted while its caller waits.
    until("one ends within its post", async || {
        let answer = post(&http, "/tasks?wait=40", &[], &demo(0)).await;
        answer.json()["status"] == "completed"
    })
    .await;
}
