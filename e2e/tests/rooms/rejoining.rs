//! Checks rejoining: very many clients come back to one room at once, each with a version of its own.

use std::time::{Duration, Instant};

use bytes::Bytes;
use e2e::host::{Kind, Setup};
use e2e::raw::{change, open};
use e2e::wait::soon;
use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use http::Method;
use loro::LoroDoc;
use tokio_tungstenite::tungstenite::Message;

use crate::memory::fill;

const CLIENTS: usize = 1000;
const PEERS: u64 = 1000;
const UPDATES: usize = 4096;

/// The longest time that the last of them may wait, on two cores that do nothing else.
const WITHIN: Duration = Duration::from_secs(20);

/// The ways in which the peers write.
#[derive(Debug, Clone, Copy)]
enum Edits {
    /// A value of a map: one operation.
    Values,
    /// The letters of a text: an operation for each.
    Letters,
}

impl Edits {
    /// Writes an update of about a KiB.
    fn write(self, doc: &LoroDoc, number: usize) {
        let letters = (0..900).map(|_| char::from(rand::random_range(b'a'..=b'z')));
        let letters: String = letters.collect();
        match self {
            Self::Values => {
                let map = doc.get_map("map");
                map.insert(&number.to_string(), letters).unwrap();
            }
            Self::Letters => {
                let text = doc.get_text("text");
                text.insert(text.len_unicode(), &letters).unwrap();
            }
        }
    }
}

/// Joins with a version, without a document, and returns the number of bytes of the blobs until nothing is missing.
async fn rejoin(address: &str, version: &[u8]) -> usize {
    let path = "/sync/p?version=frame&events=1";
    let mut socket = open(address, path).await.unwrap();
    let version = Bytes::copy_from_slice(version);
    socket.send(Message::Binary(version)).await.unwrap();
    let mut bytes = 0;
    while let Some(message) = socket.next().await {
        match message.unwrap() {
            Message::Binary(blob) => bytes += blob.len(),
            Message::Text(event) if event.contains("\"synced\"") => return bytes,
            Message::Close(close) => panic!("closed: {close:?}"),
            _ => {}
        }
    }
    panic!("the connection ended after {bytes} bytes");
}

/// Lets a thousand clients rejoin, as after a restart of the relay: each is 1 to 1,000 updates behind, in a room of 4 MiB
/// that a thousand peers have written.
#[ignore = "takes a minute: cargo xtask test --long"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_with_versions_of_their_own_rejoin() {
    for edits in [Edits::Values, Edits::Letters] {
        hold(edits).await;
    }
}

async fn hold(edits: Edits) {
    let host = Setup::new(Kind::Native)
        .variable("internal_token", "t")
        .start()
        .await;
    assert_eq!(host.http().get("/health").await.status, 200);
    let doc = LoroDoc::new();
    let (mut log, mut versions) = (Vec::new(), Vec::new());
    for n in 0..UPDATES {
        versions.push(doc.oplog_vv().encode());
        doc.set_peer_id(n as u64 % PEERS + 1).unwrap();
        log.push(change(&doc, |doc| edits.write(doc, n)));
    }
    let stored = fill(&host.database(), "p", None, &log);
    let headers = [("authorization", "Bearer t")];
    let compact = "/internal/rooms/p/compact";
    let http = host.app_http();
    let answer = http.send(Method::POST, compact, &headers, Bytes::new());
    let answer = answer.await;
    assert_eq!(answer.status, 202, "{answer:?}");

    let (start, busy) = (Instant::now(), host.process.processor_time());
    let (address, versions) = (&host.address, &versions);
    let rejoined = join_all((1..=CLIENTS).map(|behind| async move {
        let joins = rejoin(address, &versions[UPDATES - behind]);
        let got = soon("the state", joins).await;
        // The updates that it lacks do not fit into fewer bytes.
        assert!(got > behind * 500, "{behind} behind: {got} bytes");
        (start.elapsed(), got)
    }))
    .await;
    let mut took: Vec<Duration> = rejoined.iter().map(|(took, _)| *took).collect();
    took.sort_unstable();
    let last = took[CLIENTS - 1];
    let got: usize = rejoined.iter().map(|(_, got)| got).sum();
    let reads = host.http().metric("relay_state_reads_total", "t").await;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "{edits:?}: {CLIENTS} clients rejoin {} KiB of {PEERS} peers: half after {:?}, the last after {last:?}; {reads} \
         reads, {} KiB in all, {} KiB lacking; processor time {:?}, memory {} MiB; load {}",
        stored >> 10,
        took[CLIENTS / 2],
        got >> 10,
        (CLIENTS * (CLIENTS + 1) / 2 * stored / UPDATES) >> 10,
        host.process.processor_time() - busy,
        host.process.memory(),
        load.trim(),
    );
    assert!(last < WITHIN, "{last:?}");
}
