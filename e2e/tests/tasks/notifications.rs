//! Checks notifications: an agent is notified of the events of its task.

use std::collections::BTreeSet;

use e2e::agent::{self, Agent};
use e2e::kling::Plan;
use e2e::tasks::{ROUNDS, World, created, id};
use e2e::wait::until_within;
use http::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_notified_until_it_acknowledges() {
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
        until_within(ROUNDS, "the agent is notified", async || {
            agent.notifications().len() == expected
        })
        .await;
        let mut done = world.task(&id(posted)).await;
        // Fields that may be large are left out.
        for large in ["params", "result_data", "tries"] {
            done.as_object_mut().unwrap().remove(large);
        }
        let notifications = agent.notifications();
        for notification in &notifications {
            assert!(agent::is_signed(notification, secret), "{notification:?}");
            assert_eq!(notification.method, Method::POST);
            assert_eq!(notification.header("content-type"), "application/json");
            assert_eq!(notification.json(), done);
            assert_eq!(
                notification.header("webhook-id"),
                agent.notifications()[0].header("webhook-id")
            );
        }
    }
    let secrets: BTreeSet<String> = posted
        .iter()
        .map(|(_, posted)| posted["callback_secret"].to_string())
        .collect();
    assert_eq!(secrets.len(), 2);
    // Both have acknowledged: another round sends nothing.
    assert_eq!(world.poll().await.status, 202);
    let next = json!({ "prompt": "next", "complete": "at_once" });
    world.finished(&id(&world.posted("demo", next).await)).await;
    assert_eq!(
        (quick.notifications().len(), slow.notifications().len()),
        (1, 2)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_chooses_of_what_it_is_notified() {
    let world = World::start(Plan::until_told()).await;
    let http = world.host.http();
    let (starts, failures, all) = (
        Agent::start(0).await,
        Agent::start(0).await,
        Agent::start(0).await,
    );
    let mut ids = Vec::new();
    for (agent, events) in [
        (&starts, json!(["started"])),
        (&failures, json!(["failed"])),
        (&all, json!(["started", "completed"])),
    ] {
        let body = json!({
            "project_id": "p", "task_type": "kling_video", "params": { "prompt": "told" },
            "callback_url": agent.url(), "events": events,
        });
        ids.push(id(&created(&http, &body).await));
    }
    for agent in [&starts, &all] {
        until_within(ROUNDS, "the agent is notified of the start", async || {
            agent.notifications().len() == 1
        })
        .await;
        assert_eq!(agent.notifications()[0].json()["status"], "processing");
    }
    for id in &ids {
        world.accepted(id).await;
        world.kling.finish(id);
        assert_eq!(world.kling.call_back(id).await, 200);
        world.finished(id).await;
    }
    until_within(ROUNDS, "the agent is notified of the end", async || {
        all.notifications().len() == 2
    })
    .await;
    assert_eq!(all.notifications()[1].json()["status"], "completed");
    assert_eq!(world.poll().await.status, 202);
    assert_eq!(
        (starts.notifications().len(), failures.notifications().len()),
        (1, 0)
    );
}
