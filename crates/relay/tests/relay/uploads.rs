//! The uploads that are too large for one request, which reach the app in parts.

use crate::http::request;
use crate::{Relay, until, within};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wire::{MAX_WHOLE_UPLOAD, UPLOAD_PART};

/// The bytes of the film: two parts, and a bit.
const FILM: usize = 2 * UPLOAD_PART + 7;

fn film() -> Vec<u8> {
    (0..FILM).map(|n| (n / 7) as u8).collect()
}

fn head(path: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncookie: a=b\r\nconnection: close\r\n\
         content-type: video/mp4\r\ncontent-length: {length}\r\n\r\n"
    )
}

/// Sends a body and returns the answer.
async fn send(relay: &Relay, path: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(relay.address).await.unwrap();
    let mut answer = Vec::new();
    within("an answer", async {
        let head = head(path, body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        stream.read_to_end(&mut answer).await.unwrap();
    })
    .await;
    String::from_utf8(answer).unwrap()
}

/// Returns what the app was asked about uploads.
fn asked(relay: &Relay) -> Vec<String> {
    let log = relay.app.log();
    let mut seen = log.seen.clone();
    seen.retain(|seen| seen.contains("/uploads"));
    seen
}

#[tokio::test]
async fn a_large_upload_reaches_the_app_in_parts_each_with_the_credentials_of_the_client() {
    let relay = Relay::start(|_| {}).await;
    let film = film();
    let answer = send(&relay, "/projects/p/assets?token=t&last=1", &film).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let first = format!("POST /projects/p/uploads?length={FILM}");
    let next = |at, last| format!("POST /projects/p/uploads/asset_1.mp4?from={at}{last}");
    let expected = [
        first,
        next(UPLOAD_PART, ""),
        next(2 * UPLOAD_PART, "&last=1"),
    ];
    assert_eq!(asked(&relay), expected);
    // The echo of the last part.
    for header in [
        r#"["cookie","a=b"]"#,
        r#"["authorization","Bearer t"]"#,
        r#"["content-length","7"]"#,
    ] {
        assert!(answer.contains(header), "{answer}");
    }
    let parts = relay.app.log().parts.clone();
    let lengths: Vec<usize> = parts.iter().map(Bytes::len).collect();
    assert_eq!(lengths, [UPLOAD_PART, UPLOAD_PART, 7]);
    assert!(parts.concat() == film);
    relay.stop().await;
}

#[tokio::test]
async fn an_upload_that_fits_one_request_or_has_no_length_is_not_split() {
    let relay = Relay::start(|_| {}).await;
    let answer = send(&relay, "/projects/p/assets", &vec![1; MAX_WHOLE_UPLOAD]).await;
    assert!(answer.contains(r#""bytes":8388608"#), "{answer}");
    let chunked = "POST /projects/p/assets HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                   transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let answer = request(relay.address, chunked).await;
    assert!(answer.contains(r#""bytes":5"#), "{answer}");
    assert_eq!(asked(&relay), [""; 0]);
    relay.stop().await;
}

#[tokio::test]
async fn a_part_is_tried_again_and_a_refusal_is_passed_on() {
    let relay = Relay::start(|_| {}).await;
    let film = film();
    // The first part is not tried again, because it would begin another upload.
    for (status, seen) in [(503, 1), (507, 1)] {
        relay.app.log().refused_parts = (1, status);
        let answer = send(&relay, "/projects/p/assets", &film).await;
        let expected = format!("HTTP/1.1 {status}");
        assert!(answer.starts_with(&expected), "{answer}");
        assert_eq!(asked(&relay).len(), seen);
        relay.app.log().seen.clear();
    }
    // A slow client leaves the test time to choose the answer to the second part.
    for (status, expected) in [(503, 200), (409, 409)] {
        relay.app.log().parts.clear();
        let mut stream = TcpStream::connect(relay.address).await.unwrap();
        let head = head("/projects/p/assets", FILM);
        let (first, rest) = film.split_at(UPLOAD_PART + 1);
        within("the first part", async {
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(first).await.unwrap();
        })
        .await;
        until("the first part is there", async || {
            relay.app.log().parts.len() == 1
        })
        .await;
        relay.app.log().refused_parts = (1, status);
        let mut answer = Vec::new();
        within("the answer", async {
            stream.write_all(rest).await.unwrap();
            stream.read_to_end(&mut answer).await.unwrap();
        })
        .await;
        let answer = String::from_utf8(answer).unwrap();
        let expected = format!("HTTP/1.1 {expected}");
        assert!(answer.starts_with(&expected), "{answer}");
    }
    until("the refused upload is given up", async || {
        let deleted = "DELETE /projects/p/uploads/asset_1.mp4";
        asked(&relay).iter().filter(|seen| *seen == deleted).count() == 1
    })
    .await;
    relay.stop().await;
}

#[tokio::test]
async fn an_upload_that_is_cut_is_given_up_and_a_slow_one_holds_no_place() {
    let relay = Relay::start(|settings| {
        settings.max_requests = 2;
        settings.requests_per_address = 1;
    })
    .await;
    let mut slow = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(relay.address).await.unwrap();
        let head = head("/projects/p/assets", FILM);
        within("the first part", async {
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&film()[..UPLOAD_PART + 1]).await.unwrap();
        })
        .await;
        slow.push(stream);
    }
    until("three uploads have begun", async || {
        relay.app.log().parts.len() == 3
    })
    .await;
    let answer = request(
        relay.address,
        "GET /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(slow);
    until("each is given up", async || {
        let deleted = "DELETE /projects/p/uploads/asset_1.mp4";
        asked(&relay).iter().filter(|seen| *seen == deleted).count() == 3
    })
    .await;
    relay.stop().await;
}
