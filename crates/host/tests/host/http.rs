//! The tests of routing, headers, traps, files and variables.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{PATIENCE, TestHost, manifest, request, until, within};

const STORES: &str = "key_value_stores = [\"default\"]\nallowed_outbound_hosts = [\"http://self\"]";

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_receives_its_route() {
    let more = format!(
        "[[trigger.http]]\nroute = \"/user/:user_id/...\"\ncomponent = \"user\"\n[component.user]\nsource = \"{}\"",
        crate::support::guests().display()
    );
    let host = TestHost::with(&manifest("", &more), |_| {}).await;
    let text = host.get("/g/echo/a%20b?x=1&y").await.ok();
    for line in [
        "method: GET",
        "spin-path-info: /echo/a%20b",
        "spin-full-url: http://app.test/g/echo/a%20b?x=1&y",
        "spin-matched-route: /g/...",
        "spin-component-route: /g",
        "spin-raw-component-route: /g/...",
        "spin-base-path: /",
        "body: 0 bytes",
    ] {
        assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
    }
    assert!(text.contains("spin-client-addr: 127.0.0.1:"), "{text}");
    let text = host.post("/user/ann/echo", vec![0; 100_000]).await.ok();
    for line in [
        "method: POST",
        "spin-path-match-user_id: ann",
        "body: 100000 bytes",
        "spin-path-info: /echo",
    ] {
        assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
    }
    assert_eq!(host.get("/g/bytes/1000000").await.body.len(), 1_000_000);
    for nowhere in ["/", "/gg", "/user"] {
        assert_eq!(host.get(nowhere).await.status, 404, "{nowhere}");
    }
    assert_eq!(host.get("/.well-known/spin/health").await.ok(), "OK");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_is_a_500_and_harms_no_other_request() {
    let host = TestHost::start("").await;
    for _ in 0..3 {
        let (trapped, fine) = tokio::join!(host.get("/g/trap"), host.get("/g/sleep/100"));
        assert_eq!(
            (trapped.status, trapped.text().as_str()),
            (500, "internal server error")
        );
        assert_eq!(fine.ok(), "slept");
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_kept_alive() {
    let host = TestHost::start("").await;
    let mut stream = TcpStream::connect(host.address).await.unwrap();
    for _ in 0..3 {
        stream
            .write_all(b"GET /g/bytes/3 HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"0\r\n\r\n") {
            let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut answer))
                .await
                .unwrap()
                .unwrap();
            assert_ne!(read, 0, "closed after {}", String::from_utf8_lossy(&answer));
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"));
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_goes_on_after_its_answer_and_when_the_client_hung_up() {
    let host = TestHost::start(STORES).await;
    let began = std::time::Instant::now();
    assert_eq!(host.post("/g/later", "answered").await.ok(), "accepted");
    let answered = began.elapsed();
    host.wait_for_key("answered", |value| value == "done").await;
    assert!(
        began.elapsed() > answered + Duration::from_millis(50),
        "the work came before the answer"
    );

    let mut stream = TcpStream::connect(host.address).await.unwrap();
    stream
        .write_all(b"POST /g/later HTTP/1.1\r\nhost: x\r\ncontent-length: 7\r\n\r\nhung-up")
        .await
        .unwrap();
    // The client hangs up after the head of the answer, because then the instance has the whole request.
    let mut head = [0; 12];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut head))
        .await
        .unwrap()
        .unwrap();
    drop(stream);
    host.wait_for_key("hung-up", |value| value == "done").await;

    // A stop waits for such an instance as well.
    assert_eq!(host.post("/g/later", "at-stop").await.ok(), "accepted");
    let folder = host.stop().await;
    let database =
        rusqlite::Connection::open(folder.path().join("state/sqlite_key_value.db")).unwrap();
    let found: Vec<u8> = database
        .query_row(
            "SELECT value FROM spin_key_value WHERE key = 'at-stop'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(found, b"done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_is_finished_at_a_stop() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let called = server.local_addr().unwrap();
    let extra = format!("allowed_outbound_hosts = [\"http://{called}\"]");
    let host = TestHost::start(&extra).await;
    let address = host.address;
    let slow = tokio::spawn(async move {
        let path = format!("/g/get/http:/{called}/");
        request(address, "GET", &path, b"").await
    });
    let (mut call, _) = within("the call", server.accept()).await.unwrap();
    // The guest gets its answer only after the stop has begun.
    let answer = async {
        until("the host listens no more", async || {
            TcpStream::connect(address).await.is_err()
        })
        .await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nhere";
        call.write_all(answer).await.unwrap();
        // The rest of the call is read, because the answer might be lost otherwise.
        let mut rest = Vec::new();
        call.read_to_end(&mut rest).await.unwrap();
    };
    tokio::join!(host.stop(), within("an answer", answer));
    assert_eq!(slow.await.unwrap().ok(), "200 here");
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_are_the_component_s_own_and_it_has_no_environment() {
    let extra = "variables = { hello = \"{{ greeting }}, {{ environment }}\" }";
    let host = TestHost::with(&manifest(extra, ""), |settings| {
        settings.variables = vec![("greeting".into(), "hi".into())];
    })
    .await;
    assert_eq!(host.get("/g/variable/hello").await.ok(), "hi, development");
    // A variable of the application is not one of the component's.
    assert!(
        host.get("/g/variable/greeting")
            .await
            .error()
            .to_lowercase()
            .contains("undefined")
    );
    assert!(
        host.get("/g/variable/No-Name")
            .await
            .error()
            .to_lowercase()
            .contains("invalid")
    );
    assert_eq!(host.get("/g/env").await.ok(), "");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_internal_token_is_made_up_in_development_only() {
    let extra = "variables = { token = \"{{ internal_token }}\" }";
    let token = async |variables: &[(&str, &str)]| {
        let host = TestHost::with(&manifest(extra, ""), |settings| {
            settings.variables = variables
                .iter()
                .map(|(n, v)| ((*n).into(), (*v).into()))
                .collect();
        })
        .await;
        let token = host.get("/g/variable/token").await.ok();
        host.stop().await;
        token
    };
    let (one, other) = (token(&[]).await, token(&[]).await);
    assert!(one.len() >= 32 && one != other);
    assert_eq!(token(&[("internal_token", "given")]).await, "given");
    assert_eq!(token(&[("environment", "production")]).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_sees_no_files() {
    let host = TestHost::start("").await;
    for path in ["etc/passwd", "spin.toml", "state/sqlite_db.db", "."] {
        let read = host.get(&format!("/g/file/{path}")).await;
        assert_eq!(read.status, 502, "{path}");
    }
    let write = host.post("/g/write/new.txt", "new").await;
    assert_eq!(write.status, 502, "{write:?}");
    host.stop().await;
}
