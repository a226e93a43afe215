//! The news that a client gets of its updates beside `saved`: that one is refused, or waits for others.

use crate::client::Client;
use crate::{Relay, both_ways, until};
use serde_json::{Value, json};
use std::time::Duration;

async fn with_events(relay: &Relay) -> Client {
    let mut client = Client::connect(relay.address, "/sync/p?events=1").await;
    while client
        .event_or_blob()
        .await
        .is_none_or(|event| event["type"] != "synced")
    {}
    client
}

/// The next event of this type.
async fn next(client: &mut Client, kind: &str) -> Value {
    loop {
        if let Some(event) = client.event_or_blob().await
            && event["type"] == kind
        {
            return event;
        }
    }
}

both_ways! {
    /// An update that the app leaves undecided goes alone, with what its sender sent behind it; no other client waits,
    /// or gets an update twice.
    async fn an_undecided_update_is_decided_alone(way: Way) {
        let relay = Relay::start(|settings| way.set(settings)).await;
        let mut reader = relay.join("p").await;
        let mut twin = with_events(&relay).await;
        let mut other = with_events(&relay).await;
        for update in ["one", "again", "two", "twin"] {
            twin.update(update).await;
        }
        for n in 0..20 {
            other.update(format!("o{n}")).await;
        }
        let refusal = next(&mut twin, "error").await;
        assert_eq!((&refusal["code"], &refusal["frame"]), (&json!("duplicate_peer"), &json!(4)));
        while next(&mut twin, "saved").await["frames"] != 4 {}
        while next(&mut other, "saved").await["frames"] != 20 {}
        let log = relay.app.room("p");
        assert_eq!(log.len(), 23);
        for update in &log {
            assert_eq!(&reader.binary().await, update);
        }
        assert_eq!(relay.metric("updates_refused_total").await, 1);
        relay.stop().await;
    }
}

both_ways! {
    /// A refusal because of the peer id keeps all later updates of the connection from the app, except those that the
    /// app has stored already. A new connection begins anew.
    async fn nothing_follows_a_duplicate_peer(way: Way) {
        let relay = Relay::start(|settings| way.set(settings)).await;
        let mut twin = with_events(&relay).await;
        twin.update("one").await;
        while next(&mut twin, "saved").await["frames"] != 1 {}
        twin.update("twin").await;
        for n in 3..10 {
            twin.update(format!("t{n}")).await;
        }
        let mut refused = vec![next(&mut twin, "error").await];
        twin.update("large".repeat(60_000)).await;
        twin.update("last").await;
        while refused.last().is_none_or(|error| error["frame"] != 11) {
            refused.push(next(&mut twin, "error").await);
        }
        while next(&mut twin, "saved").await["frames"] != 11 {}
        assert!(refused.iter().all(|error| error["code"] == "duplicate_peer"));
        let frames: Vec<u64> = refused.iter().map(|error| error["frame"].as_u64().unwrap()).collect();
        assert_eq!(frames[0], 2);
        assert!(frames.is_sorted());
        // What went with it in one batch is as the app has decided.
        assert_eq!(relay.app.room("p").len(), 1 + 10 - refused.len());
        assert!(frames.ends_with(&[10, 11]));
        let mut again = with_events(&relay).await;
        again.update("anew").await;
        assert_eq!(next(&mut again, "saved").await["frames"], 1);
        relay.stop().await;
    }
}

#[tokio::test]
async fn a_sender_is_notified_of_what_waits_until_it_does_not() {
    let after = Duration::from_millis(100);
    let relay = Relay::start(|settings| settings.waiting_after = after).await;
    let mut client = with_events(&relay).await;
    let mut plain = relay.join("p").await;
    client.update("fits").await;
    client.update("waits").await;
    // The app's first word is only that it may wait.
    client.update("wait not").await;
    assert_eq!(
        next(&mut client, "pending").await["updates"],
        json!([{"frame": 2, "waits_for": {"peer": "42", "counter": 17}}])
    );
    let asked = || {
        let log = relay.app.log();
        let asked = log.seen.iter().filter(|seen| seen.contains("/waiting"));
        asked.count()
    };
    // Nothing has changed, so the app is not asked again.
    tokio::time::sleep(after * 2).await;
    let before = asked();
    tokio::time::sleep(after * 4).await;
    assert_eq!(asked(), before);
    plain.update("missing").await;
    assert_eq!(next(&mut client, "pending").await["updates"], json!([]));
    until("the question", async || asked() == before + 1).await;
    relay.stop().await;
}
