//! Checks the streams of events about tasks.

use std::collections::BTreeSet;

use e2e::both_relays;
use e2e::events::Events;
use e2e::host::{Kind, Setup};
use e2e::kling::Plan;
use e2e::redis::Redis;
use e2e::relay::Relay;
use e2e::tasks::{TOKEN, World, created, id, post};
use e2e::wait::{soon, until};
use http::{Method, StatusCode};
use serde_json::json;

const PROJECT: &str = "/projects/p/tasks/events";

both_relays! {
    async fn a_task_is_followed_to_its_end(relay: Kind) {
        let world = World::start_with(relay, Plan::until_told(), |setup| setup).await;
        let posted = world.posted("kling_video", json!({ "prompt": "a hill" })).await;
        let (id, path) = (id(&posted), format!("/tasks/{}/events", id(&posted)));
        assert_eq!(posted["events_url"], format!("http://{}{path}", world.host.address));
        world.accepted(&id).await;
        // HEAD asks about the stream, and opens none.
        for path in [path.as_str(), PROJECT] {
            let head = world.host.http().send(Method::HEAD, path, &[], Default::default()).await;
            assert_eq!((head.status.as_u16(), head.header("content-type")), (200, "text/event-stream"));
        }
        assert_eq!(world.host.http().metric("relay_waiting", TOKEN).await, 0);
        let mut events = Events::open(&world.host.address, &path, &[], None).await.unwrap();
        let first = events.heard().await;
        assert_eq!(first.name, "processing");
        assert!(first.data["params"].is_null(), "{first:?}");
        world.kling.finish(&id);
        assert_eq!(world.kling.call_back(&id).await, 200);
        let end = events.until(&id, "completed").await;
        let mut task = world.task(&id).await;
        task.as_object_mut().unwrap().remove("params");
        assert_eq!(end.data, task);
        assert_eq!(soon("the end", events.next()).await, None);
        // A client that comes back gets only the events that it has not received.
        let again = Events::open(&world.host.address, &path, &[], Some(&end.id)).await;
        assert_eq!(again.err(), Some(StatusCode::NO_CONTENT));
        let mut late = Events::open(&world.host.address, &path, &[], Some(&first.id)).await.unwrap();
        assert_eq!(late.heard().await, end);
        assert_eq!(soon("the end", late.next()).await, None);
        world.host.http().get("/tasks/task_0_none/events").await.assert_problem(404, "not-found");
    }

    async fn a_project_is_followed_over_the_ends_of_its_tasks(relay: Kind) {
        let world = World::start_with(relay, Plan::until_told(), |setup| setup).await;
        let address = &world.host.address;
        let at_once = json!({ "prompt": "done", "complete": "at_once" });
        let done = id(&world.posted("demo", at_once.clone()).await);
        world.finished(&done).await;
        let running = world.video("a hill").await;
        world.accepted(&running).await;
        // The stream begins with the tasks that are under way.
        let mut events = Events::open(address, PROJECT, &[], None).await.unwrap();
        let first = events.heard().await;
        assert_eq!((first.name.as_str(), &first.data["task_id"]), ("processing", &json!(running)));
        world.kling.finish(&running);
        assert_eq!(world.kling.call_back(&running).await, 200);
        let end = events.until(&running, "completed").await;
        let last = end.id;
        let missed = id(&world.posted("demo", at_once).await);
        events.until(&missed, "completed").await;
        drop(events);
        let mut again = Events::open(address, PROJECT, &[], Some(&last)).await.unwrap();
        let told = again.heard().await;
        assert_eq!((told.name.as_str(), &told.data["task_id"]), ("completed", &json!(missed)));
        // Another project's stream has none of these events.
        let other = json!({ "project_id": "q", "task_type": "demo", "params": { "prompt": "x", "complete": "at_once" } });
        let other = id(&created(&world.host.http(), &other).await);
        world.finished(&other).await;
        let mut events = Events::open(address, "/projects/q/tasks/events", &[], Some("0")).await.unwrap();
        assert_eq!(events.heard().await.data["task_id"], other);
    }
}

/// The test posts more tasks than one answer of the app holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_resumed_at_another_relay_with_nothing_lost_or_repeated() {
    const TASKS: usize = 120;
    let redis = Redis::start().await;
    let host = Setup::new(Kind::None)
        .option("--redis", &redis.url())
        .variable("internal_token", TOKEN)
        .start()
        .await;
    let settings = [("RELAY_INTERNAL_TOKEN", TOKEN)];
    let first = Relay::start(Kind::Native, &host.app, &redis.url(), &settings).await;
    let task = json!({ "project_id": "p", "task_type": "demo", "params": { "prompt": "x", "complete": "at_once" } });
    // The project is made with its first task.
    let made = id(&created(&host.app_http(), &task).await);
    until("the first has ended", async || {
        e2e::tasks::task(&host.app_http(), &made).await["completed_at"].is_i64()
    })
    .await;
    let mut events = Events::open(&first.address, PROJECT, &[], None)
        .await
        .unwrap();
    let one = id(&created(&host.app_http(), &task).await);
    events.until(&one, "completed").await;
    let last = events.last.clone();
    first.stop().await;
    let mut rest = BTreeSet::new();
    for _ in 0..TASKS {
        rest.insert(id(&created(&host.app_http(), &task).await));
    }
    let list = "/tasks?project_id=p&status=completed&limit=200";
    until("all have ended", async || {
        let listed = host.app_http().get(list).await.json();
        listed["tasks"].as_array().unwrap().len() == TASKS + 2
    })
    .await;
    let second = Relay::start(Kind::Native, &host.app, &redis.url(), &settings).await;
    let mut events = Events::open(&second.address, PROJECT, &[], last.as_deref())
        .await
        .unwrap();
    for _ in 0..TASKS {
        let event = events.heard().await;
        assert_eq!(event.name, "completed");
        assert!(rest.remove(&id(&event.data)), "{event:?} came twice");
    }
    assert!(rest.is_empty());
    second.stop().await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_outlives_the_death_of_the_app() {
    let host = Setup::new(Kind::None)
        .variable("internal_token", TOKEN)
        .variable("webhook_key", "a-webhook-key-for-tests")
        .in_place()
        .start()
        .await;
    let settings = [
        ("RELAY_INTERNAL_TOKEN", TOKEN),
        ("RELAY_RECHECK_INTERVAL", "1s"),
    ];
    let relay = Relay::start(Kind::Native, &host.app, "", &settings).await;
    let task = json!({ "project_id": "p", "task_type": "demo", "params": { "prompt": "x", "seconds": 600 } });
    let id = id(&created(&relay.http(), &task).await);
    let path = format!("/tasks/{id}/events");
    let mut of_task = Events::open(&relay.address, &path, &[], None)
        .await
        .unwrap();
    let mut of_project = Events::open(&relay.address, PROJECT, &[], None)
        .await
        .unwrap();
    of_task.until(&id, "processing").await;
    of_project.heard().await;
    let again = host.setup();
    host.kill().await;
    let host = again.start().await;
    post(
        &host.app_http(),
        &format!("/tasks/{id}/cancel"),
        &[],
        &json!({}),
    )
    .await;
    of_task.until(&id, "cancelled").await;
    of_project.until(&id, "cancelled").await;
    assert_eq!(soon("the end", of_task.next()).await, None);
    relay.stop().await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_app_alone_holds_no_stream_and_names_another_way() {
    let world = World::start_with(Kind::None, Plan::until_told(), |setup| setup).await;
    let http = world.host.http();
    let id = world.video("a hill").await;
    for path in [format!("/tasks/{id}/events"), PROJECT.to_owned()] {
        let answer = http.send(Method::GET, &path, &[], Default::default()).await;
        answer.assert_problem(501, "no-streams");
        assert!(answer.text().contains("?wait="), "{answer:?}");
    }
}
