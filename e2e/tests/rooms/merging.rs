//! Checks merging: a room stays joinable whatever was written into it, even while its state is not computed yet.

use std::time::{Duration, Instant};

use bytes::Bytes;
use e2e::both_relays;
use e2e::host::{Host, Kind, Setup};
use e2e::raw::{Client, Heard, change};
use e2e::wait::until_within;
use http::Method;
use loro::LoroDoc;

/// The longest that a read may take, with much room for a busy machine: the client of a costly document needs some seconds
/// for itself.
const SOON: Duration = Duration::from_secs(20);

/// The longest time for which a costly document may have no state.
const MERGED: Duration = Duration::from_secs(120);

/// The most by which the server's memory may grow meanwhile, in MiB.
const GROWTH: u64 = 600;

fn append(doc: &LoroDoc, length: usize) -> Vec<u8> {
    change(doc, |doc| {
        let text = doc.get_text("text");
        text.insert(text.len_unicode(), &"x".repeat(length))
            .unwrap();
    })
}

/// Reads the document in every way, each soon, and returns the length of its text.
async fn read_soon(host: &Host, project: &str) -> usize {
    let start = Instant::now();
    let (stored, _) = host.http().document(project).await;
    assert!(start.elapsed() < SOON, "GET took {:?}", start.elapsed());
    let length = stored.get_text("text").len_unicode();
    for version in [false, true] {
        let start = Instant::now();
        let client = if version {
            Client::rejoin(&host.address, project, LoroDoc::new()).await
        } else {
            Client::join_with_events(&host.address, project).await
        };
        client
            .until("the text", |client| {
                client.doc().get_text("text").len_unicode() == length
            })
            .await;
        assert!(start.elapsed() < SOON, "a join took {:?}", start.elapsed());
    }
    length
}

both_relays! {
    /// A script streams text to the end of a document, as agents do with the words of a language model.
    async fn a_stream_of_large_appends_is_read_at_once(relay: Kind) {
        let host = Host::start(relay).await;
        let before = host.process.memory();
        let doc = LoroDoc::new();
        for n in 0..300 {
            let rev = host.http().post("/sync/p", append(&doc, 16 << 10)).await.rev();
            assert_eq!(rev, n + 1);
        }
        assert_eq!(read_soon(&host, "p").await, 300 * (16 << 10));
        let start = Instant::now();
        let json = host.http().get_with("/sync/p", &[("accept", "application/json")]).await;
        assert_eq!(json.json()["text"].as_str().unwrap().len(), 300 * (16 << 10));
        assert!(start.elapsed() < SOON, "JSON took {:?}", start.elapsed());
        let grown = host.process.memory().saturating_sub(before);
        assert!(grown < GROWTH, "the server grew by {grown} MiB");
    }

    /// Posts the edits of two writers who never see each other's: the state is costly, so a blob stands for it until it is
    /// computed.
    async fn a_costly_document_is_read_as_a_blob_and_merged_later(relay: Kind) {
        let host = Setup::new(relay).variable("internal_token", "t").start().await;
        let (one, two) = (LoroDoc::new(), LoroDoc::new());
        for _ in 0..25 {
            for doc in [&one, &two] {
                assert_eq!(host.http().post("/sync/p", append(doc, 8 << 10)).await.status, 200);
            }
        }
        let internal = async |path: &str| {
            let headers = [("authorization", "Bearer t")];
            let answer = host.app_http().send(Method::POST, path, &headers, Bytes::new()).await;
            assert_eq!(answer.status, 202, "{answer:?}");
        };
        let json = async || {
            host.http().get_with("/sync/p", &[("accept", "application/json")]).await
        };
        json().await.assert_problem(503, "state-unavailable");
        internal("/internal/rooms/p/compact").await;
        assert_eq!(read_soon(&host, "p").await, 2 * 25 * (8 << 10));
        internal("/internal/sweep").await;
        // A merge waits for all other work.
        until_within(MERGED, "the state", async || json().await.status == 200).await;
        assert_eq!(read_soon(&host, "p").await, 2 * 25 * (8 << 10));
        // A client with a new document gets that state, and need not compute it.
        let newcomer = Client::rejoin(&host.address, "p", LoroDoc::new()).await;
        newcomer.event("synced").await;
        let heard = newcomer.heard();
        let state = heard.iter().find_map(|heard| match heard {
            Heard::Blob(blob) => Some(LoroDoc::decode_import_blob_meta(blob, false).unwrap()),
            _ => None,
        });
        assert!(state.unwrap().mode.is_snapshot());
    }
}

/// Fills documents of more than 1 MiB, which are compacted without their state, because the state takes longer. No cron
/// component sweeps here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_sweep_merges_all_large_documents() {
    let setup = Setup::new(Kind::Native).option("--triggers", "http");
    let host = setup.variable("internal_token", "t").start().await;
    let internal = async |path: &str| {
        let headers = [("authorization", "Bearer t")];
        let (http, nothing) = (host.app_http(), Bytes::new());
        let answer = http.send(Method::POST, path, &headers, nothing).await;
        assert_eq!(answer.status, 202, "{answer:?}");
    };
    let is_merged = async |project: &str| {
        let stored = host.http().get(&format!("/sync/{project}")).await;
        let meta = LoroDoc::decode_import_blob_meta(&stored.body, false).unwrap();
        meta.mode.is_snapshot()
    };
    let rooms = ["p", "q", "r"];
    for project in rooms {
        let doc = LoroDoc::new();
        for _ in 0..3 {
            let path = format!("/sync/{project}");
            let answer = host.http().post(&path, append(&doc, 400 << 10)).await;
            assert_eq!(answer.status, 200);
        }
        internal(&format!("/internal/rooms/{project}/compact")).await;
        until_within(SOON, "a blob", async || !is_merged(project).await).await;
    }
    internal("/internal/sweep").await;
    for project in rooms {
        until_within(MERGED, "the state", async || is_merged(project).await).await;
    }
}
