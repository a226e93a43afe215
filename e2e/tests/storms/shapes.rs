//! The shapes of edits whose state is hard to compute, all written into one room at the same time.

use std::time::{Duration, Instant};

use e2e::host::{Host, Kind, Setup};
use e2e::raw::{change, open_on};
use e2e::wait::soon;
use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use loro::LoroDoc;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_tungstenite::tungstenite::Message;

use crate::neighbours::Neighbours;
use crate::sources::{STORM, connect};
use crate::terms::{Terms, most_memory, percentile, processor, settle};

const KIB: usize = 1 << 10;

/// The processor time that an idle host stays below, in percent of a core.
const IDLE: f64 = 2.0;

/// The updates that one client sends, in their order.
type Sent = Vec<Vec<u8>>;

/// Makes the updates of a client that appends pieces of this many bytes to a text.
fn appended(text: &str, count: usize, bytes: usize) -> Sent {
    let doc = LoroDoc::new();
    let append = |_| insert(&doc, text, doc.get_text(text).len_unicode(), bytes);
    (0..count).map(append).collect()
}

fn insert(doc: &LoroDoc, text: &str, at: usize, bytes: usize) -> Vec<u8> {
    let letters = "x".repeat(bytes);
    change(doc, |doc| doc.get_text(text).insert(at, &letters).unwrap())
}

/// Makes the updates of ten clients that insert 1 KiB anywhere, each without the last update of the nine others.
fn ten_at_once(text: &str, rounds: usize) -> Vec<Sent> {
    let docs: Vec<LoroDoc> = (0..10).map(|_| LoroDoc::new()).collect();
    let mut sent = vec![Vec::new(); docs.len()];
    for _ in 0..rounds {
        let length = docs[0].get_text(text).len_unicode();
        let anywhere = |doc| insert(doc, text, rand::random_range(0..=length), KIB);
        let round: Sent = docs.iter().map(anywhere).collect();
        for doc in &docs {
            doc.import_batch(&round).unwrap();
        }
        for (sent, update) in sent.iter_mut().zip(round) {
            sent.push(update);
        }
    }
    sent
}

/// Makes the updates that the clients of all six shapes send.
fn all() -> Vec<Sent> {
    let mut all = vec![
        appended("short", 384, KIB),
        appended("longer", 100, 10 * KIB),
        appended("long", 300, 16 * KIB),
    ];
    all.extend(ten_at_once("anywhere", 39));
    all.extend((0..2).map(|_| appended("twice", 100, 10 * KIB)));
    all.extend((0..2).map(|_| appended("pasted", 1, KIB * KIB)));
    all
}

/// Joins and sends these updates over a time, and waits until they are saved. Updates of others are read and dropped.
async fn write(address: &str, sent: Sent, lasts: Duration) {
    let stream = connect(STORM, address).await.unwrap();
    let path = "/sync/shapes?events=1";
    let socket = open_on(stream, address, path).await.unwrap();
    let (mut out, mut heard) = socket.split();
    let count = u32::try_from(sent.len()).unwrap();
    let sending = async {
        let mut ticks = interval(lasts / count);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for update in sent {
            ticks.tick().await;
            out.send(Message::Binary(update.into())).await.unwrap();
        }
    };
    let saved = async {
        while let Some(message) = heard.next().await {
            let Message::Text(event) = message.unwrap() else {
                continue;
            };
            let event: serde_json::Value = serde_json::from_str(&event).unwrap();
            match event["type"].as_str() {
                Some("saved") if event["frames"] == count => return,
                Some("error") => panic!("{event}"),
                _ => {}
            }
        }
        panic!("the connection ended");
    };
    soon("all is saved", async { tokio::join!(sending, saved) }).await;
}

/// Checks that other users notice nothing while all six shapes are written into one room, and for five minutes after; and
/// that the host is idle then.
#[ignore = "takes minutes: cargo xtask test --long"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_shapes_in_one_room_disturb_no_other() {
    let terms = Terms::whole();
    let all = all();
    let updates: Vec<usize> = all.iter().flatten().map(Vec::len).collect();
    let bytes: usize = updates.iter().sum();
    let host = Setup::new(Kind::Native).start().await;
    let quiet = sleep(terms.before);
    beside(&host, "before", quiet).await;
    settle(&host).await;

    println!("{} updates of {} KiB in all", updates.len(), bytes / KIB);
    let writing = all.into_iter();
    let writing = writing.map(|sent| write(&host.address, sent, terms.lasts));
    beside(&host, "while they are written", join_all(writing)).await;
    let after = sleep(terms.calm_within.unwrap_or_default());
    beside(&host, "after", after).await;
    println!("{}", stored(&host));
    let processor = processor(&host).await;
    let memory = host.process.memory();
    println!("then idle: {memory} MiB, {processor:.1} % of a core");
    assert!(processor < IDLE, "{processor:.1} %");
}

/// Measures what other users notice meanwhile, prints it, and checks it.
async fn beside<T>(host: &Host, when: &str, meanwhile: impl Future<Output = T>) {
    let terms = Terms::whole();
    let (used, start) = (host.process.processor_time(), Instant::now());
    let neighbours = Neighbours::begin(&host.address);
    let (ended, over) = watch::channel(false);
    let meanwhile = async {
        meanwhile.await;
        ended.send_replace(true);
    };
    let (most, ()) = tokio::join!(most_memory(host, over), meanwhile);
    let (took, health) = neighbours.end().await;
    println!(
        "{when}, {:.0?}: {} edits of others took p50 {:.1?}, p99 {:.1?}, at most {:.1?}; memory at most {most} MiB; \
         processor time {:.1?}",
        start.elapsed(),
        took.len(),
        percentile(&took, 50),
        percentile(&took, 99),
        percentile(&took, 100),
        host.process.processor_time() - used,
    );
    assert!(percentile(&took, 99) <= terms.latency);
    assert!(health.bad.is_empty(), "{health:?}");
    assert!(most <= terms.memory, "{most} MiB");
}

/// Describes what is stored of the room.
fn stored(host: &Host) -> String {
    let database = rusqlite::Connection::open(host.database()).unwrap();
    let count = |sql: &str| -> i64 { database.query_row(sql, [], |row| row.get(0)).unwrap() };
    format!(
        "the room has {} snapshots with a state, {} without, {} blobs and {} rows",
        count("SELECT count(*) FROM loro_snapshots WHERE project_id = 'shapes' AND has_state = 1"),
        count("SELECT count(*) FROM loro_snapshots WHERE project_id = 'shapes' AND has_state = 0"),
        count("SELECT count(*) FROM loro_blobs WHERE project_id = 'shapes'"),
        count("SELECT count(*) FROM loro_updates WHERE project_id = 'shapes'"),
    )
}
