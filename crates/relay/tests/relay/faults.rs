//! A relay whose app, or one of whose clients, misbehaves: the other clients notice nothing.

use crate::client::Client;
use crate::fake_app::Mood;
use crate::{PATIENCE, Relay, Way, both_ways, until, within};
use futures_util::future::join_all;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};

both_ways! {
    /// The app does something else instead of storing: updates arrive in order after it stores them.
    async fn the_app_is_away_for_a_while(way: Way) {
        for mood in [
            Mood::Unavailable,
            Mood::Garbage,
            Mood::TooFew,
            Mood::BreaksOff,
            Mood::Hangs,
        ] {
            let relay = Relay::start(|settings| {
                way.set(settings);
                settings.app_timeout = Duration::from_millis(100);
                settings.gap_wait = Duration::from_millis(5);
            })
            .await;
            let mut a = relay.join("p").await;
            let mut b = relay.join("p").await;
            relay.app.mood(mood);
            for i in 0..20 {
                a.update(format!("{i}")).await;
            }
            until("some tries", async || {
                relay.metric("append_retries_total").await >= 3
            })
            .await;
            relay.app.mood(Mood::Well);
            let mut seen = Vec::new();
            while seen.len() < 20 {
                seen.push(b.binary().await);
            }
            let expected: Vec<_> = (0..20).map(|i| format!("{i}").into_bytes()).collect();
            assert_eq!(seen, expected, "{mood:?}");
            assert_eq!(
                relay.app.room("p"),
                expected,
                "{mood:?}: each is stored once"
            );
            relay.stop().await;
        }
    }
}

both_ways! {
    async fn the_app_is_away_for_too_long(way: Way) {
        let relay = Relay::start(|settings| {
            way.set(settings);
            settings.app_patience = Duration::from_millis(50);
        })
        .await;
        let mut writer = relay.join("p").await;
        let mut reader = relay.join("p").await;
        relay.app.mood(Mood::Unavailable);
        writer.update("x").await;
        assert_eq!(writer.close_code().await, 1013);
        // The app cannot say whether a client may come in.
        let refused = Client::try_connect(relay.address, "/sync/q").await;
        assert!(matches!(refused, Err(Error::Http(response)) if response.status() == 502));
        relay.app.mood(Mood::Well);
        let mut writer = relay.join("p").await;
        writer.update("y").await;
        assert_eq!(reader.binary().await, b"y");
        relay.stop().await;
    }
}

both_ways! {
    async fn a_full_queue_closes_the_clients_that_write(way: Way) {
        let relay = Relay::start(|settings| {
            way.set(settings);
            settings.max_commit_queue = 64 * 1024;
            settings.max_socket_commit = 48 * 1024;
        })
        .await;
        let mut a = relay.join("p").await;
        let mut b = relay.join("p").await;
        let mut reader = relay.join("p").await;
        relay.app.mood(Mood::Unavailable);
        a.update(vec![b'a'; 30_000]).await;
        until("it is away", async || {
            relay.metric("append_retries_total").await >= 2
        })
        .await;
        b.update(vec![b'b'; 50_000]).await;
        assert_eq!(b.close_code().await, 1013);
        relay.app.mood(Mood::Well);
        assert_eq!(reader.binary().await.len(), 30_000);
        relay.stop().await;
    }
}

both_ways! {
    /// A client that writes faster than the app stores is held back, and the relay keeps a bounded part.
    async fn a_fast_writer_is_held_back(way: Way) {
        let relay = Relay::start(|settings| {
            way.set(settings);
            settings.max_socket_updates = 8;
            settings.app_timeout = Duration::from_secs(60);
        })
        .await;
        let mut writer = relay.join("p").await;
        let mut other = relay.join("q").await;
        relay.app.mood(Mood::Unavailable);
        for i in 0..100 {
            writer.update(format!("{i}")).await;
        }
        until("its share is taken", async || {
            relay.metric("pending_updates").await == 8
        })
        .await;
        other.update("x").await;
        until("another's too", async || {
            relay.metric("pending_updates").await == 9
        })
        .await;
        relay.app.mood(Mood::Well);
        until("all is stored", async || relay.app.room("p").len() == 100).await;
        let expected: Vec<_> = (0..100).map(|i| format!("{i}").into_bytes()).collect();
        assert_eq!(relay.app.room("p"), expected);
        relay.stop().await;
    }
}

/// The app fails in a way for a moment, while two clients write: no update is refused, none is lost, and those of each
/// writer stay in order.
async fn the_app_fails_for_a_moment(way: Way, mood: Mood, burst: Duration) {
    let relay = Relay::start(|settings| way.set(settings)).await;
    let mut a = relay.join("p").await;
    let mut b = relay.join("p").await;
    let mut reader = relay.join("p").await;
    relay.app.mood(mood);
    let start = Instant::now();
    let mut sent = 0;
    while start.elapsed() < burst {
        a.update(format!("a{sent}")).await;
        b.update(format!("b{sent}")).await;
        sent += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(relay.metric("append_retries_total").await > 0, "{mood:?}");
    relay.app.mood(Mood::Well);
    let mut read = Vec::new();
    for _ in 0..2 * sent {
        read.push(String::from_utf8(reader.binary().await).unwrap());
    }
    for writer in ['a', 'b'] {
        let of: Vec<_> = read
            .iter()
            .filter(|update| update.starts_with(writer))
            .collect();
        let expected: Vec<_> = (0..sent).map(|n| format!("{writer}{n}")).collect();
        assert_eq!(of, expected.iter().collect::<Vec<_>>(), "{mood:?}");
    }
    assert_eq!(relay.metric("updates_refused_total").await, 0, "{mood:?}");
    relay.stop().await;
}

both_ways! {
    /// The app fails for a moment in each of these ways, and an empty append passes meanwhile or not. Each way has a
    /// relay of its own, so all run at once.
    async fn my_edit_was_refused_because_the_app_failed_for_a_moment(way: Way) {
        let moments = [
            (Mood::Fails, 300),
            (Mood::FailsOnUpdates, 300),
            (Mood::FailsOnUpdates, 3000),
            (Mood::FailsOnUpdates, 8000),
            (Mood::FailsEverySecond, 8000),
            (Mood::Rejects, 300),
        ];
        join_all(moments.map(|(mood, burst)| {
            the_app_fails_for_a_moment(way, mood, Duration::from_millis(burst))
        }))
        .await;
    }
}

both_ways! {
    /// The sender of an update is the only client that waits for the proof that the app cannot take it.
    async fn an_update_that_traps_the_app_is_found_and_refused_and_no_other_client_waits(way: Way) {
        let relay = Relay::start(|settings| way.set(settings)).await;
        let mut a = relay.join("p").await;
        let mut b = relay.join("p").await;
        let mut c = relay.join("q").await;
        let mut reader = relay.join("p").await;
        let mut reader_q = relay.join("q").await;
        // All of them wait for one another, so that they go in one batch.
        relay.app.mood(Mood::Unavailable);
        for i in 0..10 {
            a.update(format!("a{i}")).await;
            b.update(match i {
                5 => "trap".to_owned(),
                6 => "trap again".to_owned(),
                i => format!("b{i}"),
            })
            .await;
            c.update(format!("c{i}")).await;
        }
        until("all wait", async || {
            relay.metric("pending_updates").await == 30
        })
        .await;
        relay.app.mood(Mood::Well);
        for i in 0..10 {
            assert_eq!(reader_q.binary().await, format!("c{i}").into_bytes());
        }
        // The proof takes five seconds. Until then other clients go on, also with later updates.
        a.update("a10").await;
        c.update("c10").await;
        let mut read = Vec::new();
        while read.len() < 16 {
            read.push(String::from_utf8(reader.binary().await).unwrap());
        }
        assert_eq!(reader_q.binary().await, b"c10");
        assert_eq!(relay.metric("updates_refused_total").await, 0);
        for frame in [6, 7] {
            let error = b.next_event("error").await;
            assert_eq!(error["code"], "invalid_update");
            assert_eq!(error["frame"], frame);
        }
        for _ in 0..3 {
            read.push(String::from_utf8(reader.binary().await).unwrap());
        }
        for (writer, expected) in [
            ('a', (0..=10).collect::<Vec<_>>()),
            ('b', vec![0, 1, 2, 3, 4, 7, 8, 9]),
        ] {
            let of: Vec<String> = read
                .iter()
                .filter(|update| update.starts_with(writer))
                .cloned()
                .collect();
            let expected: Vec<String> = expected.iter().map(|i| format!("{writer}{i}")).collect();
            assert_eq!(of, expected);
        }
        relay.stop().await;
    }
}

both_ways! {
    /// A gateway does not let one update through, or the app never answers it: only its sender waits, and is closed
    /// with 1013 once the relay's patience has ended.
    async fn nothing_was_saved_because_of_what_another_person_wrote(way: Way) {
        for (update, timeout) in [
            ("forbidden", Duration::from_secs(15)),
            ("hang", PATIENCE * 3),
        ] {
            let relay = Relay::start(|settings| {
                way.set(settings);
                settings.app_timeout = timeout;
                settings.app_patience = Duration::from_secs(1);
            })
            .await;
            let mut a = relay.join("p").await;
            let mut b = relay.join("q").await;
            let mut reader = relay.join("q").await;
            a.update(update).await;
            for word in ["one", "two"] {
                b.update(word).await;
                assert_eq!(reader.binary().await, word.as_bytes(), "{update}");
            }
            if update == "forbidden" {
                assert_eq!(a.close_code().await, 1013);
            }
            b.update("three").await;
            assert_eq!(reader.binary().await, b"three", "{update}");
            assert_eq!(relay.metric("updates_refused_total").await, 0, "{update}");
            assert_eq!(
                relay.metric("closed_try_again_total").await,
                u64::from(update != "hang")
            );
            drop((a, b, reader, relay));
        }
    }
}

both_ways! {
    /// The relay's patience ends before there is a proof: the sender of the update is closed with 1013.
    async fn what_cannot_be_proven_is_tried_again_later(way: Way) {
        let relay = Relay::start(|settings| {
            way.set(settings);
            settings.app_patience = Duration::from_secs(2);
        })
        .await;
        let mut a = relay.join("p").await;
        let mut b = relay.join("p").await;
        a.update("trap").await;
        assert_eq!(a.close_code().await, 1013);
        b.update("b").await;
        until("the other's is stored", async || {
            relay.app.room("p") == [b"b"]
        })
        .await;
        assert_eq!(relay.metric("updates_refused_total").await, 0);
        until("nothing waits", async || {
            relay.metric("pending_updates").await == 0
        })
        .await;
        relay.stop().await;
    }
}

/// The app closes an idle connection: the next edit does not wait for an answer on it.
#[tokio::test]
async fn the_first_edit_after_a_pause_takes_no_longer() {
    let relay = Relay::start(|settings| {
        settings.app_timeout = PATIENCE * 2;
        settings.line_requests = 0;
    })
    .await;
    relay.app.log().keep_alive = Some(Duration::from_millis(50));
    let mut writer = relay.join("p").await;
    let mut reader = relay.join("p").await;
    for update in ["before", "after", "once more"] {
        writer.update(update).await;
        assert_eq!(reader.binary().await, update.as_bytes());
        until("the app has closed its connections", async || {
            relay.app.log().connections == 0
        })
        .await;
    }
    relay.stop().await;
}

/// A client that does not read is closed with 4008, and the others get everything.
#[tokio::test]
async fn a_slow_reader_is_closed_and_slows_no_other() {
    const SIZE: usize = 128 * 1024;
    let relay = Relay::start(|settings| {
        settings.max_socket_queue = 4 * SIZE;
        settings.close_timeout = PATIENCE;
    })
    .await;
    let mut writer = relay.join("p").await;
    let mut reader = relay.join("p").await;
    let mut slow = relay.join("p").await;
    let mut sent = 0u32;
    // The kernel holds some megabytes before the relay must hold any.
    while relay.metric("closed_slow_total").await == 0 {
        assert!(sent < 2000, "it was never closed");
        let mut update = vec![0; SIZE];
        update[..4].copy_from_slice(&sent.to_be_bytes());
        writer.update(update).await;
        let read = reader.binary().await;
        assert_eq!(read[..4], sent.to_be_bytes());
        sent += 1;
    }
    assert_eq!(slow.close_code().await, 4008);
    drop((writer, reader, slow));
    // It joins again and has everything.
    let mut again = relay.connect("p").await;
    assert_eq!(again.binary().await.len(), sent as usize * (SIZE + 1) - 1);
    drop(again);
    relay.stop().await;
}

#[tokio::test]
async fn breaches_of_the_protocol_are_closed_with_their_code() {
    let masked = |head: &[u8], payload: &[u8]| {
        // A mask of zeros leaves the payload as it is.
        [head, &[0; 4], payload].concat()
    };
    let too_large = (17u64 << 20).to_be_bytes();
    let cases: Vec<(&str, u16, Vec<u8>)> = vec![
        (
            "17 MiB",
            1009,
            masked(
                &[&[0x82, 0xff], &too_large[..]].concat(),
                &vec![7; 17 << 20],
            ),
        ),
        ("not masked", 1002, vec![0x82, 0x01, 0x00]),
        (
            "text that is not UTF-8",
            1007,
            masked(&[0x81, 0x82], &[0xff, 0xfe]),
        ),
        ("an unknown opcode", 1002, masked(&[0x83, 0x80], &[])),
        ("reserved bits", 1002, masked(&[0xf2, 0x80], &[])),
        (
            "a continuation of nothing",
            1002,
            masked(&[0x80, 0x80], &[]),
        ),
        ("a ping in parts", 1002, masked(&[0x09, 0x80], &[])),
    ];
    let relay = Relay::start(|settings| settings.close_timeout = PATIENCE).await;
    let mut a = relay.join("p").await;
    let mut b = relay.join("p").await;
    for (what, code, bytes) in cases {
        let mut client = relay.join("p").await;
        let stream = client.socket.get_mut();
        within(what, stream.write_all(&bytes)).await.unwrap();
        assert_eq!(client.close_code().await, code, "{what}");
        a.update(what).await;
        assert_eq!(b.binary().await, what.as_bytes());
    }
    until("nothing is left of them", async || {
        relay.metric("connections").await == 2 && relay.metric("partial_bytes").await == 0
    })
    .await;
    drop((a, b));
    relay.stop().await;
}

/// A large message that never becomes complete is not kept.
#[tokio::test]
async fn messages_in_part_are_bounded() {
    let relay = Relay::start(|settings| settings.max_partial = 100_000).await;
    let mut client = relay.join("p").await;
    let mut bytes = vec![0x82, 0xff];
    bytes.extend(1_000_000u64.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.resize(200_000, 0);
    let stream = client.socket.get_mut();
    within("sending", stream.write_all(&bytes)).await.unwrap();
    assert_eq!(client.close_code().await, 1013);
    drop(client);
    until("it is forgotten", async || {
        relay.metric("partial_bytes").await == 0
    })
    .await;
    relay.stop().await;
}

/// A client on a machine that has vanished never answers a ping.
#[tokio::test]
async fn a_silent_client_is_dropped() {
    let relay = Relay::start(|settings| {
        settings.ping_interval = Duration::from_millis(50);
        settings.idle_timeout = Duration::from_millis(300);
    })
    .await;
    let mut alive = relay.join("p").await;
    let mut silent = TcpStream::connect(relay.address).await.unwrap();
    let request = "GET /sync/p HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    silent.write_all(request.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    // A client that answers pings stays, although it sends nothing else. It answers them by reading.
    tokio::select! {
        read = within("it is dropped", silent.read_to_end(&mut received)) => drop(read.unwrap()),
        frame = alive.next() => panic!("{frame:?}"),
    }
    let text = String::from_utf8_lossy(&received);
    assert!(text.starts_with("HTTP/1.1 101"), "{text}");
    assert!(text.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{text}");
    assert!(received.ends_with(&[0x89, 0]), "it was pinged");
    assert_eq!(relay.metric("closed_dead_total").await, 1);
    let mut writer = relay.join("p").await;
    writer.update("x").await;
    assert_eq!(alive.binary().await, b"x");
    relay.stop().await;
}

#[tokio::test]
async fn a_client_that_vanishes_or_leaves_properly() {
    let relay = Relay::start(|_| {}).await;
    let client = relay.join("p").await;
    drop(client);
    let mut client = relay.join("p").await;
    client.send(Message::Close(None)).await;
    match client.next().await {
        Some(Ok(Message::Close(_))) => {}
        other => panic!("{other:?}"),
    }
    assert!(client.next().await.is_none());
    until("both are gone", async || {
        relay.metric("connections").await == 0
    })
    .await;
    relay.stop().await;
}

#[tokio::test]
async fn one_connection_too_many() {
    let relay = Relay::start(|settings| settings.max_connections = 2).await;
    let _a = relay.join("p").await;
    let b = relay.join("p").await;
    match Client::try_connect(relay.address, "/sync/p").await {
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
            assert_eq!(response.status(), 503);
            assert!(response.headers().contains_key("retry-after"));
        }
        other => panic!("{:?}", other.err()),
    }
    drop(b);
    until("there is room again", async || {
        Client::try_connect(relay.address, "/sync/p").await.is_ok()
    })
    .await;
    relay.stop().await;
}
