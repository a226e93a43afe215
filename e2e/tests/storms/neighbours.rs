//! The neighbours of a storm: two users who edit in another room, and one who looks whether the server is healthy.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;
use e2e::http::Http;
use e2e::raw::{change, open_on};
use e2e::wait::soon;
use futures_util::{SinkExt, StreamExt};
use http::Method;
use loro::LoroDoc;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::sources::{USERS, connect};

/// The pause between two edits.
const TYPING: Duration = Duration::from_millis(20);

/// The pause between two questions whether the server is healthy.
const LOOKING: Duration = Duration::from_millis(200);

/// The longest time for an answer to that question.
const HEALTH: Duration = Duration::from_secs(5);

/// Types a letter every 20 ms until `over`, and returns how long each took to reach the other user.
pub(crate) async fn type_until(address: &str, mut over: watch::Receiver<bool>) -> Vec<Duration> {
    let join = async || {
        let stream = connect(USERS, address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut socket = open_on(stream, address, "/sync/neighbours").await.unwrap();
        soon("the state", socket.next()).await.unwrap().unwrap();
        socket.split()
    };
    let (mut writer, mut writer_hears) = join().await;
    let (_reader, mut reader_hears) = join().await;
    let doc = LoroDoc::new();
    let peer = doc.peer_id();
    let typed = Mutex::new(VecDeque::new());
    let mut took = Vec::new();

    let typing = async {
        let mut ticks = interval(TYPING);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0;
        while !*over.borrow_and_update() {
            ticks.tick().await;
            let update = change(&doc, |doc| doc.get_text("text").insert(count, "x").unwrap());
            count += 1;
            typed.lock().unwrap().push_back((count, Instant::now()));
            let sent = writer.send(Message::Binary(update.into())).await;
            sent.unwrap_or_else(|error| panic!("letter {count} could not be sent: {error}"));
        }
        count
    };
    let mut heard = 0;
    let mut hear = async |count: Option<usize>| {
        while count.is_none_or(|count| heard < count) {
            let message = reader_hears.next().await.unwrap().unwrap();
            let Message::Binary(update) = message else {
                continue;
            };
            heard = letters(&update, peer).max(heard);
            let mut typed = typed.lock().unwrap();
            while typed.front().is_some_and(|(letter, _)| *letter <= heard) {
                let (_, since) = typed.pop_front().unwrap();
                took.push(since.elapsed());
            }
        }
    };
    // The writer's own socket is read, so that its pings are answered.
    let answering = async { while let Some(Ok(_)) = writer_hears.next().await {} };
    let count = tokio::select! {
        count = typing => count,
        () = hear(None) => unreachable!("it hears without an end"),
        () = answering => panic!("the writer's connection ended"),
    };
    soon("all letters arrive", hear(Some(count))).await;
    took
}

/// How many letters of a peer the document has after this update.
fn letters(update: &[u8], peer: u64) -> usize {
    let meta = LoroDoc::decode_import_blob_meta(update, false).unwrap();
    let count = meta.partial_end_vv.get(&peer).copied().unwrap_or(0);
    usize::try_from(count).unwrap()
}

/// What the server answered to the question whether it is healthy.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// How often it was asked.
    pub(crate) asked: usize,
    /// What went wrong.
    pub(crate) bad: Vec<String>,
    /// The longest time until an answer.
    pub(crate) slowest: Duration,
}

/// Asks every 200 ms until `over`.
pub(crate) async fn look_until(address: &str, mut over: watch::Receiver<bool>) -> Health {
    let http = Http::new(address);
    let mut health = Health::default();
    let mut ticks = interval(LOOKING);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !*over.borrow_and_update() {
        ticks.tick().await;
        let start = Instant::now();
        let answer = http.try_send(Method::GET, "/health", &[], Bytes::new());
        health.asked += 1;
        match timeout(HEALTH, answer).await {
            Ok(Ok(answer)) if answer.status == 200 => {}
            Ok(Ok(answer)) => health.bad.push(answer.status.to_string()),
            Ok(Err(error)) => health.bad.push(error.to_string()),
            Err(_) => health.bad.push(format!("no answer within {HEALTH:?}")),
        }
        health.slowest = health.slowest.max(start.elapsed());
    }
    health
}
