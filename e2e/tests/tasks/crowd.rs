//! Lets many agents wait at once, half of them by streams of events and half by requests that are held: none holds an
//! instance, and each is informed of its task's end. `--nocapture` prints how soon.

use std::time::{Duration, Instant};

use e2e::events::Events;
use e2e::host::{Host, Kind, Setup};
use e2e::tasks::{TOKEN, created, id, post};
use e2e::wait::until_within;
use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::task::JoinHandle;

/// The time that the whole of a step may take, on a busy machine.
const LIMIT: Duration = Duration::from_secs(240);

/// The number of tasks that are cancelled at once: few, so that the measured times do not include a queue.
const AT_ONCE: usize = 4;

/// An agent that waits for its task, and returns the time at which it was informed of the end.
type Agent = JoinHandle<Instant>;

async fn by_stream(address: String, task: String) -> Instant {
    let path = format!("/tasks/{task}/events");
    let mut events = Events::open(&address, &path, &[], None).await.unwrap();
    while let Some(event) = events.next().await {
        if event.name == "cancelled" {
            return Instant::now();
        }
    }
    panic!("the stream of {task} has ended");
}

async fn by_request(host: e2e::http::Http, task: String) -> Instant {
    let mut tag = String::new();
    for _ in 0..100 {
        let path = format!("/tasks/{task}?wait=50");
        let headers = [("if-none-match", tag.as_str())];
        let sent = host.try_send(http::Method::GET, &path, &headers, Default::default());
        let answer = sent.await.unwrap();
        if answer.status == 200 && answer.json()["status"] == "cancelled" {
            return Instant::now();
        }
        tag = answer.header("etag").to_owned();
    }
    panic!("{task} has not ended");
}

fn percentile(times: &[Duration], n: usize) -> Duration {
    times[(times.len() * n / 100).min(times.len() - 1)]
}

/// Lets agents wait, each for a task of its own, and returns the times from each task's end until its agent was informed,
/// the shortest first.
async fn crowd(host: &Host, each_way: usize) -> Vec<Duration> {
    let http = host.http();
    let task = json!({ "project_id": "p", "task_type": "demo", "params": { "prompt": "slow", "seconds": 600 } });
    let mut agents: Vec<(String, Agent)> = Vec::new();
    for n in 0..2 * each_way {
        let id = id(&created(&http, &task).await);
        let agent = if n % 2 == 0 {
            tokio::spawn(by_stream(host.address.clone(), id.clone()))
        } else {
            tokio::spawn(by_request(http.clone(), id.clone()))
        };
        agents.push((id, agent));
    }
    until_within(LIMIT, "all wait", async || {
        http.metric("relay_waiting", TOKEN).await as usize == 2 * each_way
    })
    .await;
    // The agents hold no instance, although there are far fewer instances than agents.
    until_within(LIMIT, "the app has a place", async || {
        http.get("/tasks?limit=1").await.status == 200
    })
    .await;
    let mut times: Vec<Duration> = stream::iter(agents)
        .map(async |(id, agent)| {
            let cancelled = post(&http, &format!("/tasks/{id}/cancel"), &[], &json!({})).await;
            let ended = Instant::now();
            assert_eq!(cancelled.status, 200, "{cancelled:?}");
            let heard = tokio::time::timeout(LIMIT, agent).await;
            heard.unwrap().unwrap().saturating_duration_since(ended)
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    times.sort();
    let [p50, p90, p99] = [50, 90, 99].map(|n| percentile(&times, n));
    println!(
        "{each_way} by streams and {each_way} by requests: p50 {p50:?}, p90 {p90:?}, p99 {p99:?}, max {:?}",
        times[times.len() - 1]
    );
    assert_eq!(http.metric("relay_waiting", TOKEN).await, 0);
    times
}

async fn host() -> Host {
    Setup::new(Kind::Native)
        .option("--instances", "48")
        .variable("internal_token", TOKEN)
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_waits_in_both_ways_and_holds_no_instance() {
    let host = host().await;
    crowd(&host, 40).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute: cargo xtask test --long"]
async fn a_thousand_wait_and_each_hears_within_a_quarter_of_a_second() {
    let host = host().await;
    let times = crowd(&host, 500).await;
    let late = times
        .iter()
        .filter(|time| **time > Duration::from_millis(250));
    println!(
        "{} of {} took longer than 250 ms",
        late.count(),
        times.len()
    );
    // Ten times the wanted time, because the machine may be busy.
    assert!(percentile(&times, 99) < Duration::from_millis(2500));
    host.stop().await;
}
