//! The streams of events, which the relay holds.

use crate::fake_app::{Log, Mood, Task};
use crate::http::request;
use crate::{Relay, until, within};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use relay::Settings;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Answers what is new of a task, as the app does: each version is an event.
pub(crate) fn answer(
    log: &Mutex<Log>,
    id: &str,
    head: &http::request::Parts,
) -> Response<Full<Bytes>> {
    let log = log.lock().unwrap();
    if log.mood == Mood::Unavailable {
        return plain(503);
    }
    let Some(Task {
        version,
        is_finished,
    }) = log.tasks.get(id)
    else {
        return plain(404);
    };
    let known = head.headers.get("last-event-id");
    let known = known.and_then(|known| known.to_str().ok()?.parse().ok());
    let news = known.unwrap_or(version - 1) + 1..=*version;
    if *is_finished && news.is_empty() {
        return plain(204);
    }
    // Each answer has one event.
    let told = news.clone().next();
    let event = told.map(|version| format!("id: {version}\ndata: {{}}\n\n"));
    let next = match told.unwrap_or(*version) {
        told if told < *version => format!("{told} more"),
        _ if *is_finished => "end".to_owned(),
        told => told.to_string(),
    };
    Response::builder()
        .header("content-type", "text/event-stream")
        .header(wire::TASK_EVENTS, next)
        .body(event.unwrap_or_default().into())
        .unwrap()
}

fn plain(status: u16) -> Response<Full<Bytes>> {
    let answer = Response::builder().status(status);
    answer.body(Full::default()).unwrap()
}

/// A stream of the events of the task `t`.
struct Stream {
    tcp: TcpStream,
    read: String,
}

impl Stream {
    async fn open(relay: &Relay, last: Option<u64>) -> Self {
        let last = last.map(|last| format!("last-event-id: {last}\r\n"));
        let target = "GET /tasks/t/events HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
        let question = format!("{target}{}\r\n", last.unwrap_or_default());
        let mut tcp = TcpStream::connect(relay.address).await.unwrap();
        tcp.write_all(question.as_bytes()).await.unwrap();
        Self {
            tcp,
            read: String::new(),
        }
    }

    /// Reads on until this has come.
    async fn until(&mut self, text: &str) {
        within(text, async {
            let mut piece = [0; 4096];
            while !self.read.contains(text) {
                let count = self.tcp.read(&mut piece).await.unwrap();
                assert!(count > 0, "{text} has not come: {}", self.read);
                self.read += &String::from_utf8_lossy(&piece[..count]);
            }
        })
        .await;
    }

    /// Reads to the end, and returns the ids of all events.
    async fn end(mut self) -> Vec<u64> {
        let mut rest = Vec::new();
        let reading = self.tcp.read_to_end(&mut rest);
        within("the end of the stream", reading).await.unwrap();
        self.read += &String::from_utf8_lossy(&rest);
        let ids = self
            .read
            .lines()
            .filter_map(|line| line.strip_prefix("id: "));
        ids.map(|id| id.parse().unwrap()).collect()
    }
}

async fn relay_with(adjust: impl FnOnce(&mut Settings)) -> Relay {
    let relay = Relay::start(adjust).await;
    set(&relay, 1, false);
    relay
}

fn set(relay: &Relay, version: u64, is_finished: bool) {
    let task = Task {
        version,
        is_finished,
    };
    relay.app.log().tasks.insert("t".into(), task);
}

#[tokio::test]
async fn each_change_is_sent_once_and_the_end_ends_the_stream() {
    let relay = relay_with(|_| {}).await;
    let mut stream = Stream::open(&relay, None).await;
    stream.until("id: 1\n").await;
    assert!(
        stream.read.starts_with("HTTP/1.1 200") && !stream.read.contains("x-loro-internal"),
        "{}",
        stream.read
    );
    assert!(stream.read.contains("text/event-stream"), "{}", stream.read);
    assert_eq!(relay.metric("waiting").await, 1);
    // The app sends them one at a time.
    set(&relay, 4, false);
    stream.until("id: 4\n").await;
    set(&relay, 5, true);
    assert_eq!(stream.end().await, [1, 2, 3, 4, 5]);
    until("its place is free", async || {
        relay.metric("waiting").await == 0
    })
    .await;
    // A client that comes back gets what it lacks, or an answer that there is nothing more.
    assert_eq!(Stream::open(&relay, Some(3)).await.end().await, [4, 5]);
    let question =
        "GET /tasks/t/events HTTP/1.1\r\nhost: x\r\nlast-event-id: 5\r\nconnection: close\r\n\r\n";
    let answer = request(relay.address, question).await;
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    relay.stop().await;
}

#[tokio::test]
async fn a_stream_outlives_an_app_that_is_away_and_ends_with_its_access() {
    let relay = relay_with(|settings| {
        settings.recheck_interval = Duration::from_millis(100);
        settings.recheck_patience = Duration::from_secs(600);
    })
    .await;
    let mut stream = Stream::open(&relay, None).await;
    stream.until("id: 1\n").await;
    relay.app.log().mood = Mood::Unavailable;
    set(&relay, 2, false);
    let asked = || relay.app.log().seen.len();
    let before = asked();
    until("the app was asked in vain", async || asked() > before + 2).await;
    relay.app.log().mood = Mood::default();
    stream.until("id: 2\n").await;
    // A client that may no longer ask is not served on.
    relay.app.log().tasks.clear();
    assert_eq!(stream.end().await, [1, 2]);
    let question = "GET /tasks/t/events HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = request(relay.address, question).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    relay.stop().await;
}

#[tokio::test]
async fn an_app_that_stays_away_ends_the_stream() {
    let relay = relay_with(|settings| {
        settings.recheck_interval = Duration::from_millis(50);
        settings.recheck_patience = Duration::from_millis(50);
    })
    .await;
    let mut stream = Stream::open(&relay, None).await;
    stream.until("id: 1\n").await;
    relay.app.log().mood = Mood::Unavailable;
    assert_eq!(stream.end().await, [1]);
    relay.stop().await;
}

#[tokio::test]
async fn streams_are_bounded_and_end_with_the_relay() {
    let relay = relay_with(|settings| settings.max_waiters = 2).await;
    let mut first = Stream::open(&relay, None).await;
    first.until("id: 1\n").await;
    // Half of the places may be of one address.
    let mut refused = Stream::open(&relay, None).await;
    refused.until("HTTP/1.1 503").await;
    drop(first);
    until("its place is free", async || {
        relay.metric("waiting").await == 0
    })
    .await;
    let mut second = Stream::open(&relay, None).await;
    second.until("id: 1\n").await;
    relay.stop().await;
    assert_eq!(second.end().await, [1]);
}
