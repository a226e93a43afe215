//! The frames that sockets in a room see: the state, updates in order, no echo, no gap.

use crate::client::Client;
use crate::fake_app::state_of;
use crate::{Relay, until};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

#[tokio::test]
async fn updates_arrive_in_the_order_of_the_log_and_never_at_their_sender() {
    const EACH: usize = 300;
    let relay = Relay::start(|_| {}).await;
    let mut a = relay.join("p").await;
    let mut b = relay.join("p").await;
    let mut reader = relay.join("p").await;
    let mut elsewhere = relay.join("other").await;
    for i in 0..EACH {
        a.update(format!("a{i}")).await;
        b.update(format!("b{i}")).await;
    }
    let mut read = Vec::new();
    for _ in 0..2 * EACH {
        read.push(reader.binary().await);
    }
    let log = relay.app.room("p");
    assert_eq!(read, log);
    for (client, own) in [(&mut a, b'a'), (&mut b, b'b')] {
        for expected in log.iter().filter(|update| update[0] != own) {
            assert_eq!(&client.binary().await, expected);
        }
    }
    // While one append was under way, several updates waited and went in the next.
    assert!(relay.app.log().appends.len() < EACH);
    // No update went to another room: the next frame there is that room's own.
    relay.join("other").await.update("x").await;
    assert_eq!(elsewhere.binary().await, b"x");
    relay.stop().await;
}

#[tokio::test]
async fn a_joiner_gets_the_state_and_then_what_follows() {
    let relay = Relay::start(|_| {}).await;
    relay.app.store("p", b"one");
    relay.app.store("p", b"two");
    let mut first = relay.connect("p").await;
    assert_eq!(first.binary().await, b"one two");
    let mut second = relay.connect("p").await;
    assert_eq!(second.binary().await, b"one two");
    second.update("three").await;
    assert_eq!(first.binary().await, b"three");
    let mut empty = relay.connect("new").await;
    assert_eq!(empty.binary().await, b"");
    relay.stop().await;
}

#[tokio::test]
async fn joins_at_one_time_share_one_read() {
    const CLIENTS: usize = 50;
    let relay = Relay::start(|_| {}).await;
    relay.app.store("p", b"state");
    relay.app.hold_states();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(relay.connect("p").await);
    }
    until("the read", async || relay.app.log().state_reads > 0).await;
    relay.app.release_states();
    for client in &mut clients {
        assert_eq!(client.binary().await, b"state");
    }
    // Clients that come a moment later share the read too, and then get what was stored since.
    clients[0].update("more").await;
    assert_eq!(clients[1].binary().await, b"more");
    let mut late = relay.connect("p").await;
    assert_eq!(late.binary().await, b"state");
    assert_eq!(late.binary().await, b"more");
    assert_eq!(relay.metric("state_reads_total").await, 1);
    assert_eq!(relay.app.log().state_reads, 1);
    // A client with a version needs another read.
    let mut knowing = Client::connect(relay.address, "/sync/p?version=AQID").await;
    assert_eq!(knowing.binary().await, b"state more");
    let seen = relay.app.log().seen.clone();
    assert!(seen.contains(&"GET /internal/rooms/p/state?version=AQID".to_owned()));
    relay.stop().await;
}

/// Answers the report: "After a restart of the relay each client had another version, and each cost the app a merge."
#[tokio::test]
async fn a_crowd_whose_versions_differ_shares_a_few_reads() {
    const CLIENTS: u8 = 100;
    let relay = Relay::start(|_| {}).await;
    relay.app.store("p", b"state");
    relay.app.hold_states();
    let mut clients = Vec::new();
    for peer in 0..CLIENTS {
        // Fifty operations of a peer, which all clients have, and some of the client's own.
        let version = [2, 120, 100, peer, 2 * (1 + peer % 50)];
        let version = URL_SAFE_NO_PAD.encode(version);
        let path = format!("/sync/p?version={version}");
        clients.push(Client::connect(relay.address, &path).await);
    }
    until("the read", async || relay.app.log().state_reads > 0).await;
    relay.app.release_states();
    for client in &mut clients {
        assert_eq!(client.binary().await, b"state");
    }
    let reads = relay.app.log().state_reads;
    assert!(reads <= 10, "{reads} reads for {CLIENTS} clients");
    clients[0].update("more").await;
    assert_eq!(clients[1].binary().await, b"more");
    relay.stop().await;
}

/// A state that was read before more updates than the room keeps is followed by all of them.
#[tokio::test]
async fn a_slow_state_is_followed_by_everything_since() {
    let relay = Relay::start(|settings| {
        settings.recent_updates = 4;
        settings.state_retention = Duration::from_millis(1);
    })
    .await;
    let mut writer = relay.join("p").await;
    let mut witness = relay.join("p").await;
    relay.app.hold_states();
    // A state that was read a moment ago does not serve.
    let mut joiner = Client::connect(relay.address, "/sync/p?version=AQID").await;
    until("the read", async || {
        relay.metric("state_reads_total").await == relay.app.log().state_reads as u64
            && relay
                .app
                .log()
                .seen
                .iter()
                .any(|seen| seen.contains("version"))
    })
    .await;
    for i in 0..20 {
        writer.update(format!("{i}")).await;
        witness.binary().await;
    }
    relay.app.release_states();
    assert_eq!(joiner.binary().await, b"");
    for i in 0..20 {
        assert_eq!(joiner.binary().await, format!("{i}").into_bytes());
    }
    writer.update("live").await;
    assert_eq!(joiner.binary().await, b"live");
    relay.stop().await;
}

/// The app stored updates of another relay, and no message reported them.
#[tokio::test]
async fn a_gap_is_filled_in_order() {
    let relay = Relay::start(|settings| settings.gap_wait = Duration::from_millis(5)).await;
    let mut a = relay.join("p").await;
    let mut b = relay.join("p").await;
    a.update("1").await;
    assert_eq!(b.binary().await, b"1");
    relay.app.store("p", b"2");
    relay.app.store("p", b"3");
    a.update("4").await;
    for expected in ["2", "3", "4"] {
        assert_eq!(b.binary().await, expected.as_bytes());
    }
    assert_eq!(a.binary().await, b"2");
    assert_eq!(a.binary().await, b"3");
    a.update("5").await;
    assert_eq!(b.binary().await, b"5");
    assert_eq!(relay.metric("gap_fetches_total").await, 1);
    relay.stop().await;
}

#[tokio::test]
async fn comparing_heads_finds_what_no_message_reported() {
    let relay =
        Relay::start(|settings| settings.heads_interval = Some(Duration::from_millis(20))).await;
    let mut client = relay.join("p").await;
    relay.app.store("p", b"silent");
    assert_eq!(client.binary().await, b"silent");
    relay.stop().await;
}

/// The room learns the rev from the answer to the POST, because heads are never compared here.
#[tokio::test]
async fn a_posted_update_reaches_the_room_at_once() {
    let relay = Relay::start(|_| {}).await;
    let mut client = relay.join("p").await;
    let answer = crate::http::request(
        relay.address,
        "POST /sync/p HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\nconnection: close\r\n\r\nposted",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(client.binary().await, b"posted");
    relay.stop().await;
}

#[tokio::test]
async fn a_refused_update_is_its_senders_alone() {
    let relay = Relay::start(|_| {}).await;
    let mut a = relay.join("p").await;
    let mut b = relay.join("p").await;
    a.update("good").await;
    a.update("bad one").await;
    a.update("fine").await;
    assert_eq!(
        a.event().await,
        json!({"type": "error", "code": "invalid_update", "message": "it is bad", "frame": 2})
    );
    assert_eq!(b.binary().await, b"good");
    assert_eq!(b.binary().await, b"fine");
    relay.stop().await;
}

#[tokio::test]
async fn text_frames() {
    let relay = Relay::start(|_| {}).await;
    let mut client = relay.join("p").await;
    client.send(Message::text("ping")).await;
    assert_eq!(client.text().await, "pong");
    client.send(Message::text("hello")).await;
    let error = client.event().await;
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("error"), &json!("unexpected_text"))
    );
    // The connection goes on.
    client.update("x").await;
    until("it is stored", async || relay.app.room("p").len() == 1).await;
    relay.stop().await;
}

#[tokio::test]
async fn events_for_clients_that_asked() {
    let relay = Relay::start(|_| {}).await;
    relay.app.store("p", b"state");
    let mut plain = relay.join("p").await;
    let mut client = Client::connect(relay.address, "/sync/p?events=1").await;
    assert_eq!(
        client.event().await,
        json!({"type": "joined", "rev": 1, "version": "AQID"})
    );
    assert_eq!(client.binary().await, b"state");
    assert_eq!(client.event().await, json!({"type": "synced"}));
    let mut events = Vec::new();
    client.update("one").await;
    client.update("bad").await;
    client.update("two").await;
    // Counts may come at any time, and one batch may decide several frames.
    loop {
        let event = client.event().await;
        let last = event["type"] == "saved" && event["frames"] == 3;
        events.push(event);
        if last {
            break;
        }
    }
    let of = |kind: &'static str| events.iter().filter(move |event| event["type"] == kind);
    assert_eq!(of("error").count(), 1);
    assert_eq!(of("error").next().unwrap()["frame"], 2);
    let saved: Vec<u64> = of("saved")
        .map(|event| event["rev"].as_u64().unwrap())
        .collect();
    assert_eq!(saved.iter().max(), Some(&3));
    // A client that did not ask for events gets none.
    assert_eq!(plain.binary().await, b"one");
    assert_eq!(plain.binary().await, b"two");
    // The count may have come already.
    let mut counts: Vec<u64> = of("peers")
        .map(|event| event["count"].as_u64().unwrap())
        .collect();
    if counts.is_empty() {
        counts.push(client.event().await["count"].as_u64().unwrap());
    }
    assert_eq!(counts, [2]);
    drop(plain);
    assert_eq!(client.event().await, json!({"type": "peers", "count": 1}));
    relay.stop().await;
}

#[tokio::test]
async fn a_message_in_fragments_and_a_large_one() {
    let relay = Relay::start(|_| {}).await;
    let mut a = relay.join("p").await;
    let mut b = relay.join("p").await;
    for (part, opcode, last) in [
        ("fra", OpCode::Data(Data::Binary), false),
        ("gme", OpCode::Data(Data::Continue), false),
        ("nts", OpCode::Data(Data::Continue), true),
    ] {
        let frame = Frame::message(part.as_bytes().to_vec(), opcode, last);
        a.send(Message::Frame(frame)).await;
    }
    assert_eq!(b.binary().await, b"fragments");
    let large: Vec<u8> = (0..3_000_000u32).map(|i| i as u8).collect();
    a.update(large.clone()).await;
    assert!(b.binary().await == large);
    assert_eq!(state_of(&relay.app.room("p")).len(), 9 + 1 + large.len());
    relay.stop().await;
}

#[tokio::test]
async fn an_emptied_room_is_compacted_if_anything_happened() {
    let relay = Relay::start(|_| {}).await;
    drop(relay.join("unchanged").await);
    let mut client = relay.join("p").await;
    client.update("x").await;
    until("it is stored", async || {
        relay.metric("updates_stored_total").await == 1
    })
    .await;
    drop(client);
    until("it is compacted", async || {
        !relay.app.log().compacted.is_empty()
    })
    .await;
    assert_eq!(relay.app.log().compacted, ["p"]);
    until("the rooms are gone", async || {
        relay.metric("rooms").await == 0
    })
    .await;
    relay.stop().await;
}

/// A client that does not read its state holds the memory for states until it does. One that joins another room waits
/// for it, because the state of that room would be too much.
#[tokio::test]
async fn states_on_their_way_are_bounded() {
    // More than the kernel takes for a client that does not read.
    const STATE: usize = 15 << 20;
    let relay = Relay::start(|settings| {
        settings.max_states = STATE;
        settings.state_retention = Duration::from_millis(1);
    })
    .await;
    relay.app.store("large", &vec![7; STATE]);
    relay.app.store("small", b"a");
    let mut slow = relay.connect("large").await;
    until("one has joined", async || {
        relay.metric("joins_total").await == 1
    })
    .await;
    let mut other = relay.connect("small").await;
    until("the other state is read", async || {
        relay.app.log().state_reads == 2
    })
    .await;
    let early = tokio::time::timeout(Duration::from_millis(200), other.next()).await;
    assert!(early.is_err(), "{early:?}");
    assert_eq!(slow.binary().await.len(), STATE);
    assert_eq!(other.binary().await, b"a");
    drop((slow, other));
    relay.stop().await;
}

/// The version comes in the first frame, however large it is; nothing of the state is sent before that.
#[tokio::test]
async fn a_client_may_send_its_version_first() {
    let relay = Relay::start(|_| {}).await;
    relay.app.store("p", b"state");
    const PATH: &str = "/sync/p?version=frame&events=1";
    for (version, asked) in [
        (Vec::new(), "GET /internal/rooms/p/state"),
        (vec![1, 2, 3], "GET /internal/rooms/p/state?version=AQID"),
        (vec![7; 1 << 20], "POST /internal/rooms/p/state"),
    ] {
        let mut client = Client::connect(relay.address, PATH).await;
        client.send(Message::text("ping")).await;
        assert_eq!(client.text().await, "pong");
        client.update(version).await;
        assert_eq!(client.event().await["type"], "joined");
        assert_eq!(client.binary().await, b"state");
        assert_eq!(client.event().await["type"], "synced");
        assert!(relay.app.log().seen.contains(&asked.to_owned()), "{asked}");
    }
    assert!(relay.app.log().appends.is_empty(), "a version is no update");
    // The first update after it is the first frame that counts.
    let mut client = Client::connect(relay.address, PATH).await;
    client.update([1, 2, 3]).await;
    client.update("bad").await;
    let refusal = loop {
        match client.next().await {
            Some(Ok(Message::Text(text))) if text.contains("invalid_update") => break text,
            Some(Ok(_)) => {}
            other => panic!("no refusal but {other:?}"),
        }
    };
    assert!(refusal.contains(r#""frame":1"#), "{refusal}");
    relay.stop().await;
}

#[tokio::test]
async fn a_version_that_does_not_come_or_is_too_large_ends_the_connection() {
    let relay =
        Relay::start(|settings| settings.version_timeout = Duration::from_millis(100)).await;
    const PATH: &str = "/sync/p?version=frame";
    let mut silent = Client::connect(relay.address, PATH).await;
    assert_eq!(silent.close_code().await, 1008);
    relay.stop().await;

    let relay = Relay::start(|_| {}).await;
    let mut large = Client::connect(relay.address, PATH).await;
    large.update(vec![7; (1 << 20) + 1]).await;
    assert_eq!(large.close_code().await, 1008);
    // An update may be larger than that.
    let mut client = Client::connect(relay.address, PATH).await;
    client.update([]).await;
    client.update(vec![7; (1 << 20) + 1]).await;
    until("the update", async || relay.app.room("p").len() == 1).await;
    assert_eq!(relay.app.log().state_reads, 1);
    relay.stop().await;
}
