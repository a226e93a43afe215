//! The start and the drain of a relay.

use crate::fake_app::Mood;
use crate::{PATIENCE, Relay, until, within};
use std::time::Duration;

/// The updates that were taken are stored, and other clients see them, before the sockets are closed.
#[tokio::test]
async fn a_drain_stores_what_was_taken_and_closes_with_1001() {
    let mut relay = Relay::start(|settings| settings.close_timeout = PATIENCE).await;
    let mut writer = relay.join("p").await;
    let mut reader = relay.join("p").await;
    relay.app.mood(Mood::Unavailable);
    writer.update("last words").await;
    until("it waits", async || {
        relay.metric("append_retries_total").await >= 2
    })
    .await;
    relay.begin_stop();
    // No client can connect any more. Then the app comes back.
    until("the door is shut", async || {
        tokio::net::TcpStream::connect(relay.address).await.is_err()
    })
    .await;
    relay.app.mood(Mood::Well);
    assert_eq!(reader.binary().await, b"last words");
    assert_eq!(reader.close_code().await, 1001);
    assert_eq!(writer.close_code().await, 1001);
    assert_eq!(relay.app.room("p"), [b"last words"]);
    drop((reader, writer));
    relay.stop().await;
}

/// A drain is held up neither by an app that stays away nor by a client that answers nothing.
#[tokio::test]
async fn a_drain_ends() {
    let relay = Relay::start(|settings| {
        settings.drain_timeout = Duration::from_millis(50);
        settings.close_timeout = Duration::from_millis(50);
    })
    .await;
    let mut writer = relay.join("p").await;
    let deaf = relay.join("p").await;
    relay.app.mood(Mood::Hangs);
    writer.update("x").await;
    until("it waits", async || {
        relay.metric("pending_updates").await == 1
    })
    .await;
    relay.stop().await;
    drop(deaf);
}

#[tokio::test]
async fn an_operator_drains_over_http() {
    let relay = Relay::start(|settings| settings.internal_token = "secret".into()).await;
    let mut client = relay.join("p").await;
    for (method, authorization, status) in [
        ("POST", "", "401"),
        ("POST", "authorization: Bearer wrong\r\n", "401"),
        ("GET", "authorization: Bearer secret\r\n", "405"),
        ("POST", "authorization: Bearer secret\r\n", "202"),
    ] {
        let request = format!(
            "{method} /internal/drain HTTP/1.1\r\nhost: x\r\n{authorization}connection: close\r\n\r\n"
        );
        let answer = crate::http::request(relay.address, &request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
    }
    assert_eq!(client.close_code().await, 1001);
    drop(client);
    within("the relay stops", relay.served)
        .await
        .unwrap()
        .unwrap();
    drop(relay.stop);
}

#[tokio::test]
async fn settings_that_make_no_sense() {
    for app in [
        "",
        "127.0.0.1:1",
        "https://app",
        "http://app/path",
        "ftp://x",
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = relay::Settings {
            app: app.into(),
            ..relay::Settings::default()
        };
        let served = relay::serve(listener, settings, std::future::pending());
        let served = within("the refusal", served).await;
        assert!(matches!(served, Err(relay::Error::Setting(_))), "{app}");
    }
}
