//! The app on a libSQL server, which the runtime config names, and which loses answers.

use e2e::document::entry;
use e2e::host::{Host, Kind, Setup};
use e2e::raw::Client;
use e2e::tasks::{id, post};
use e2e::wait::until;
use platform::native::Fault;
use serde_json::json;

async fn start() -> (Host, Setup) {
    let setup = Setup::new(Kind::Native).elsewhere("spinkube").in_place();
    (setup.clone().start().await, setup)
}

/// The relay repeats an append whose answer was lost, and the app recognizes it: every edit is stored once, and none is
/// lost, even if the host is killed afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_whose_answer_was_lost_is_stored_once() {
    let (host, setup) = start().await;
    let one = Client::join(&host.address, "p").await;
    let two = Client::join(&host.address, "p").await;
    for n in 0..6 {
        setup
            .libsql()
            .with(|server| server.lose_write_after(0))
            .await;
        one.typed(&n.to_string()).await;
        two.until("the edit", |two| two.text().len() == n + 1).await;
        let lost = setup
            .libsql()
            .with(|server| !server.is_still_to_lose())
            .await;
        assert!(lost, "no answer was lost");
    }
    host.kill().await;
    let host = setup.start().await;
    let (document, rev) = host.http().document("p").await;
    assert_eq!(document.get_text("text").to_string(), "012345");
    // Each edit has a rev of its own, and none has two.
    assert_eq!(rev, 6);
    host.stop().await;
}

/// A task whose answer was lost is posted again with its key: it is one task, which runs once and is in the document.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_whose_answer_was_lost_is_one_task() {
    let (host, setup) = start().await;
    let http = host.http();
    let reader = Client::join(&host.address, "p").await;
    let mut refused = 0;
    for n in 0..6 {
        let key = format!("k-{n}");
        let body = json!({
            "project_id": "p", "task_type": "demo", "params": { "prompt": key, "complete": "at_once" },
        });
        setup
            .libsql()
            .with(move |server| server.lose_write_after(n % 3))
            .await;
        let mut answer = post(&http, "/tasks", &[("idempotency-key", &key)], &body).await;
        for _ in 0..5 {
            if answer.status == 201 {
                break;
            }
            assert_eq!(answer.status, 503, "{}", answer.text());
            refused += 1;
            answer = post(&http, "/tasks", &[("idempotency-key", &key)], &body).await;
        }
        assert_eq!(answer.status, 201, "{}", answer.text());
        let task = id(&answer.json());
        until("the result in the document", async || {
            entry(&reader, &task)["status"] == "completed"
        })
        .await;
    }
    assert!(refused > 0, "no answer to a posted task was lost");
    let listed = http.get("/tasks?project_id=p").await.json();
    assert_eq!(listed["tasks"].as_array().unwrap().len(), 6, "{listed}");
    host.stop().await;
}

/// A request that the server refuses before it has an effect is sent again, and the client does not notice. If the server
/// is away for longer, the app responds with 503 and the relay keeps the edits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_busy_or_away_loses_nothing() {
    let (host, setup) = start().await;
    let one = Client::join_with_events(&host.address, "p").await;
    for faults in [
        vec![Fault::Busy, Fault::Away],
        vec![Fault::Error; 4],
        vec![Fault::Closed; 4],
    ] {
        let before = one.decided();
        setup
            .libsql()
            .with(move |server| server.fail_next(faults))
            .await;
        one.typed("x").await;
        one.saved(before + 1).await;
    }
    assert!(one.events("rejected").is_empty());
    let (document, _) = host.http().document("p").await;
    assert_eq!(document.get_text("text").to_string(), "xxx");
    host.stop().await;
}
