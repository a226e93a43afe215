//! Checks places: if a service has no place for a job, the task waits, and that is no error.

use std::time::{Duration, Instant};

use e2e::host::{Kind, Setup};
use e2e::kling::{Course, Plan};
use e2e::tasks::World;
use e2e::wait::until;
use serde_json::{Value, json};

/// Reproduces the report "Six films at an account of three places: three failed with 1303 while the others went on."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_jobs_at_an_account_of_three_places_all_complete() {
    let course = |_, _: &str| Course {
        duration: Duration::from_secs(2),
        ..Course::default()
    };
    let world = World::start(Plan::default().places(3).course(course)).await;
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(world.video(&format!("film {n}")).await);
    }
    let mut waiting = 0;
    until("three jobs run, and three wait", async || {
        waiting = 0;
        for id in &ids {
            let task = world.task(id).await;
            if task["message"] == "waiting for a place at Kling" {
                assert_eq!(task["status"], "pending", "{task}");
                waiting += 1;
            }
        }
        waiting == 3
    })
    .await;
    for id in &ids {
        let done = world.finished(id).await;
        assert_eq!(done["status"], "completed", "{done}");
        assert_eq!(done["retry_count"], 0, "{done}");
        assert_eq!(done["error_message"], Value::Null);
        assert_eq!(done["message"], json!(null));
    }
    assert_eq!(world.kling.jobs().len(), 6);
    assert_eq!(world.kling.repeated(), [""; 0]);
    world.host.stop().await;
}

/// Reproduces the report "One place, and after each film we wait ten seconds for the next to begin."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_film_lets_the_next_begin_at_once() {
    let one = |setup: Setup| setup.variable("kling_places", "1");
    let world = World::start_with(Kind::Native, Plan::default(), one).await;
    let begun = Instant::now();
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(world.video(&format!("film {n}")).await);
    }
    for id in &ids {
        assert_eq!(world.finished(id).await["status"], "completed");
    }
    // Rounds of the poller alone would need 30 s for the four that had to wait.
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    world.host.stop().await;
}
