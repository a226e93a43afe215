//! An update that was answered with `saved` is in the document, or its sender gets the reason why it is not.

use std::time::{Duration, Instant};

use e2e::both_relays;
use e2e::host::Host;
use e2e::raw::{Client, change, converged};
use loro::{ExportMode, LoroDoc, VersionVector};
use rooms::limits;
use serde_json::json;

fn writer(peer: u64) -> LoroDoc {
    let doc = LoroDoc::new();
    doc.set_peer_id(peer).unwrap();
    doc
}

async fn joined(host: &Host, doc: LoroDoc) -> Client {
    let client = Client::connect(&host.address, "/sync/p?events=1", doc).await;
    client.event("synced").await;
    client
}

both_relays! {
    /// Lets two clients write under one peer id: the second is refused, offers its edits again under another, and no edit is
    /// lost. An update that is sent again unchanged is no conflict.
    async fn one_peer_id_in_two_clients(relay: Kind) {
        let host = Host::start(relay).await;
        let one = joined(&host, writer(42)).await;
        let two = joined(&host, LoroDoc::new()).await;
        one.edit(|doc| doc.get_map("map").insert("one", 1).unwrap()).await;
        one.typed("from one").await;
        one.saved(2).await;
        // The second client writes under the first one's peer id, without the first one's edits.
        let edits = change(&writer(42), |doc| doc.get_map("map").insert("two", 2).unwrap());
        two.send(edits).await;
        let refusal = two.event("error").await;
        assert_eq!((&refusal["code"], &refusal["frame"]), (&json!("duplicate_peer"), &json!(1)));
        two.saved(1).await;
        let again = joined(&host, writer(43)).await;
        again.edit(|doc| doc.get_map("map").insert("two", 2).unwrap()).await;
        again.saved(1).await;
        converged("under two peer ids", &[&one, &again]).await;
        assert_eq!(one.doc().get_map("map").len(), 2);
        let (stored, _) = host.http().document("p").await;
        assert_eq!(stored.get_deep_value(), one.doc().get_deep_value());
        // A new connection sends again everything, then a part, then a part with a new edit.
        let all = one.doc().export(ExportMode::all_updates()).unwrap();
        let doc = LoroDoc::new();
        doc.import(&all).unwrap();
        doc.set_peer_id(42).unwrap();
        let resender = joined(&host, doc).await;
        resender.send(all).await;
        let mut since = VersionVector::default();
        since.insert(42, 1);
        let rest = resender.doc().export(ExportMode::updates(&since)).unwrap();
        resender.send(rest.clone()).await;
        resender.edit(|doc| doc.get_map("map").insert("three", 3).unwrap()).await;
        let more = resender.doc().export(ExportMode::updates(&since)).unwrap();
        resender.send(more.clone()).await;
        resender.send(more).await;
        resender.saved(5).await;
        assert_eq!(resender.events("error"), Vec::<serde_json::Value>::new());
        converged("after the resends", &[&one, &again, &resender]).await;
        // Plain HTTP has the same effects.
        host.http().post("/sync/p", rest).await;
        let other = writer(42);
        other.get_text("text").insert(0, "other").unwrap();
        other.commit();
        let answer = host.http().post("/sync/p", other.export(ExportMode::all_updates()).unwrap()).await;
        answer.assert_problem(409, "duplicate-peer");
    }

    /// An update without the operations before it is saved, but waits. Its sender gets a notice of what it waits for, and
    /// another one when nothing waits any more.
    async fn a_document_without_its_beginning_waits(relay: Kind) {
        let host = Host::start(relay).await;
        let doc = writer(42);
        doc.get_text("text").insert(0, "beginning").unwrap();
        doc.commit();
        let beginning = doc.export(ExportMode::all_updates()).unwrap();
        let client = joined(&host, doc).await;
        client.typed(" and end").await;
        let rev = client.saved(1).await;
        let begun = Instant::now();
        client.typed("!").await;
        let pending = client.event("pending").await;
        assert!(begun.elapsed() > Duration::from_secs(4), "{:?}", begun.elapsed());
        let waits_for = json!({"peer": "42", "counter": 0});
        assert_eq!(pending["updates"][0], json!({"frame": 1, "waits_for": waits_for}));
        let (stored, _) = host.http().document("p").await;
        assert_eq!(stored.get_text("text").to_string(), "");
        host.http().post("/sync/p", beginning).await;
        client.until("nothing waits", |client| {
            client.events("pending").last().is_some_and(|event| event["updates"] == json!([]))
        })
        .await;
        let (stored, newest) = host.http().document("p").await;
        assert_eq!(stored.get_text("text").to_string(), "beginning and end!");
        assert_eq!(newest, rev + 2);
    }

    /// The operations that another client wrote under the same peer id may end exactly where an update begins. Nothing in
    /// the update says what it builds on, so it is stored, once, and all clients get the same document. The update before
    /// it is refused when it is offered.
    async fn one_peer_id_in_two_clients_that_fits_by_accident(relay: Kind) {
        let host = Host::start(relay).await;
        let one = joined(&host, writer(42)).await;
        let reader = joined(&host, LoroDoc::new()).await;
        one.edit(|doc| doc.get_map("map").insert("one", 1).unwrap()).await;
        one.saved(1).await;
        let other = writer(42);
        let [before, next] = ["two", "three"]
            .map(|key| change(&other, |doc| doc.get_map("map").insert(key, true).unwrap()));
        let two = joined(&host, LoroDoc::new()).await;
        two.send(next).await;
        two.saved(1).await;
        two.send(before).await;
        let refusal = two.event("error").await;
        assert_eq!((&refusal["code"], &refusal["frame"]), (&json!("duplicate_peer"), &json!(2)));
        converged("what fits", &[&one, &reader]).await;
        let expected = json!({"map": {"one": 1, "three": true}});
        let (stored, _) = host.http().document("p").await;
        for doc in [stored, reader.doc().clone()] {
            let value = serde_json::to_value(doc.get_deep_value()).unwrap();
            assert_eq!(value["map"], expected["map"]);
        }
    }

    /// Sends ever more updates that wait for a missing one: beyond a limit they are refused. Other clients notice nothing.
    async fn updates_that_wait_are_bounded(relay: Kind) {
        let host = Host::start(relay).await;
        let calm = joined(&host, LoroDoc::new()).await;
        let doc = writer(42);
        let mut number = 0;
        let mut next = || {
            number += 1;
            change(&doc, |doc| doc.get_map("map").insert("number", number).unwrap())
        };
        let beginning = next();
        let client = joined(&host, LoroDoc::new()).await;
        // The limit is exact, although the app checks many updates at once.
        for _ in 0..limits::WAITING_UPDATES {
            client.send(next()).await;
        }
        client.saved(limits::WAITING_UPDATES as u64).await;
        assert_eq!(client.events("error"), Vec::<serde_json::Value>::new());
        let beyond = next();
        client.send(beyond.clone()).await;
        let refusal = client.event("error").await;
        assert_eq!(refusal["code"], "waiting_full");
        assert!(refusal["message"].as_str().unwrap().contains("operation 0 of the peer 42"), "{refusal}");
        let answer = host.http().post("/sync/p", beyond.clone()).await;
        answer.assert_problem(507, "waiting-full");
        calm.typed("calm").await;
        calm.saved(1).await;
        host.http().post("/sync/p", beginning).await.rev();
        host.http().post("/sync/p", beyond).await.rev();
        let (stored, _) = host.http().document("p").await;
        let value = serde_json::to_value(stored.get_deep_value()).unwrap();
        assert_eq!(value["map"]["number"], limits::WAITING_UPDATES + 2);
        assert_eq!(value["text"], "calm");
    }
}
