//! The limits of another host, and how the app and its relay keep within them.

use e2e::host::{Kind, Setup};
use e2e::http::Http;
use e2e::raw::{Client, Closed, change};
use e2e::wait::until;
use loro::LoroDoc;
use tokio_tungstenite::tungstenite::Message;

const MIB: usize = 1 << 20;

/// An update of a little more than this many bytes.
fn update(bytes: usize) -> Vec<u8> {
    change(&LoroDoc::new(), |doc| {
        doc.get_map("large")
            .insert("bytes", vec![7_u8; bytes])
            .unwrap()
    })
}

/// A body within the host's limit is stored. The relay refuses a larger one and names the limit, and so does the app if
/// there is no relay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_beyond_the_hosts_limit_are_refused_with_the_limit_in_the_words() {
    let host = Setup::new(Kind::Native)
        .elsewhere("fermyon-cloud")
        .start()
        .await;
    let client = Client::join_with_events(&host.address, "p").await;
    client.send(update(8 * MIB)).await;
    client.typed("after it").await;
    client.saved(2).await;
    let reader = Client::join(&host.address, "p").await;
    reader
        .until("what was saved", |reader| reader.text() == "after it")
        .await;

    let posted = async |server: Http, length: usize, sent: usize| {
        let head = format!(
            "POST /sync/p HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        server
            .raw([head.into_bytes(), vec![0; sent]].concat())
            .await
    };
    let large = 9 * MIB + 1;
    // The relay refuses by the head alone, and a client that still writes may miss an answer that comes early.
    for (server, sent) in [(host.http(), 0), (host.app_http(), large)] {
        let (status, text) = posted(server, large, sent).await;
        assert_eq!(status, 413, "{text}");
        assert!(text.contains("A body has at most 9437184 bytes."), "{text}");
    }
    // The host refuses a body beyond its own limit, and the app does not receive it.
    let (status, text) = posted(host.app_http(), 10_000_001, 10_000_001).await;
    assert_eq!(status, 413, "{text}");
    assert!(text.contains("A body has 10 MB at most."), "{text}");

    // The server may close before it has read the whole message.
    let _ = client
        .try_send(Message::Binary(vec![0; 9 * MIB + 1].into()))
        .await;
    let end = client.end().await;
    assert_eq!(end, Closed::Code(1009));

    // The relay ticks here, and the answer to a tick says what this host does not protect.
    until("the relay's log names the open networks", async || {
        let log = host.process.log();
        log.contains("does not keep the app from private networks")
    })
    .await;
    host.stop().await;
}
