//! Checks which update is blamed if the real component dies: a panic of its own code, which it reports before it dies,
//! blames the update on which it panicked; a lack of time blames none.

use std::any::Any;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};

use e2e::both_relays;
use e2e::host::{Host, Kind, Setup};
use e2e::http::Answer;
use e2e::raw::{Client, change};
use loro::{ExportMode, LoroDoc, LoroError, VersionVector};
use rusqlite::Connection;
use xxhash_rust::xxh32::xxh32;

use crate::memory::{Shape, fill};
use crate::quarantine::quarantined;

/// The index of the first byte of an update that its checksum covers.
const CHECKED_FROM: usize = 20;
/// The index of the first byte of its blocks of changes.
const BLOCKS_FROM: usize = 22;

/// Makes an update for a document, damaged so that Loro's code panics when it computes the state, although the history
/// accepts the update; and returns it with the message of that panic. Its checksum is right, so that nothing else finds
/// the damage first. `is_read_back` says whether Loro writes the update out again as it was; if it does not, the app finds
/// that before it panics.
fn panicking(doc: &LoroDoc, is_read_back: bool) -> (Vec<u8>, String) {
    let whole = doc.export(ExportMode::all_updates()).unwrap();
    let later = doc.fork();
    later.set_peer_id(3).unwrap();
    let good = change(&later, |doc| {
        doc.get_map("map").insert("more", "words").unwrap();
        doc.get_text("text").insert(2, "hello").unwrap();
        doc.get_text("text").delete(0, 1).unwrap();
    });
    let version = later.oplog_vv();
    for at in BLOCKS_FROM..good.len() {
        for bits in 1..=u8::MAX {
            let mut bad = good.clone();
            bad[at] ^= bits;
            let checksum = xxh32(&bad[CHECKED_FROM..], u32::from_le_bytes(*b"LORO"));
            bad[CHECKED_FROM - 4..CHECKED_FROM].copy_from_slice(&checksum.to_le_bytes());
            let by = |way| catch_unwind(AssertUnwindSafe(|| read(&whole, &bad, way)));
            let Ok(Ok((reached, written))) = by(Way::Detached) else {
                continue;
            };
            if reached != version || (written == version) != is_read_back {
                continue;
            }
            if let (Err(panic), Err(_)) = (by(Way::AsOne), by(Way::OneByOne)) {
                return (bad, words(&*panic));
            }
        }
    }
    panic!("Loro panics on none of them");
}

/// The ways in which the app reads a document with an update. It chooses between the last two to compute a state.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Detached,
    AsOne,
    OneByOne,
}

/// Reads a document with an update, and returns the version that is reached, and that which Loro writes out.
fn read(
    whole: &[u8],
    update: &[u8],
    way: Way,
) -> Result<(VersionVector, VersionVector), LoroError> {
    // After a panic a document may not be dropped.
    let doc = ManuallyDrop::new(LoroDoc::new());
    if way != Way::OneByOne {
        doc.detach();
    }
    doc.import(whole)?;
    doc.import(update)?;
    if way == Way::OneByOne {
        drop(doc.get_deep_value());
    }
    // Loro reads only now what it has imported as mere bytes.
    let all = doc.export(ExportMode::all_updates()).unwrap_or_default();
    if way == Way::AsOne {
        let state = ManuallyDrop::new(LoroDoc::new());
        state.import(&all)?;
        drop(state.get_deep_value());
        drop(ManuallyDrop::into_inner(state));
    }
    let version = doc.oplog_vv();
    drop(ManuallyDrop::into_inner(doc));
    let written = LoroDoc::decode_import_blob_meta(&all, false)?.partial_end_vv;
    Ok((version, written))
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap()
}

fn reports(host: &Host) -> u64 {
    let database = Connection::open(host.database()).unwrap();
    let count = database.query_row("SELECT count(*) FROM loro_panics", [], |row| row.get(0));
    u64::try_from(count.unwrap_or(-1_i64)).unwrap()
}

async fn json(host: &Host, project: &str) -> Answer {
    let headers = [("accept", "application/json")];
    let path = format!("/sync/{project}");
    host.http().get_with(&path, &headers).await
}

both_relays! {
    /// The damaged update is written directly to the database, because an append refuses it.
    async fn an_update_on_which_the_component_panics_is_moved_aside(relay: Kind) {
        let host = Host::start(relay).await;
        // Under random peer ids the search may find an update for which Loro asks for more memory than there is.
        let (doc, other) = (LoroDoc::new(), LoroDoc::new());
        doc.set_peer_id(1).unwrap();
        other.set_peer_id(2).unwrap();
        let base = change(&doc, |doc| {
            doc.get_text("text").insert(0, "fine").unwrap();
            doc.get_map("map").insert("a", 1).unwrap();
        });
        let later = change(&other, |doc| doc.get_map("map").insert("b", 2).unwrap());
        assert_eq!(host.http().post("/sync/other", base.clone()).await.rev(), 1);
        for (project, is_read_back) in [("p", true), ("q", false)] {
            let (bad, panic) = panicking(&doc, is_read_back);
            // The first rev that is filled is 2.
            fill(&host.database(), project, None, &[base.clone(), bad, later.clone()]);
            let read = json(&host, project).await;
            assert_eq!(read.status, 200, "{read:?}");
            assert_eq!(read.json(), serde_json::json!({"text": "fine", "map": {"a": 1, "b": 2}}));
            let blamed = quarantined(&host, project);
            let [(3, reason)] = &blamed[..] else {
                panic!("blamed are {blamed:?}");
            };
            assert_eq!(reason == &panic, is_read_back, "{reason}");
        }
        assert_eq!(quarantined(&host, "other"), []);
        assert_eq!(reports(&host), 0);
        // The room goes on.
        let client = Client::join_with_events(&host.address, "p").await;
        client.event("synced").await;
        client.typed("and on").await;
        assert_eq!(client.saved(1).await, 5);
        assert_eq!(json(&host, "other").await.json()["text"], "fine");
    }
}

/// An instance that has no time left reports nothing, so no update is to blame.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_that_takes_too_much_time_is_not_blamed() {
    let host = Setup::new(Kind::Native)
        .option("--instance-memory", "1024")
        .variable("instance_memory_mib", "1024")
        .option("--instance-cpu", "1")
        .start()
        .await;
    assert_eq!(host.http().get("/health").await.status, 200);
    let doc = LoroDoc::new();
    let log = Shape::Canvas.write(&doc, 8 << 20);
    fill(&host.database(), "p", None, &log);
    json(&host, "p")
        .await
        .assert_problem(503, "state-unavailable");
    assert_eq!(quarantined(&host, "p"), []);
    assert_eq!(reports(&host), 0);
    let client = Client::join(&host.address, "p").await;
    let whole = |client: &Client| client.doc().oplog_vv() == doc.oplog_vv();
    client.until("the document", whole).await;
}
