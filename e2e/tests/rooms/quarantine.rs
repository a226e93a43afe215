//! Checks the quarantine: an update that decodes but cannot be applied is moved aside, and the room stays usable.

use e2e::both_relays;
use e2e::host::{Host, Setup};
use e2e::raw::{Client, change};
use e2e::wait::until;
use loro::{ExportMode, LoroDoc};

/// The revs in quarantine, each with its reason.
pub(crate) fn quarantined(host: &Host, project: &str) -> Vec<(u64, String)> {
    let database = rusqlite::Connection::open(host.database()).unwrap();
    let mut rows = database
        .prepare("SELECT rev, reason FROM loro_quarantine WHERE project_id = ?1 ORDER BY rev")
        .unwrap();
    let rows = rows.query_map([project], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)));
    rows.unwrap()
        .map(|row| {
            row.map(|(rev, reason)| (u64::try_from(rev).unwrap(), reason))
                .unwrap()
        })
        .collect()
}

/// An update with much text that depends on another one. The server does not unpack it until it applies it.
fn large(doc: &LoroDoc, inserts: usize) -> Vec<u8> {
    let mut state = 7_u64;
    change(doc, |doc| {
        let text = doc.get_text("text");
        for _ in 0..inserts {
            // Each insert is at another place, so that each takes memory of its own.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let at = (state >> 33) as usize % (text.len_unicode() + 1);
            text.insert(at, "x").unwrap();
        }
    })
}

/// Gives instances less memory than the app's setting says, so that it begins work for which their memory is too small.
fn with_little_memory(setup: Setup) -> Setup {
    let setup = setup.option("--instance-memory", "24");
    setup.variable("instance_memory_mib", "4095")
}

both_relays! {
    /// Posts an update of a document that shares a peer id with the room's, but no history, so that the update refers to
    /// text that the room never had.
    async fn an_update_that_loro_refuses_is_moved_aside(relay: Kind) {
        let host = Host::start(relay).await;
        let ours = LoroDoc::new();
        ours.set_peer_id(1).unwrap();
        let base = change(&ours, |doc| {
            for n in 0..5 {
                doc.get_map("map").insert(&n.to_string(), n).unwrap();
            }
        });
        let theirs = LoroDoc::new();
        theirs.set_peer_id(1).unwrap();
        change(&theirs, |doc| doc.get_text("text").insert(0, "hello").unwrap());
        let bad = change(&theirs, |doc| doc.get_text("text").insert(5, " world").unwrap());

        let http = host.http();
        assert_eq!(http.post("/sync/p", base).await.rev(), 1);
        assert_eq!(http.post("/sync/p", bad.clone()).await.rev(), 2);
        let (stored, rev) = http.document("p").await;
        assert_eq!(rev, 2);
        assert_eq!(stored.get_map("map").len(), 5);
        let moved = quarantined(&host, "p");
        assert_eq!(moved.len(), 1, "{moved:?}");
        assert_eq!(moved[0].0, 2);

        // The next update of the room gets the next rev.
        let client = Client::join_with_events(&host.address, "p").await;
        client.event("synced").await;
        client.typed("and on").await;
        assert_eq!(client.saved(1).await, 3);
        let other = Client::join(&host.address, "p").await;
        other.until("the newest text", |other| other.text() == "and on").await;
        assert_eq!(other.doc().get_map("map").len(), 5);
        // A client in the room gets a notice, and so does one that joins.
        for client in [&client, &other] {
            client.until("the notice", |client| !client.events("error").is_empty()).await;
            assert_eq!(client.events("error")[0]["code"], "quarantined");
        }

        // The owner lists, reads, restores and deletes it.
        let list = http.get("/projects/p/quarantine").await.json();
        assert_eq!((list["updates"].as_array().unwrap().len(), &list["updates"][0]["rev"]), (1, &2.into()));
        let update = http.get("/projects/p/quarantine/2").await;
        assert_eq!((update.status.as_u16(), &update.body[..]), (200, &bad[..]));
        let restored = http.post("/projects/p/quarantine/2/restore", Vec::new()).await;
        assert_eq!(restored.json()["rev"], 4);
        assert_eq!(http.document("p").await.1, 4);
        assert_eq!(quarantined(&host, "p").iter().map(|(rev, _)| *rev).collect::<Vec<_>>(), [4]);
        http.get("/projects/p/quarantine/2").await.assert_problem(404, "not-found");
        let delete = |rev| http.send(http::Method::DELETE, rev, &[], Default::default());
        assert_eq!(delete("/projects/p/quarantine/4").await.status, 204);
        delete("/projects/p/quarantine/4").await.assert_problem(404, "not-found");
    }

    /// Posts an update that needs more memory to be applied than an instance has. That is not the update's fault: it stays,
    /// the room can be joined, and with more memory the whole document is there.
    async fn an_update_that_needs_more_memory_is_not_blamed(relay: Kind) {
        let setup = Setup::new(relay);
        let host = with_little_memory(setup.clone()).start().await;
        let http = host.http();
        let mut unread = None;
        for inserts in [100_000, 200_000, 400_000, 800_000] {
            let project = format!("p{inserts}");
            let path = format!("/sync/{project}");
            let doc = LoroDoc::new();
            let base = change(&doc, |doc| doc.get_text("text").insert(0, "base").unwrap());
            assert_eq!(http.post(&path, base).await.rev(), 1);
            let accepted = http.post(&path, large(&doc, inserts)).await;
            assert_eq!(accepted.status, 200, "{inserts} inserts are not appended: {accepted:?}");
            let json = http.get_with(&path, &[("accept", "application/json")]).await;
            if json.status != 200 {
                json.assert_problem(503, "state-unavailable");
                unread = Some((project, inserts));
                break;
            }
        }
        let Some((project, inserts)) = unread else {
            panic!("there was memory enough for every document");
        };
        assert_eq!(quarantined(&host, &project), []);
        let client = Client::join_with_events(&host.address, &project).await;
        client.event("synced").await;
        client.until("the whole text", |client| client.text().len() == inserts + 4).await;
        client.typed("and on").await;
        assert_eq!(client.saved(1).await, 3);
        // Other rooms are not affected.
        let fine = change(&LoroDoc::new(), |doc| doc.get_text("text").insert(0, "fine").unwrap());
        assert_eq!(http.post("/sync/other", fine).await.rev(), 1);
        assert_eq!(http.document("other").await.0.get_text("text").to_string(), "fine");
        host.stop().await;

        let host = setup.start().await;
        let (stored, rev) = host.http().document(&project).await;
        assert_eq!((stored.get_text("text").len_unicode(), rev), (inserts + 10, 3));
        assert_eq!(quarantined(&host, &project), []);
    }

    /// An update that kills the instance that appends it is refused to its sender. Updates of the same batch are stored.
    async fn an_update_that_traps_in_the_append_is_refused(relay: Kind) {
        let host = with_little_memory(Setup::new(relay)).start().await;
        let bad = Client::join_with_events(&host.address, "p").await;
        let good = Client::join_with_events(&host.address, "p").await;
        good.event("synced").await;
        bad.event("synced").await;
        let doc = LoroDoc::new();
        let mut update = large(&doc, 1_000_000);
        // The append unpacks a snapshot.
        if update.len() < 1 << 20 {
            update = doc.export(ExportMode::Snapshot).unwrap();
        }
        let sending = async {
            bad.send(update).await;
            bad.saved(1).await;
        };
        let editing = async {
            for _ in 0..50 {
                good.typed("x").await;
            }
            good.saved(50).await;
        };
        tokio::join!(sending, editing);
        let errors = bad.events("error");
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!(errors[0]["frame"], 1);
        bad.until("what the other typed", |bad| bad.text().len() == 50).await;
        until("it is stored", async || host.http().document("p").await.1 == 50).await;
    }
}
