//! The requests that wait for a task to change.

use crate::fake_app::Task;
use crate::http::request;
use crate::{Relay, until, within};
use relay::Settings;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

fn question(target: &str, known: Option<u64>) -> String {
    let known = known.map(|version| format!("if-none-match: \"{version}\"\r\n"));
    let known = known.unwrap_or_default();
    format!("GET {target} HTTP/1.1\r\nhost: x\r\n{known}connection: close\r\n\r\n")
}

/// Asks, and waits for the answer in a task of its own.
fn ask(address: SocketAddr, target: &str, known: Option<u64>) -> JoinHandle<(String, Duration)> {
    let question = question(target, known);
    let begun = Instant::now();
    tokio::spawn(async move { (request(address, &question).await, begun.elapsed()) })
}

async fn relay_with(adjust: impl FnOnce(&mut Settings)) -> Relay {
    let relay = Relay::start(adjust).await;
    let task = Task {
        version: 1,
        is_finished: false,
    };
    relay.app.log().tasks.insert("t".into(), task);
    relay
}

/// Returns how often the app was asked about the task.
fn asked(relay: &Relay) -> usize {
    let log = relay.app.log();
    log.seen
        .iter()
        .filter(|seen| *seen == "GET /tasks/t")
        .count()
}

fn change(relay: &Relay, is_finished: bool) {
    let mut log = relay.app.log();
    let task = log.tasks.get_mut("t").unwrap();
    task.version += 1;
    task.is_finished = is_finished;
}

async fn waiting(relay: &Relay, count: u64) {
    until("they wait", async || {
        relay.metric("waiting").await == count && asked(relay) >= 1
    })
    .await;
}

#[tokio::test]
async fn the_relay_waits_and_asks_the_app_twice() {
    let relay = relay_with(|_| {}).await;
    let knowing = ask(relay.address, "/tasks/t?wait=30", Some(1));
    waiting(&relay, 1).await;
    until("it was asked", async || asked(&relay) == 1).await;
    change(&relay, false);
    let (answer, _) = within("the change", knowing).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("\"version\":2"),
        "{answer}"
    );
    assert!(!answer.contains("x-loro-internal"), "{answer}");
    assert_eq!(asked(&relay), 2);
    assert!(
        !relay
            .app
            .log()
            .seen
            .iter()
            .any(|seen| seen.contains("wait"))
    );

    // A client that knows nothing waits for a change of what is there; a finished task does not change.
    let ignorant = ask(relay.address, "/tasks/t?wait=30", None);
    until("it was asked", async || asked(&relay) == 3).await;
    change(&relay, true);
    let (answer, _) = within("the change", ignorant).await.unwrap();
    assert!(answer.contains("\"version\":3"), "{answer}");
    for (known, status) in [(None, 200), (Some(1), 200), (Some(3), 304)] {
        let (answer, took) = ask(relay.address, "/tasks/t?wait=30", known).await.unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
    // While no request waits, the app is asked nothing.
    assert_eq!(relay.metric("waiting").await, 0);
    relay.stop().await;
}

#[tokio::test]
async fn a_wait_ends_in_time() {
    let relay = relay_with(|_| {}).await;
    let waits = [None, Some(1)].map(|known| ask(relay.address, "/tasks/t?wait=1", known));
    for (wait, status) in waits.into_iter().zip([200, 304]) {
        let (answer, took) = wait.await.unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
        assert!(took >= Duration::from_secs(1), "{took:?}");
    }
    // What the app refuses, or need not hold, goes to the app.
    let (answer, _) = ask(relay.address, "/tasks/t?wait=51", None).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        relay
            .app
            .log()
            .seen
            .contains(&"GET /tasks/t?wait=51".to_owned())
    );
    relay.stop().await;
}

#[tokio::test]
async fn places_are_bounded_and_come_back() {
    let relay = relay_with(|settings| settings.max_waiters = 2).await;
    let target = question("/tasks/t?wait=30", Some(1));
    let mut first = TcpStream::connect(relay.address).await.unwrap();
    first.write_all(target.as_bytes()).await.unwrap();
    waiting(&relay, 1).await;
    // Half of the places may be of one address.
    let (refused, _) = ask(relay.address, "/tasks/t?wait=30", Some(1))
        .await
        .unwrap();
    assert!(
        refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after"),
        "{refused}"
    );
    // A client that hangs up waits no longer.
    drop(first);
    waiting(&relay, 0).await;
    let second = ask(relay.address, "/tasks/t?wait=30", Some(1));
    waiting(&relay, 1).await;
    // A relay that goes down answers.
    relay.stop().await;
    let (answer, _) = second.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 304"), "{answer}");
}

#[tokio::test]
async fn a_client_that_may_not_ask_any_more_waits_no_longer() {
    let relay = relay_with(|settings| settings.recheck_interval = Duration::from_millis(100)).await;
    let wait = ask(relay.address, "/tasks/t?wait=30", Some(1));
    waiting(&relay, 1).await;
    relay.app.log().tasks.clear();
    let (answer, took) = within("the refusal", wait).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    relay.stop().await;
}

/// Answers the report: "Agents that waited took every instance of the app."
#[tokio::test]
async fn five_hundred_wait_and_all_get_the_change() {
    let relay = relay_with(|settings| settings.requests_per_address = 1).await;
    let waits: Vec<_> = (0..500)
        .map(|_| ask(relay.address, "/tasks/t?wait=50", Some(1)))
        .collect();
    until("all wait", async || relay.metric("waiting").await == 500).await;
    until("all have asked", async || asked(&relay) == 500).await;
    // They hold nothing at the app, so the one request that may be under way gets through.
    let answer = request(relay.address, &question("/x", None)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    change(&relay, true);
    for wait in waits {
        let (answer, _) = within("the change", wait).await.unwrap();
        assert!(answer.contains("\"version\":2"), "{answer}");
    }
    // All were compared by one question at a time.
    assert!(relay.app.log().marks.iter().all(|tasks| *tasks == 1));
    relay.stop().await;
}

/// Answers the report: "A `wait` that was written in another way held an instance of the app."
#[tokio::test]
async fn no_wait_reaches_the_app_however_it_is_written() {
    let relay = relay_with(|_| {}).await;
    for (method, target) in [
        ("HEAD", "/tasks/t?wait=30"),
        ("DELETE", "/tasks/t?wait=30&wait=8"),
        ("GET", "/tasks/t/other?wait=30"),
        ("GET", "/tasks/t?%77ait=%31"),
        ("GET", "/tasks/t?a=b&wait=1"),
    ] {
        let question = question(target, None).replacen("GET", method, 1);
        let question = question.replacen("host", "prefer: wait=9\r\nhost", 1);
        let answer = request(relay.address, &question).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(!answer.contains("prefer"), "{answer}");
    }
    let asked: Vec<String> = {
        let log = relay.app.log();
        let seen = log.seen.iter().filter(|seen| seen.contains("/tasks/"));
        seen.cloned().collect()
    };
    let has_wait = asked.iter().any(|seen| seen.contains("ait="));
    assert!(asked.len() >= 5 && !has_wait, "{asked:?}");
    relay.stop().await;
}
