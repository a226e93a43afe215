//! Measures the latency of a task: on its way to its service, and from the service's callback to the documents.
//! `--nocapture` prints the numbers. The asserted limits are ten times the wanted ones, because the machine may be busy.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use e2e::document::entry;
use e2e::kling::Plan;
use e2e::raw::{Client, Heard};
use e2e::tasks::World;
use e2e::wait::{soon, until};
use serde_json::json;

const TASKS: usize = 100;

/// The n-th percentile.
fn percentile(times: &[Duration], n: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times[(times.len() * n / 100).min(times.len() - 1)]
}

fn print(what: &str, times: &[Duration]) {
    let [p50, p90, p99] = [50, 90, 99].map(|n| percentile(times, n));
    println!("{what}: p50 {p50:?}, p90 {p90:?}, p99 {p99:?}");
}

/// Waits until a document shows a task as completed; checks after each blob.
async fn shown(client: &Client, id: &str) {
    let mut blobs = usize::MAX;
    let looking = async {
        loop {
            let now = client.blobs();
            if now != blobs {
                blobs = now;
                if entry(client, id)["status"] == "completed" {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    };
    soon("the result in the document", looking).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_submitted_and_its_result_shown_at_once() {
    let world = World::start(Plan::until_told()).await;
    let watcher = Client::join(&world.host.address, "p").await;
    let (mut answered, mut arrived, mut called, mut seen) = (vec![], vec![], vec![], vec![]);
    for n in 0..TASKS {
        let start = Instant::now();
        let id = world.video(&format!("video {n}")).await;
        answered.push(start.elapsed());
        until("the submission", async || world.kling.job(&id).is_some()).await;
        let job = world.kling.job(&id).unwrap();
        arrived.push(job.arrived - start);
        // The document shows the task once the answer to the submission is recorded.
        let is_shown = |client: &Client| entry(client, &id)["status"] == "processing";
        watcher.until("the task in the document", is_shown).await;

        world.kling.finish(&id);
        let start = Instant::now();
        let (status, ()) = tokio::join!(world.kling.call_back(&id), async {
            shown(&watcher, &id).await;
            seen.push(start.elapsed());
        });
        called.push(start.elapsed());
        assert_eq!(status, 200);
        assert_eq!(entry(&watcher, &id)["src"], json!(job.result_url()));
    }
    print("from POST /tasks to its answer", &answered);
    print("from POST /tasks to the service", &arrived);
    print("from the callback to another client's document", &seen);
    print("from the callback to its answer and document", &called);
    let blobs = watcher.heard();
    let blobs = blobs.iter().filter(|heard| matches!(heard, Heard::Blob(_)));
    println!("{} blobs for {TASKS} tasks", blobs.count());
    assert!(percentile(&answered, 50) < Duration::from_millis(150));
    assert!(percentile(&arrived, 50) < Duration::from_millis(500));
    assert!(percentile(&seen, 50) < Duration::from_millis(500));
    assert!(percentile(&seen, 99) < Duration::from_millis(2500));
}
