//! The relay in front of the application, in both builds.

use loro_host::RelayKind;

use crate::support::{TestHost, manifest, request, wasm};

async fn proxies_and_drains(kind: RelayKind) {
    let relay = wasm("relay");
    let host = TestHost::with(&manifest("", ""), |settings| {
        settings.relay = kind;
        settings.relay_wasm = relay;
    })
    .await;
    assert_ne!(host.public(), host.address);
    let text = request(host.public(), "GET", "/g/echo/x", b"").await.ok();
    assert!(text.contains("spin-path-info: /echo/x"), "{text}");
    let address = host.public();
    host.stop().await;
    assert!(
        tokio::net::TcpStream::connect(address).await.is_err(),
        "still listens"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_native_relay_proxies_and_drains() {
    proxies_and_drains(RelayKind::Native).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wasm_relay_proxies_and_drains() {
    proxies_and_drains(RelayKind::Wasm).await;
}
