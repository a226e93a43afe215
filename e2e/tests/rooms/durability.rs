//! Checks durability: an update is on disk before any other client sees it.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::both_relays;
use e2e::host::{Kind, Setup};
use e2e::raw::{Client, change};
use futures_util::future::join_all;
use loro::{LoroDoc, VersionVector};
use tokio::time::{Instant, sleep};

const WRITERS: usize = 4;
const READERS: usize = 2;

/// The marks in a document, which are the keys of the map `marks`.
fn marks(doc: &LoroDoc) -> BTreeSet<String> {
    let mut marks = BTreeSet::new();
    doc.get_map("marks").for_each(|key, _| {
        marks.insert(key.to_owned());
    });
    marks
}

/// Writes marks until the server dies. Returns the version up to which the writer's edits were confirmed as saved, and
/// the newest rev of those confirmations.
async fn write(client: &Client, writer: usize, round: usize) -> (VersionVector, u64) {
    let mut sent: Vec<VersionVector> = Vec::new();
    let mut frames = 0;
    let mut n = 0;
    while client.closed().is_none() {
        let update = client.change(|doc| {
            let mark = format!("{round}-{writer}-{n}");
            doc.get_map("marks").insert(&mark, true).unwrap();
            let text = doc.get_text("text");
            text.insert(text.len_unicode(), &mark).unwrap();
        });
        let own = client.doc().oplog_vv();
        let message = tokio_tungstenite::tungstenite::Message::Binary(update.into());
        if client.try_send(message).await.is_err() {
            break;
        }
        frames += 1;
        sent.push(own);
        n += 1;
        // A bounded number of edits is under way at any moment, and never none.
        while frames > client.decided() + 8 && client.closed().is_none() {
            sleep(Duration::from_millis(1)).await;
        }
    }
    let decided = usize::try_from(client.decided()).unwrap();
    let confirmed = decided
        .checked_sub(1)
        .map_or_else(VersionVector::default, |last| {
            // The version includes edits of others that the writer has seen, which must be on disk, too.
            sent[last.min(sent.len() - 1)].clone()
        });
    let rev = client
        .events("saved")
        .iter()
        .filter_map(|event| event["rev"].as_u64())
        .max();
    (confirmed, rev.unwrap_or(0))
}

/// Kills the host with SIGKILL under load, this many times, while lines between relay and app are replaced after every few
/// requests. Every update that a second client received, or that was confirmed to its writer, is still there, and revs
/// never decrease.
async fn kill(relay: Kind, kills: usize) {
    let setup = Setup::new(relay).env("RELAY_LINE_REQUESTS", "16");
    let mut readers: Vec<LoroDoc> = (0..READERS).map(|_| LoroDoc::new()).collect();
    let mut newest = 0;
    for round in 0..kills {
        let host = setup.clone().start().await;
        let watching = join_all(
            readers
                .drain(..)
                .map(|doc| Client::rejoin(&host.address, "p", doc)),
        )
        .await;
        for reader in &watching {
            reader.event("synced").await;
        }
        // The writers of each round begin with the state that the server sends.
        let writing: Vec<Client> =
            join_all((0..WRITERS).map(|_| Client::join_with_events(&host.address, "p"))).await;
        for writer in &writing {
            writer.event("synced").await;
        }
        let before: Vec<usize> = watching.iter().map(Client::blobs).collect();
        let load = join_all(
            writing
                .iter()
                .enumerate()
                .map(|(n, writer)| write(writer, n, round)),
        );
        let kill = async {
            // The kill comes at a random moment after every reader has seen an update.
            let start = Instant::now();
            while watching
                .iter()
                .zip(&before)
                .any(|(reader, before)| reader.blobs() < before + 5)
            {
                assert!(
                    start.elapsed() < e2e::wait::PATIENCE,
                    "the readers saw no update in time"
                );
                sleep(Duration::from_millis(2)).await;
            }
            sleep(Duration::from_millis(rand::random_range(0..150))).await;
            host.kill().await;
        };
        let (confirmed, ()) = tokio::join!(load, kill);
        for reader in &watching {
            // Updates in a reader's socket count as seen, because they have left the server.
            reader.end().await;
        }

        let host = setup.clone().start().await;
        let (stored, rev) = host.http().document("p").await;
        let stored_marks = marks(&stored);
        for reader in watching {
            let seen = reader.doc().clone();
            let missing: Vec<_> = marks(&seen).difference(&stored_marks).cloned().collect();
            assert!(
                missing.is_empty(),
                "round {round}: lost, though seen: {missing:?}"
            );
            assert!(
                stored.oplog_vv().includes_vv(&seen.oplog_vv()),
                "round {round}"
            );
            assert!(
                !marks(&seen).is_empty(),
                "round {round}: a reader saw nothing"
            );
            readers.push(seen);
        }
        for (version, told) in confirmed {
            assert!(
                stored.oplog_vv().includes_vv(&version),
                "round {round}: lost, though saved"
            );
            assert!(rev >= told, "round {round}: rev {rev} after {told}");
        }
        assert!(rev >= newest, "round {round}: rev {rev} after {newest}");
        newest = rev;
        // This start served only to read. Another kill ends it, without load.
        host.kill().await;
    }
    assert!(newest > kills as u64 * 5, "there was no load: rev {newest}");
}

both_relays! {
    async fn nothing_that_was_seen_is_lost_by_a_kill(relay: Kind) {
        kill(relay, 6).await;
    }

    #[ignore = "takes minutes"]
    async fn nothing_that_was_seen_is_lost_by_twenty_kills(relay: Kind) {
        kill(relay, 20).await;
    }

    /// Checks that after SIGTERM, sockets get the code to reconnect, updates sent before are stored, and the host ends with
    /// code 0.
    async fn a_stop_drains(relay: Kind) {
        const FRAMES: usize = 200;
        let setup = Setup::new(relay);
        let host = setup.clone().start().await;
        let writer = Client::join(&host.address, "p").await;
        let idle = Client::join(&host.address, "q").await;
        idle.until("the state", |idle| idle.blobs() == 1).await;
        for n in 0..FRAMES {
            writer
                .edit(|doc| doc.get_map("marks").insert(&n.to_string(), "x".repeat(1000)).unwrap())
                .await;
        }
        // The answer says that the relay has read everything before it, whether stored yet or not.
        writer.try_send("ping".into()).await.unwrap();
        writer
            .until("pong", |writer| writer.heard().contains(&e2e::raw::Heard::Text("pong".into())))
            .await;
        host.stop().await;
        for client in [&writer, &idle] {
            assert_eq!(client.end().await, e2e::raw::Closed::Code(1001));
        }
        let host = setup.start().await;
        let (stored, rev) = host.http().document("p").await;
        assert_eq!(marks(&stored).len(), FRAMES);
        assert_eq!(rev, FRAMES as u64);
    }

    /// Checks that revs continue after compactions and restarts, and that appending an update twice is harmless.
    async fn revs_are_never_used_again(relay: Kind) {
        let setup = Setup::new(relay).variable("internal_token", "t");
        let doc = LoroDoc::new();
        let mut last = 0;
        for round in 0..3 {
            let host = setup.clone().start().await;
            let http = host.app_http();
            for n in 0..3 {
                let update = change(&doc, |doc| {
                    doc.get_map("marks").insert(&format!("{round}-{n}"), true).unwrap();
                });
                for _ in 0..2 {
                    let rev = host.http().post("/sync/p", update.clone()).await.rev();
                    assert_eq!(rev, last + 1);
                    last = rev;
                }
            }
            if round != 1 {
                let headers = [("authorization", "Bearer t")];
                let compacted = http
                    .send(http::Method::POST, "/internal/rooms/p/compact", &headers, Default::default())
                    .await;
                assert_eq!(compacted.status, 202, "{compacted:?}");
            }
            assert_eq!(host.http().document("p").await.1, last);
            host.kill().await;
        }
        let host = setup.start().await;
        let (stored, rev) = host.http().document("p").await;
        assert_eq!((stored.get_deep_value(), rev), (doc.get_deep_value(), last));
    }
}
