//! Checks editing: clients edit one document together.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use e2e::both_relays;
use e2e::host::Host;
use e2e::raw::{Client, Closed, Heard, converged};
use e2e::wait::until;
use futures_util::future::join_all;
use loro::{LoroDoc, LoroMap};
use serde_json::json;

both_relays! {
    /// Checks that edits pass in both directions, even if both clients type at the same place at the same time.
    async fn clients_converge(relay: Kind) {
        let host = Host::start(relay).await;
        let one = Client::join(&host.address, "p").await;
        let two = Client::join(&host.address, "p").await;
        one.typed("hello").await;
        two.until("the other's text", |two| two.text() == "hello").await;
        for n in 0..20 {
            let (a, b) = (format!("<a{n}>"), format!("<b{n}>"));
            tokio::join!(one.typed(&a), two.typed(&b));
        }
        let whole = |client: &Client| client.text().len() == "hello".len() + 2 * (10 * 4 + 10 * 5);
        one.until("all that was typed", whole).await;
        two.until("all that was typed", whole).await;
        converged("typing at once", &[&one, &two]).await;
        let (stored, rev) = host.http().document("p").await;
        assert_eq!(stored.get_text("text").to_string(), one.text());
        assert_eq!(rev, 41);
        host.stop().await;
    }

    async fn rooms_are_apart(relay: Kind) {
        let host = Host::start(relay).await;
        let one = Client::join(&host.address, "one").await;
        let two = Client::join(&host.address, "two").await;
        one.typed("1").await;
        two.typed("2").await;
        let other = Client::join(&host.address, "one").await;
        other.until("the room's text", |other| other.text() == "1").await;
        assert_eq!(two.text(), "2");
    }

    /// The first frame is the state, even of an empty room.
    async fn the_state_comes_first(relay: Kind) {
        let host = Host::start(relay).await;
        let one = Client::join_with_events(&host.address, "p").await;
        one.until("the state of an empty room", |one| one.blobs() == 1).await;
        one.typed("x").await;
        one.saved(1).await;
        let three = Client::join(&host.address, "p").await;
        three.until("the state", |three| three.blobs() > 0).await;
        assert_eq!(three.text(), "x", "the first frame is not the state");
    }

    /// A client never gets its own update back, and a client without `events=1` gets only blobs.
    async fn nothing_is_echoed(relay: Kind) {
        let host = Host::start(relay).await;
        let one = Client::join(&host.address, "p").await;
        one.until("the state", |one| one.blobs() == 1).await;
        let two = Client::join(&host.address, "p").await;
        two.until("the state", |two| two.blobs() == 1).await;
        for n in 0..10 {
            one.typed("a").await;
            two.until("the update", |two| two.text().len() == n + 1).await;
        }
        two.typed("b").await;
        one.until("the other's update", |one| one.text().len() == 11).await;
        assert_eq!(one.blobs(), 2, "{:?}", one.heard());
        assert_eq!(two.blobs(), 11, "{:?}", two.heard());
        for client in [&one, &two] {
            let heard = client.heard();
            assert!(heard.iter().all(|heard| matches!(heard, Heard::Blob(_))), "{heard:?}");
        }
    }

    /// A message that is sent in pieces to the app, or to the client, waits 40 ms for an acknowledgement if TCP_NODELAY
    /// cannot be set, as on WASI, and then every edit takes that long. Without this wait, at least one of 20 edits is
    /// quicker, even on a busy machine.
    async fn an_edit_waits_for_no_acknowledgement(relay: Kind) {
        let host = Host::start(relay).await;
        let one = Client::join_with_events(&host.address, "p").await;
        let mut quickest = Duration::MAX;
        for n in 1..=20 {
            let start = Instant::now();
            one.typed("a").await;
            one.saved(n).await;
            quickest = quickest.min(start.elapsed());
        }
        assert!(quickest < Duration::from_millis(40), "{quickest:?}");
        host.stop().await;
    }

    /// Checks that the server sends only the updates that the version in `version=` lacks.
    async fn a_version_spares_known_updates(relay: Kind) {
        let host = Host::start(relay).await;
        let one = Client::join_with_events(&host.address, "p").await;
        // Random text does not compress.
        let noise: String = (0..100_000).map(|_| char::from(rand::random_range(b'!'..=b'~'))).collect();
        one.typed(&noise).await;
        one.saved(1).await;
        let known = LoroDoc::new();
        known.import(&one.doc().export(loro::ExportMode::all_updates()).unwrap()).unwrap();
        one.typed("new").await;
        one.saved(2).await;

        let again = Client::rejoin(&host.address, "p", known).await;
        again.event("synced").await;
        assert!(again.text().ends_with("new"));
        let bytes: usize = again
            .heard()
            .iter()
            .map(|heard| match heard {
                Heard::Blob(blob) => blob.len(),
                _ => 0,
            })
            .sum();
        assert!(bytes < 1000, "{bytes} bytes for three letters");

        // A client that lacks nothing gets nothing, or an empty update.
        let all = again.leave().await;
        let all = Client::rejoin(&host.address, "p", all).await;
        all.event("synced").await;
        assert_eq!(all.text().len(), noise.len() + 3);
    }

    /// The client gets an error with a message, and a close code after which it must not reconnect.
    async fn an_invalid_version_is_refused(relay: Kind) {
        let host = Host::start(relay).await;
        let nonsense = URL_SAFE_NO_PAD.encode([0xff; 20]);
        let path = format!("/sync/p?version={nonsense}");
        let client = Client::connect(&host.address, &path, LoroDoc::new()).await;
        assert_eq!(client.end().await, Closed::Code(1008));
        assert_eq!(client.events("error")[0]["code"], "invalid_version");
    }

    async fn events_report_progress(relay: Kind) {
        let host = Host::start(relay).await;
        let one = Client::join_with_events(&host.address, "p").await;
        let joined = one.event("joined").await;
        assert_eq!(joined["rev"], 0);
        assert!(joined["version"].is_string());
        one.event("synced").await;
        let order: Vec<String> = one
            .heard()
            .iter()
            .map(|heard| match heard {
                Heard::Event(event) => event["type"].as_str().unwrap().to_owned(),
                Heard::Blob(_) => "blob".to_owned(),
                Heard::Text(text) => text.clone(),
            })
            .collect();
        assert_eq!(order[..3], ["joined", "blob", "synced"]);

        one.typed("a").await;
        assert_eq!(one.saved(1).await, 1);
        one.typed("b").await;
        one.typed("c").await;
        assert_eq!(one.saved(3).await, 3);

        let peers = |count: u64| {
            move |client: &Client| {
                client.events("peers").last().is_some_and(|event| event["count"] == count)
            }
        };
        one.until("alone", peers(1)).await;
        let two = Client::join_with_events(&host.address, "p").await;
        // The relay may send a state that it read a moment ago, and then the later updates.
        assert!(two.event("joined").await["rev"].as_u64().unwrap() <= 3);
        two.event("synced").await;
        assert_eq!(two.text(), "abc");
        one.until("two clients are counted", peers(2)).await;
        two.until("two clients are counted", peers(2)).await;
        two.leave().await;
        one.until("one client is counted", peers(1)).await;
    }

    /// Checks that a client that returns sends its offline edits, and gets the edits of the others.
    async fn offline_edits_arrive_on_return(relay: Kind) {
        let host = Host::start(relay).await;
        let one = Client::join_with_events(&host.address, "p").await;
        let two = Client::join_with_events(&host.address, "p").await;
        one.typed("both ").await;
        two.until("the text", |two| two.text() == "both ").await;
        let doc = two.leave().await;
        e2e::raw::change(&doc, |doc| doc.get_map("map").insert("offline", true).unwrap());
        one.typed("online").await;
        one.saved(2).await;
        let two = Client::rejoin(&host.address, "p", doc).await;
        one.until("the offline edit", |one| {
            one.doc().get_map("map").get("offline").is_some()
        })
        .await;
        two.until("the online edit", |two| two.text() == "both online").await;
        converged("after a return", &[&one, &two]).await;
    }

    /// Lets ten clients create nodes (nested maps in the map `nodes`) at the same time, while two only read.
    async fn ten_writers_create_nodes_at_once(relay: Kind) {
        const WRITERS: usize = 10;
        const NODES: usize = 20;
        let host = Host::start(relay).await;
        let writers = join_all((0..WRITERS).map(|_| Client::join(&host.address, "board"))).await;
        let readers = join_all((0..2).map(|_| Client::join(&host.address, "board"))).await;
        join_all(writers.iter().enumerate().map(async |(w, writer)| {
            for n in 0..NODES {
                writer
                    .edit(|doc| {
                        let nodes = doc.get_map("nodes");
                        let node = nodes.insert_container(&format!("{w}-{n}"), LoroMap::new()).unwrap();
                        node.insert("x", (w * 10) as i64).unwrap();
                        node.insert("y", n as i64).unwrap();
                        let data = node.insert_container("data", LoroMap::new()).unwrap();
                        data.insert("status", "idle").unwrap();
                        // Each writer moves the same node, too.
                        nodes.insert("shared", w as i64).unwrap();
                    })
                    .await;
            }
        }))
        .await;
        let all: Vec<&Client> = writers.iter().chain(&readers).collect();
        let count = |client: &Client| client.doc().get_map("nodes").len();
        for client in &all {
            client.until("every node", |client| count(client) == WRITERS * NODES + 1).await;
        }
        converged("ten writers", &all).await;
        let value = serde_json::to_value(all[0].doc().get_deep_value()).unwrap();
        assert_eq!(value["nodes"]["9-19"], json!({"x": 90, "y": 19, "data": {"status": "idle"}}));
        until("the server has it all", async || {
            let (stored, rev) = host.http().document("board").await;
            rev == (WRITERS * NODES) as u64 && stored.get_deep_value() == all[0].doc().get_deep_value()
        })
        .await;
    }

    /// Checks that every client of the room gets an update that was posted over HTTP.
    async fn a_post_reaches_the_sockets(relay: Kind) {
        let host = Host::start(relay).await;
        let one = Client::join(&host.address, "p").await;
        one.until("the state", |one| one.blobs() == 1).await;
        for (n, http) in [host.http(), host.app_http()].into_iter().enumerate() {
            let doc = LoroDoc::new();
            let update = e2e::raw::change(&doc, |doc| {
                doc.get_map("map").insert(&n.to_string(), true).unwrap();
            });
            let start = tokio::time::Instant::now();
            assert_eq!(http.post("/sync/p", update).await.rev(), n as u64 + 1);
            one.until("what was posted", |one| one.doc().get_map("map").len() == n + 1).await;
            assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        }
    }
}
