//! The share that one client can take, and what is left to others.

use crate::client::Client;
use crate::fake_app::{BIG, Task};
use crate::http::request;
use crate::{Relay, until, within};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
}

/// Connects from another address of this machine.
async fn from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket
        .bind(SocketAddr::from(([127, 0, 0, last], 0)))
        .unwrap();
    within("a connection", socket.connect(to)).await.unwrap()
}

async fn ask(mut stream: TcpStream, path: &str) -> String {
    stream.write_all(get(path).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    within("an answer", async {
        // Nothing more comes from a connection that was reset.
        let _ = stream.read_to_end(&mut answer).await;
    })
    .await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn one_address_takes_its_share_of_requests() {
    let relay = Relay::start(|settings| settings.requests_per_address = 2).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = from(1, relay.address).await;
        stream.write_all(get("/hangs").as_bytes()).await.unwrap();
        held.push(stream);
    }
    until("both are with the app", async || {
        relay
            .app
            .log()
            .seen
            .iter()
            .filter(|seen| *seen == "GET /hangs")
            .count()
            == 2
    })
    .await;
    let third = tokio::spawn(ask(from(1, relay.address).await, "/x"));
    // Another address doesn't wait.
    let other = ask(from(2, relay.address).await, "/x").await;
    assert!(other.starts_with("HTTP/1.1 200"), "{other}");
    assert!(!third.is_finished());
    let refused = third.await.unwrap();
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(
        refused.contains("urn:loro-sync:problem:too-busy") && refused.contains("retry-after"),
        "{refused}"
    );
    // A client that hangs up gives the place back.
    held.pop();
    let fourth = ask(from(1, relay.address).await, "/x").await;
    assert!(fourth.starts_with("HTTP/1.1 200"), "{fourth}");
    relay.stop().await;
}

/// Answers the report: "Four addresses without an account took all places."
#[tokio::test]
async fn strangers_take_half_of_the_places() {
    let relay = Relay::start(|settings| {
        settings.max_requests = 4;
        settings.requests_per_address = 1;
    })
    .await;
    let task = Task {
        version: 1,
        is_finished: true,
    };
    relay.app.log().tasks.insert("t".into(), task);
    let as_ann = |path: &str| get(path).replacen("host", "authorization: Bearer ann\r\nhost", 1);
    let known = request(relay.address, &as_ann("/tasks/t")).await;
    assert!(known.starts_with("HTTP/1.1 200"), "{known}");
    let mut held = Vec::new();
    for last in 2..7 {
        let mut stream = from(last, relay.address).await;
        stream.write_all(get("/hangs").as_bytes()).await.unwrap();
        held.push(stream);
    }
    let hanging = async || {
        let log = relay.app.log();
        log.seen.iter().filter(|seen| *seen == "GET /hangs").count()
    };
    until("two are with the app", async || hanging().await == 2).await;
    // A client that the app has let in finds a place at once.
    let begun = std::time::Instant::now();
    let answer = request(relay.address, &as_ann("/x")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    let refused = ask(from(9, relay.address).await, "/x").await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert_eq!(hanging().await, 2);
    drop(held);
    relay.stop().await;
}

/// Answers the report: "Fifteen hundred connections asked for a large file and never read it."
#[tokio::test]
async fn clients_that_read_nothing_hold_nothing_at_the_app() {
    let relay = Relay::start(|settings| {
        settings.max_requests = 8;
        settings.requests_per_address = 2;
        settings.write_timeout = Duration::from_secs(2);
    })
    .await;
    let mut unread = Vec::new();
    for _ in 0..100 {
        let mut stream = from(1, relay.address).await;
        stream.write_all(get("/big").as_bytes()).await.unwrap();
        unread.push(stream);
    }
    // The memory for answers holds some twenty of these; the others hold the share of their address until they are
    // given up.
    for _ in 0..20 {
        let answer = ask(from(2, relay.address).await, "/x").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let whole = ask(from(2, relay.address).await, "/big").await;
    assert!(whole.len() > BIG, "{}", whole.len());
    relay.stop().await;
}

/// Answers the report: "An upload that arrives slowly held its place as long as it took."
#[tokio::test]
async fn uploads_that_arrive_slowly_hold_no_place() {
    let relay = Relay::start(|settings| {
        settings.max_requests = 3;
        settings.requests_per_address = 2;
    })
    .await;
    let head = "POST /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 200000\r\n\r\n";
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut stream = from(1, relay.address).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&[b'x'; 100_000]).await.unwrap();
        slow.push(stream);
    }
    let begun = std::time::Instant::now();
    for last in [2, 1, 2, 1] {
        let answer = ask(from(last, relay.address).await, "/x").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    assert!(!relay.app.log().seen.iter().any(|seen| seen == "POST /x"));
    // An upload that arrives whole is passed on.
    let mut whole = slow.pop().unwrap();
    whole.write_all(&[b'x'; 100_000]).await.unwrap();
    let mut answer = Vec::new();
    within("an answer", whole.read_to_end(&mut answer))
        .await
        .unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    relay.stop().await;
}

#[tokio::test]
async fn a_file_of_the_page_is_asked_for_once() {
    let relay = Relay::start(|settings| settings.write_timeout = Duration::from_secs(60)).await;
    let first = request(relay.address, &get("/static/a")).await;
    assert!(
        first.starts_with("HTTP/1.1 200") && first.len() > BIG,
        "{}",
        first.len()
    );
    let mut unread = Vec::new();
    for number in 0..200 {
        let mut stream = from(1, relay.address).await;
        let asks = get(&format!("/static/a?b{number}"));
        let asks = asks.replacen("host", "accept-encoding: *\r\nrange: bytes=0-\r\nhost", 1);
        stream.write_all(asks.as_bytes()).await.unwrap();
        unread.push(stream);
    }
    let head = |answer: &str| answer.split_once("\r\n\r\n").unwrap().0.to_owned();
    let second = ask(from(2, relay.address).await, "/static/a").await;
    assert_eq!(second.len() - head(&second).len(), BIG + 4);
    assert!(
        head(&second).contains("content-length: 3145728"),
        "{}",
        head(&second)
    );
    let known =
        "GET /static/a HTTP/1.1\r\nhost: x\r\nif-none-match: \"a\"\r\nconnection: close\r\n\r\n";
    assert!(
        request(relay.address, known)
            .await
            .starts_with("HTTP/1.1 304")
    );
    let asked = {
        let log = relay.app.log();
        let files = log.seen.iter().filter(|seen| seen.contains("/static/"));
        files.count()
    };
    assert_eq!(asked, 1);
    drop(unread);
    relay.stop().await;
}

/// Answers the report: "Eleven thousand idle connections of one address kept all clients out."
#[tokio::test]
async fn idle_connections_of_one_address_keep_no_other_out() {
    let relay = Relay::start(|settings| settings.connections_per_address = 64).await;
    let mut inside = relay.join("p").await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(from(3, relay.address).await);
    }
    let begun = std::time::Instant::now();
    let request = format!("ws://{}/sync/p", relay.address);
    let stream = from(2, relay.address).await;
    let (socket, _) = within(
        "the handshake",
        tokio_tungstenite::client_async(request, stream),
    )
    .await
    .unwrap();
    let mut other = Client { socket };
    other.binary().await;
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    // The clients that are inside go on.
    inside.update("one").await;
    assert_eq!(other.binary().await, b"one");
    until("those above the bound are refused", async || {
        relay.metric("refused_total").await == 136
    })
    .await;
    relay.stop().await;
}
