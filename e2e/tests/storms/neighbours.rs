//! The neighbours of a storm: two users who edit in another room, and a caller that checks whether the server is healthy.

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
use tokio::sync::{oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::sources::{USERS, connect};

/// The pause between two edits.
const TYPING: Duration = Duration::from_millis(20);

/// The pause between two checks whether the server is healthy.
const LOOKING: Duration = Duration::from_millis(200);

/// The longest time for an answer to such a check.
const HEALTH: Duration = Duration::from_secs(5);

/// The neighbours, who act until [`Neighbours::end`]. They have a thread of their own, so that the storm's callers, which
/// are in the same process, do not hold them up.
pub(crate) struct Neighbours {
    over: watch::Sender<bool>,
    seen: oneshot::Receiver<(Vec<Duration>, Health)>,
}

impl Neighbours {
    /// Starts them at a host.
    pub(crate) fn begin(address: &str) -> Self {
        let (over, until) = watch::channel(false);
        let (tell, seen) = oneshot::channel();
        let address = address.to_owned();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let seen = runtime.block_on(async {
                tokio::join!(
                    type_until(&address, until.clone()),
                    look_until(&address, until.clone())
                )
            });
            // A test that has failed meanwhile needs no answer.
            let _ = tell.send(seen);
        });
        Self { over, seen }
    }

    /// Ends them, and returns how long each edit took, and what they saw of the host's health.
    pub(crate) async fn end(self) -> (Vec<Duration>, Health) {
        self.over.send_replace(true);
        self.seen.await.unwrap()
    }
}

/// Types a letter every 20 ms until `over`, and returns how long each took to reach the other user.
async fn type_until(address: &str, mut over: watch::Receiver<bool>) -> Vec<Duration> {
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
        () = hear(None) => unreachable!("it reads without an end"),
        () = answering => panic!("the writer's connection ended"),
    };
    soon("all letters arrive", hear(Some(count))).await;
    took
}

/// Returns how many letters of a peer the document has after this update.
fn letters(update: &[u8], peer: u64) -> usize {
    let meta = LoroDoc::decode_import_blob_meta(update, false).unwrap();
    let count = meta.partial_end_vv.get(&peer).copied().unwrap_or(0);
    usize::try_from(count).unwrap()
}

/// The results of the checks whether the server is healthy.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// The number of checks.
    pub(crate) asked: usize,
    /// The failed checks: another status than 200, an error, or no answer in time.
    pub(crate) bad: Vec<String>,
    /// The longest time until an answer.
    pub(crate) slowest: Duration,
}

/// Checks the server's health every 200 ms until `over`.
async fn look_until(address: &str, mut over: watch::Receiver<bool>) -> Health {
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
