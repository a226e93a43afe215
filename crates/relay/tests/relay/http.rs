//! The plain requests of HTTP: those that go to the app, and those that do not.

use crate::client::Client;
use crate::fake_app::Mood;
use crate::{PATIENCE, Relay, until, within};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Sends bytes, and reads until the server closes the connection.
pub(crate) async fn request(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    within("an answer", async {
        // Nothing more comes from a connection that was reset.
        let _ = stream.read_to_end(&mut answer).await;
    })
    .await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn body(answer: &str) -> Value {
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    serde_json::from_str(body).unwrap_or_else(|_| panic!("no JSON: {answer}"))
}

/// The values of a header that the app got.
fn header(echo: &Value, name: &str) -> Vec<String> {
    echo["headers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|pair| pair[0] == name)
        .map(|pair| pair[1].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn requests_are_passed_on() {
    let relay = Relay::start(|_| {}).await;
    let answer = request(
        relay.address,
        "PUT /some/path?a=b%20c HTTP/1.1\r\nhost: example.com\r\ncookie: a=b\r\n\
         authorization: Bearer x\r\nconnection: close, x-hop\r\nx-hop: 1\r\nkeep-alive: 5\r\n\
         te: trailers\r\nupgrade: h2c\r\nx-forwarded-for: 6.6.6.6\r\nx-loro-internal-user: root\r\n\
         content-length: 5\r\n\r\nhello",
    )
    .await;
    let echo = body(&answer);
    assert_eq!(echo["method"], "PUT");
    assert_eq!(echo["target"], "/some/path?a=b%20c");
    assert_eq!(echo["bytes"], 5);
    for (name, expected) in [
        ("host", vec!["example.com"]),
        ("cookie", vec!["a=b"]),
        ("authorization", vec!["Bearer x"]),
        ("content-length", vec!["5"]),
        ("x-forwarded-for", vec!["127.0.0.1"]),
        ("x-forwarded-proto", vec!["http"]),
        ("x-forwarded-host", vec!["example.com"]),
        ("x-hop", vec![]),
        ("keep-alive", vec![]),
        ("te", vec![]),
        ("upgrade", vec![]),
        ("connection", vec![]),
        ("x-loro-internal-user", vec![]),
    ] {
        assert_eq!(header(&echo, name), expected, "{name}");
    }
    // And back.
    assert!(answer.contains("x-from-the-app: yes"), "{answer}");
    assert!(!answer.contains("x-private"), "{answer}");
    // Chunks, a waiting client, a target in absolute form, HTTP/1.0.
    for (sent, bytes) in [
        (
            "POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
             3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n",
            7,
        ),
        (
            "POST /x HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\
             connection: close\r\n\r\nhi",
            2,
        ),
        (
            "GET http://other.example/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
            0,
        ),
        ("GET /x HTTP/1.0\r\n\r\n", 0),
    ] {
        let answer = request(relay.address, sent).await;
        let answer = answer
            .strip_prefix("HTTP/1.1 100 Continue\r\n\r\n")
            .unwrap_or(&answer);
        let echo = body(answer);
        assert_eq!(echo["bytes"], bytes, "{sent}");
        assert_eq!(echo["target"], "/x");
        assert_eq!(header(&echo, "expect").len(), 0);
        assert_eq!(header(&echo, "host").len(), 1);
    }
    relay.stop().await;
}

/// The app closes a kept connection at the moment at which the relay uses it again: a request that only reads is sent
/// once more.
#[tokio::test]
async fn my_page_did_not_load_because_a_kept_connection_broke() {
    let relay = Relay::start(|_| {}).await;
    for (method, status) in [("GET", "200"), ("POST", "502")] {
        // The relay keeps the connection of this request.
        let ask = |method: &str, path: &str| {
            format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        };
        let answer = request(relay.address, &ask("GET", "/x")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let answer = request(relay.address, &ask(method, "/breaks-once")).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{method}: {answer}"
        );
    }
    relay.stop().await;
}

#[tokio::test]
async fn internal_routes_are_never_passed_on() {
    let relay = Relay::start(|_| {}).await;
    for target in [
        "/internal",
        "/internal/append",
        "//internal/append",
        "/./internal/append",
        "/x/../internal/append",
        "/%69nternal/append",
        "/%2569nternal/append",
        "/x/%2e%2e/internal/append",
        "/x/..%2finternal/append",
        "/INTERNAL/append",
        "/internal;a=b/append",
        "/internal/drain/",
        "//internal/drain",
        "http://x/internal/append",
        "http://x//internal/append",
    ] {
        for method in ["GET", "POST"] {
            let sent =
                format!("{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            let answer = request(relay.address, &sent).await;
            assert!(answer.starts_with("HTTP/1.1 404"), "{target}: {answer}");
            assert_eq!(body(&answer)["type"], "urn:loro-sync:problem:not-found");
        }
    }
    assert_eq!(relay.app.log().seen, Vec::<String>::new());
    relay.stop().await;
}

#[tokio::test]
async fn a_path_that_is_encoded_too_often_is_refused() {
    let relay = Relay::start(|_| {}).await;
    let deep = format!("/%{}", "25".repeat(6_000));
    for target in [&deep, "/sync/%25252541"] {
        let sent = format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = request(relay.address, &sent).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert_eq!(body(&answer)["type"], "urn:loro-sync:problem:bad-request");
    }
    assert_eq!(relay.app.log().seen, Vec::<String>::new());
    relay.stop().await;
}

/// The app calls addresses that users give, and may do so from this machine.
#[tokio::test]
async fn without_a_token_no_request_is_the_operators() {
    let relay = Relay::start(|_| {}).await;
    for path in ["/internal/drain", "/internal/recheck"] {
        for authorization in ["", "authorization: Bearer \r\n"] {
            let sent = format!(
                "POST {path} HTTP/1.1\r\nhost: x\r\n{authorization}content-length: 0\r\nconnection: close\r\n\r\n"
            );
            let answer = request(relay.address, &sent).await;
            assert!(answer.starts_with("HTTP/1.1 401"), "{path}: {answer}");
        }
    }
    relay.join("p").await;
    relay.stop().await;
}

#[tokio::test]
async fn the_health_of_an_app_that_is_away_is_503() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let relay = Relay::start(|settings| settings.app = format!("http://{address}")).await;
    for (path, status) in [("/health", 503), ("/x", 502)] {
        let sent = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = request(relay.address, &sent).await;
        let expected = format!("HTTP/1.1 {status}");
        assert!(answer.starts_with(&expected), "{answer}");
    }
    relay.stop().await;
}

/// Answers the report: "Six hundred connections asked for the health, and all other requests waited."
#[tokio::test]
async fn many_requests_for_the_health_are_one_question_to_the_app() {
    let relay = Relay::start(|_| {}).await;
    let ask = |method: &'static str| {
        let sent = format!("{method} /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        async move { request(relay.address, &sent).await }
    };
    let start = std::time::Instant::now();
    let asking: Vec<_> = (0..200).map(|_| tokio::spawn(ask("GET"))).collect();
    for answer in asking {
        let answer = answer.await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(body(&answer)["target"], "/health");
        assert!(!answer.contains("x-private"), "{answer}");
    }
    let asked = || {
        relay
            .app
            .log()
            .seen
            .iter()
            .filter(|seen| *seen == "GET /health")
            .count()
    };
    let seconds = usize::try_from(start.elapsed().as_secs()).unwrap();
    assert!(asked() <= 1 + seconds, "{} questions", asked());
    let head = ask("HEAD").await;
    assert!(
        head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    // The answer soon shows that the app is ill, and later that it is well again.
    for (mood, status) in [(Mood::Unavailable, "503"), (Mood::Well, "200")] {
        relay.app.mood(mood);
        let start = std::time::Instant::now();
        until("it shows", async || {
            ask("GET").await.starts_with(&format!("HTTP/1.1 {status}"))
        })
        .await;
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{:?}",
            start.elapsed()
        );
    }
    relay.stop().await;
}

#[tokio::test]
async fn nonsense_harms_no_other_client() {
    let relay = Relay::start(|settings| settings.header_timeout = Duration::from_millis(100)).await;
    let mut a = relay.join("p").await;
    let mut b = relay.join("p").await;
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(100_000));
    let many = format!(
        "GET / HTTP/1.1\r\n{}\r\n",
        (0..500).map(|i| format!("h{i}: x\r\n")).collect::<String>()
    );
    for (what, sent) in [
        ("garbage", "\u{1}\u{2}\u{3} nonsense\r\n\r\n"),
        ("a broken head", "GET\r\n\r\n"),
        ("half a head", "GET / HTTP/1.1\r\nhost: x\r\n"),
        ("nothing", ""),
        ("a long target", &long),
        ("many headers", &many),
        (
            "two lengths",
            "POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        ),
        ("a bad header", "GET / HTTP/1.1\r\nho st: x\r\n\r\n"),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ] {
        let answer = request(relay.address, sent).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{what}: {answer}"
        );
        a.update(what).await;
        assert_eq!(b.binary().await, what.as_bytes());
    }
    assert_eq!(
        relay
            .app
            .log()
            .seen
            .iter()
            .filter(|seen| !seen.contains("/internal/") && *seen != "GET /health")
            .count(),
        0
    );
    relay.stop().await;
}

#[tokio::test]
async fn upgrades_that_are_refused() {
    let relay = Relay::start(|_| {}).await;
    let long = format!("/sync/{}", "x".repeat(129));
    const KEY: &str = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    const VERSION: &str = "sec-websocket-version: 13\r\n";
    const ASKS: &str = "connection: upgrade\r\nupgrade: websocket\r\n";
    for (line, headers, status) in [
        ("GET /sync/a.b", [ASKS, VERSION, KEY], 400),
        ("GET /sync/", [ASKS, VERSION, KEY], 400),
        ("GET /sync/a/b", [ASKS, VERSION, KEY], 400),
        ("GET /sync/%41", [ASKS, VERSION, KEY], 400),
        (&format!("GET {long}"), [ASKS, VERSION, KEY], 400),
        ("GET /sync/p?version=!", [ASKS, VERSION, KEY], 400),
        ("GET /sync/p", [ASKS, VERSION, ""], 400),
        (
            "GET /sync/p",
            [ASKS, VERSION, "sec-websocket-key: short\r\n"],
            400,
        ),
        ("GET /sync/p", ["upgrade: websocket\r\n", VERSION, KEY], 400),
        (
            "GET /sync/p",
            [ASKS, "sec-websocket-version: 8\r\n", KEY],
            426,
        ),
        ("GET /sync/p", [ASKS, "", KEY], 426),
        ("POST /sync/p", [ASKS, VERSION, KEY], 405),
    ] {
        let sent = format!("{line} HTTP/1.1\r\nhost: x\r\n{}\r\n", headers.concat());
        let mut stream = TcpStream::connect(relay.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let read = within(line, stream.read(&mut answer)).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{line}: {answer}"
        );
        assert!(
            answer.contains("content-type: application/problem+json"),
            "{answer}"
        );
    }
    // At other paths an upgrade is a plain request to the app.
    let sent = format!(
        "GET /elsewhere HTTP/1.1\r\nhost: x\r\n{VERSION}{KEY}upgrade: websocket\r\n\
         connection: upgrade, close\r\n\r\n"
    );
    let echo = body(&request(relay.address, &sent).await);
    assert!(header(&echo, "upgrade").is_empty());
    relay.stop().await;
}

/// A second small write would wait for the acknowledgement of the first, 40 ms, if TCP_NODELAY cannot be set.
#[tokio::test]
async fn the_answer_to_an_upgrade_and_the_state_are_one_write() {
    let relay = Relay::start(|_| {}).await;
    relay.app.store("p", b"state");
    let upgrade = "GET /sync/p?events=1 HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    // On a busy machine a state may take longer than the answer waits.
    until("one read has it all", async || {
        let mut stream = TcpStream::connect(relay.address).await.unwrap();
        stream.write_all(upgrade.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let read = within("the answer", stream.read(&mut answer))
            .await
            .unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]);
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        [r#""type":"joined""#, "state", r#""type":"synced""#]
            .iter()
            .all(|part| answer.contains(part))
    })
    .await;
    // If the state takes long, the upgrade is answered all the same.
    relay.app.hold_states();
    let slow = relay.connect("q").await;
    relay.app.release_states();
    drop(slow);
    relay.stop().await;
}

#[tokio::test]
async fn an_app_that_is_not_there_or_takes_too_long() {
    let relay = Relay::start(|settings| settings.proxy_timeout = Duration::from_millis(100)).await;
    let answer = request(relay.address, "GET /hangs HTTP/1.0\r\nhost: x\r\n\r\n").await;
    assert!(answer.contains(" 504 "), "{answer}");
    assert_eq!(body(&answer)["status"], 504);
    relay.stop().await;

    // The socket is bound so that no other program gets the port, but it never listens.
    let silent = tokio::net::TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = silent.local_addr().unwrap();
    let relay = Relay::start(|settings| settings.app = format!("http://{address}")).await;
    let answer = request(relay.address, "GET /x HTTP/1.0\r\nhost: x\r\n\r\n").await;
    assert!(answer.contains(" 502 "), "{answer}");
    assert!(answer.contains("retry-after"), "{answer}");
    assert_eq!(
        body(&answer)["type"],
        "urn:loro-sync:problem:app-unreachable"
    );
    relay.stop().await;
}

/// A client that hangs up cancels its request.
#[tokio::test]
async fn a_client_that_hangs_up_cancels() {
    // A drain waits for this long for plain requests, which is longer than the test waits for the drain.
    let relay = Relay::start(|settings| settings.close_timeout = PATIENCE).await;
    let mut stream = TcpStream::connect(relay.address).await.unwrap();
    stream
        .write_all(b"GET /hangs HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    until("the app has it", async || {
        relay.app.log().seen.contains(&"GET /hangs".to_owned())
    })
    .await;
    drop(stream);
    relay.stop().await;
}

#[tokio::test]
async fn metrics_are_the_operators() {
    let relay = Relay::start(|settings| settings.internal_token = "secret".into()).await;
    let _client = relay.join("p").await;
    let get = async |authorization: &str| {
        let sent =
            format!("GET /metrics HTTP/1.1\r\nhost: x\r\n{authorization}connection: close\r\n\r\n");
        request(relay.address, &sent).await
    };
    for refused in ["", "authorization: Bearer wrong\r\n"] {
        assert!(get(refused).await.starts_with("HTTP/1.1 401"));
    }
    let text = get("authorization: Bearer secret\r\n").await;
    assert!(text.contains("\nrelay_connections 1\n"), "{text}");
    assert!(
        text.contains("# TYPE relay_state_reads_total counter"),
        "{text}"
    );
    // The relay sends the token to the app as well; without it no client could join.
    assert!(
        Client::try_connect(relay.address, "/sync/p").await.is_ok(),
        "WebSockets need none"
    );
    relay.stop().await;
}

/// The scrapers of metrics may come as often as they like, also all at once.
#[tokio::test]
async fn the_app_is_asked_for_its_numbers_at_most_once_a_minute() {
    let relay = Relay::start(|_| {}).await;
    let scrape = || {
        let sent = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        request(relay.address, sent)
    };
    let crowd = futures_util::future::join_all((0..20).map(|_| scrape())).await;
    assert!(crowd.iter().all(|text| text.starts_with("HTTP/1.1 200")));
    for _ in 0..20 {
        scrape().await;
    }
    let seen = relay.app.log().seen.clone();
    let asked = seen.iter().filter(|seen| *seen == "GET /internal/metrics");
    assert_eq!(asked.count(), 1);
    relay.stop().await;
}
