//! The limits of another host, and how the app and its relay keep within them.

use e2e::host::{Kind, Setup};
use e2e::raw::{Client, Closed, change};
use e2e::wait::until;
use loro::LoroDoc;
use tokio_tungstenite::tungstenite::Message;

const MIB: usize = 1 << 20;

/// An update of some more than so many bytes.
fn update(bytes: usize) -> Vec<u8> {
    change(&LoroDoc::new(), |doc| {
        doc.get_map("large")
            .insert("bytes", vec![7_u8; bytes])
            .unwrap()
    })
}

/// What fits the host is stored, what does not is refused by the relay in words, and by the app if no relay did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_beyond_the_hosts_limit_are_refused_with_the_limit_in_the_words() {
    let host = Setup::new(Kind::Native)
        .elsewhere("fermyon-cloud")
        .start()
        .await;
    let http = host.http();
    let client = Client::join_with_events(&host.address, "p").await;
    client.send(update(8 * MIB)).await;
    client.typed("after it").await;
    client.saved(2).await;
    let reader = Client::join(&host.address, "p").await;
    reader
        .until("what was saved", |reader| reader.text() == "after it")
        .await;

    let words = "A body has at most 9437184 bytes.";
    let refused = http.post("/sync/p", update(9 * MIB)).await;
    refused.assert_problem(413, "payload-too-large");
    assert!(refused.text().contains(words), "{}", refused.text());
    let app = host.app_http();
    let refused = app.post("/sync/p", update(9 * MIB)).await;
    refused.assert_problem(413, "payload-too-large");
    assert!(refused.text().contains(words), "{}", refused.text());
    // Beyond that the host refuses it before the app sees it.
    let refused = app.post("/sync/p", vec![0; 10_000_001]).await;
    assert_eq!(refused.status, 413);
    assert_eq!(refused.text(), "A body has 10 MB at most.");

    // The server may close before it has read the whole message.
    let _ = client
        .try_send(Message::Binary(vec![0; 9 * MIB + 1].into()))
        .await;
    let end = client.end().await;
    assert_eq!(end, Closed::Code(1009));

    // The relay ticks here, and has heard what this host does not protect.
    until("the relay's log names the open networks", async || {
        let log = host.process.log();
        log.contains("does not keep the app from private networks")
    })
    .await;
    host.stop().await;
}
