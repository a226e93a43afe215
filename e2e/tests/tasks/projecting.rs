//! Checks projecting: each result appears in every document that refers to its task.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use e2e::both_relays;
use e2e::document::{entry, in_document, keys, nested_node, node, plain_node, shown, until_shown};
use e2e::kling::Plan;
use e2e::raw::{Client, converged};
use e2e::tasks::{ROUNDS, World, id, post};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::sleep;

both_relays! {
    async fn a_task_ends_in_its_row_and_in_every_document(relay: Kind) {
        let world = World::start_with(relay, Plan::default(), |setup| setup).await;
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
        let address = |more: &str| format!("http://{}/tasks/{id}{more}", world.host.address);
        assert_eq!(posted, json!({
            "task_id": id, "status": "pending", "created_at": created_at, "status_url": address(""),
            "cancel_url": address("/cancel"), "events_url": address("/events"),
        }));
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
            "result_url": url, "result_data": "{\"prompt\":\"a <hill>\"}", "error_message": null, "message": null,
            "created_at": created_at, "updated_at": completed_at, "completed_at": completed_at,
            "retry_count": 0, "max_retries": 3, "tags": [], "metadata": null, "cancel_at": null,
            "result_expires_at": null,
            "tries": [{ "at": done["tries"][0]["at"], "tried": "submission", "error": null }],
        }));

        for client in [&watcher, &owner] {
            until_shown(client, &done).await;
            for key in ["nested", "by-node-id", "plain"] {
                let what = format!("the result in node {key}");
                client.until(&what, |client| {
                    keys(&node(client, key)["data"]) == [json!("completed"), in_document(&json!(url)), Value::Null]
                })
                .await;
                assert_eq!(node(client, key)["data"]["label"], "kept");
                assert!(node(client, key)["x"].is_number());
            }
            assert_eq!(entry(client, &id)["task_type"], "demo");
            assert_eq!(entry(client, &id)["node_id"], "by-node-id");
            assert_eq!(keys(&node(client, "another's")["data"]), [Value::Null, Value::Null, Value::Null]);
        }
        world.host.stop().await;
    }

    /// Lets a client move a node without pause, while its task is under way and after its end.
    async fn a_node_that_is_dragged_gets_its_result_and_stays_where_it_was_put(relay: Kind) {
        let world = World::start_with(relay, Plan::default(), |setup| setup).await;
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
        let world = World::start_with(relay, Plan::default(), |setup| setup).await;
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
}
