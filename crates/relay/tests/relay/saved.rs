//! The news that a client gets of its updates beside `saved`: that one is refused, or waits for others.

use crate::client::Client;
use crate::{Relay, both_ways, until};
use serde_json::json;
use std::time::Duration;

async fn with_events(relay: &Relay) -> Client {
    let mut client = Client::connect(relay.address, "/sync/p?events=1").await;
    client.next_event("synced").await;
    client
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
        let refusal = twin.next_event("error").await;
        assert_eq!((&refusal["code"], &refusal["frame"]), (&json!("duplicate_peer"), &json!(4)));
        twin.saved(4).await;
        other.saved(20).await;
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
        twin.saved(1).await;
        twin.update("twin").await;
        for n in 3..10 {
            twin.update(format!("t{n}")).await;
        }
        let mut refused = vec![twin.next_event("error").await];
        twin.update("large".repeat(60_000)).await;
        twin.update("last").await;
        while refused.last().is_none_or(|error| error["frame"] != 11) {
            assert!(refused.len() < 10, "{refused:?}");
            refused.push(twin.next_event("error").await);
        }
        twin.saved(11).await;
        assert!(refused.iter().all(|error| error["code"] == "duplicate_peer"));
        let frames: Vec<u64> = refused.iter().map(|error| error["frame"].as_u64().unwrap()).collect();
        assert_eq!(frames[0], 2);
        assert!(frames.is_sorted());
        // What went with it in one batch is as the app has decided.
        assert_eq!(relay.app.room("p").len(), 1 + 10 - refused.len());
        assert!(frames.ends_with(&[10, 11]));
        let mut again = with_events(&relay).await;
        again.update("anew").await;
        assert_eq!(again.next_event("saved").await["frames"], 1);
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
        client.next_event("pending").await["updates"],
        json!([{"frame": 2, "waits_for": {"peer": "42", "counter": 17}}])
    );
    let asked = || relay.app.log().waiting.len();
    // The last question is about the third update, which may have come too late for the one before.
    until("the last question", async || {
        relay.app.log().waiting.iter().any(|revs| revs.contains(&3))
    })
    .await;
    // Nothing has changed, so the app is not asked again. There is no condition to wait for.
    let before = asked();
    tokio::time::sleep(after * 4).await;
    assert_eq!(asked(), before);
    plain.update("missing").await;
    assert_eq!(client.next_event("pending").await["updates"], json!([]));
    until("the question", async || asked() == before + 1).await;
    relay.stop().await;
}
