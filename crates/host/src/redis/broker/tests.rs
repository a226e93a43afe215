use std::time::Duration;

use futures_util::StreamExt;
use redis::AsyncCommands;

use super::*;

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), what)
        .await
        .expect("took too long")
}

/// Starts a broker and answers its URL.
async fn start() -> String {
    let broker = Broker::open().await.unwrap();
    let url = broker.url();
    tokio::spawn(broker.serve());
    url
}

#[tokio::test]
async fn subscribers_get_what_is_published() {
    let client = redis::Client::open(start().await).unwrap();
    let mut publisher = client.get_multiplexed_async_connection().await.unwrap();
    let heard: i64 = within(publisher.publish("room:a", b"early")).await.unwrap();
    assert_eq!(heard, 0);

    let mut both = client.get_async_pubsub().await.unwrap();
    both.subscribe(&["room:a", "room:b"]).await.unwrap();
    let mut one = client.get_async_pubsub().await.unwrap();
    one.subscribe("room:b").await.unwrap();

    let payload: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let heard: i64 = within(publisher.publish("room:a", &payload)).await.unwrap();
    assert_eq!(heard, 1);
    let heard: i64 = within(publisher.publish("room:b", b"second"))
        .await
        .unwrap();
    assert_eq!(heard, 2);

    let first = within(both.on_message().next()).await.unwrap();
    assert_eq!(
        (first.get_channel_name(), first.get_payload_bytes()),
        ("room:a", payload.as_slice())
    );
    let second = within(both.on_message().next()).await.unwrap();
    assert_eq!(second.get_payload_bytes(), b"second");
    let second = within(one.on_message().next()).await.unwrap();
    assert_eq!(second.get_channel_name(), "room:b");

    both.unsubscribe("room:b").await.unwrap();
    let heard: i64 = within(publisher.publish("room:b", b"third")).await.unwrap();
    assert_eq!(heard, 1);
    drop(one);
    // The broker notices a closed connection soon, not at once.
    for _ in 0..1000 {
        let heard: i64 = within(publisher.publish("room:b", b"x")).await.unwrap();
        if heard == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("a closed connection is still subscribed");
}

#[tokio::test]
async fn other_commands_are_errors_and_the_connection_goes_on() {
    let client = redis::Client::open(start().await).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let refused: redis::RedisResult<Option<String>> = within(connection.get("key")).await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("publishes and subscribes only")
    );
    let pong: String = within(redis::cmd("PING").query_async(&mut connection))
        .await
        .unwrap();
    assert_eq!(pong, "PONG");
}

#[tokio::test]
async fn a_client_gets_the_replies_to_all_commands_before_its_end() {
    let url = start().await;
    let address = url.trim_start_matches("redis://");
    for (end, last) in [("QUIT\r\n", "+OK\r\n"), ("", "")] {
        let mut client = TcpStream::connect(address).await.unwrap();
        // The last reply is longer than the kernel holds.
        let text = "x".repeat(16 << 20);
        let commands = format!(
            "PING\r\nSUBSCRIBE c\r\n*2\r\n$4\r\nPING\r\n${}\r\n{text}\r\n{end}",
            text.len()
        );
        within(client.write_all(commands.as_bytes())).await.unwrap();
        client.shutdown().await.unwrap();
        let mut replies = String::new();
        within(client.read_to_string(&mut replies)).await.unwrap();
        let expected = format!(
            "+PONG\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n${}\r\n{text}\r\n{last}",
            text.len()
        );
        assert!(replies == expected, "{} bytes", replies.len());
    }
}

#[tokio::test]
async fn a_slow_subscriber_is_cut_off_and_others_are_not() {
    let url = start().await;
    let address = url.trim_start_matches("redis://").to_owned();
    let mut slow = TcpStream::connect(&address).await.unwrap();
    slow.write_all(b"SUBSCRIBE c\r\n").await.unwrap();
    let mut greeting = [0; 16];
    within(slow.read_exact(&mut greeting)).await.unwrap();

    let client = redis::Client::open(url).unwrap();
    let mut quick = client.get_async_pubsub().await.unwrap();
    quick.subscribe("c").await.unwrap();
    let mut publisher = client.get_multiplexed_async_connection().await.unwrap();
    let payload = vec![7u8; 4 << 20];
    for _ in 0..200 {
        let heard: i64 = within(publisher.publish("c", &payload)).await.unwrap();
        let message = within(quick.on_message().next()).await.unwrap();
        assert!(message.get_payload_bytes() == payload);
        if heard == 1 {
            return;
        }
    }
    panic!("800 MiB were kept for a subscriber that does not read");
}

#[test]
fn commands_are_parsed_in_any_pieces() {
    let bytes = b"*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$4\r\na\r\nb\r\nPING\r\n";
    for cut in 0..bytes.len() {
        let mut buffer = BytesMut::new();
        let mut commands = Vec::new();
        for piece in [&bytes[..cut], &bytes[cut..]] {
            buffer.extend_from_slice(piece);
            while let Some(command) = parse(&mut buffer).unwrap() {
                commands.push(command);
            }
        }
        let expected: [&[&[u8]]; 2] = [&[b"PUBLISH", b"c", b"a\r\nb"], &[b"PING"]];
        assert_eq!(commands, expected, "cut at {cut}");
    }
    for bad in [
        "*x\r\n",
        "*1\r\n:1\r\n",
        "*1\r\n$99999999999\r\n",
        "*99999\r\n",
    ] {
        assert!(parse(&mut BytesMut::from(bad)).is_err(), "{bad}");
    }
}
