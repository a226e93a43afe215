//! Checks misuse: clients that send nonsense, too much, or nothing harm only themselves.

use std::time::Duration;

use e2e::both_relays;
use e2e::host::{Host, Kind, Setup};
use e2e::raw::{Client, Closed, Heard, change, converged, open, open_on};
use e2e::wait::{soon, until};
use futures_util::StreamExt;
use futures_util::future::join_all;
use loro::LoroDoc;
use rand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;

/// The most by which the server's memory may grow during any misuse, in MiB.
const GROWTH: u64 = 300;

/// The two clients that edit a room while others misbehave in it.
struct Bystanders {
    one: Client,
    two: Client,
}

impl Bystanders {
    async fn join(host: &Host) -> Self {
        let one = Client::join(&host.address, "p").await;
        let two = Client::join(&host.address, "p").await;
        for client in [&one, &two] {
            client
                .until("the state", |client| client.blobs() == 1)
                .await;
        }
        Self { one, two }
    }

    /// Edits until `misbehave` completes, and checks that the edits are stored in time.
    async fn edit_while<T>(&self, misbehave: impl Future<Output = T>) -> T {
        let mut misbehave = std::pin::pin!(misbehave);
        let mut slowest = Duration::ZERO;
        loop {
            let start = tokio::time::Instant::now();
            let length = self.one.text().len();
            tokio::join!(self.one.typed("a"), self.two.typed("b"));
            for client in [&self.one, &self.two] {
                client
                    .until("what was typed", |client| client.text().len() >= length + 2)
                    .await;
            }
            slowest = slowest.max(start.elapsed());
            if let Ok(done) = tokio::time::timeout(Duration::from_millis(20), &mut misbehave).await
            {
                converged("the others", &[&self.one, &self.two]).await;
                assert!(
                    slowest < Duration::from_secs(10),
                    "an edit took {slowest:?}"
                );
                return done;
            }
        }
    }
}

/// Makes blobs that are not updates: random bytes, and a good update cut short or with a flipped bit.
fn nonsense() -> Vec<Vec<u8>> {
    let mut random = rand::rng();
    let good = change(&LoroDoc::new(), |doc| {
        doc.get_text("text").insert(0, "never to be seen").unwrap();
    });
    let mut nonsense = vec![Vec::new(), b"loro".to_vec()];
    for size in [1, 10, 100, 1000, 10_000, 100_000] {
        let mut bytes = vec![0; size];
        random.fill(&mut bytes[..]);
        nonsense.push(bytes);
    }
    for length in (1..good.len()).step_by(7) {
        nonsense.push(good[..length].to_vec());
    }
    // The bytes before the checksum are not in use.
    for byte in (16..good.len()).step_by(5) {
        let mut flipped = good.clone();
        flipped[byte] ^= 1 << random.random_range(0..8);
        nonsense.push(flipped);
    }
    nonsense
}

both_relays! {
    /// The error names the frame, and the connection stays open.
    async fn invalid_updates_are_refused_to_their_sender(relay: Kind) {
        let host = Host::start(relay).await;
        let others = Bystanders::join(&host).await;
        let bad = Client::join_with_events(&host.address, "p").await;
        let nonsense = nonsense();
        let count = nonsense.len() as u64;
        others
            .edit_while(async {
                for bytes in nonsense {
                    bad.send(bytes).await;
                }
                bad.saved(count).await;
            })
            .await;
        let errors = bad.events("error");
        let numbers: Vec<u64> = errors.iter().map(|error| error["frame"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=count).collect::<Vec<_>>());
        assert!(errors.iter().all(|error| error["code"] == "invalid_update"), "{errors:?}");
        assert!(errors.iter().all(|error| !error["message"].as_str().unwrap().is_empty()));
        // The client may still edit.
        bad.edit(|doc| doc.get_map("map").insert("good", true).unwrap()).await;
        bad.saved(count + 1).await;
        converged("after nonsense", &[&bad, &others.one, &others.two]).await;
        assert!(!others.one.text().contains("never"));
    }

    /// The only text frame that a client may send is "ping".
    async fn text_frames_are_errors(relay: Kind) {
        let host = Host::start(relay).await;
        let others = Bystanders::join(&host).await;
        let bad = Client::join(&host.address, "p").await;
        others
            .edit_while(async {
                for text in ["", "hello", "{\"type\":\"saved\"}", "Ping"] {
                    bad.try_send(text.into()).await.unwrap();
                }
                bad.try_send("ping".into()).await.unwrap();
                bad.until("pong", |bad| bad.heard().contains(&Heard::Text("pong".into()))).await;
            })
            .await;
        let errors = bad.events("error");
        assert_eq!(errors.len(), 4, "{errors:?}");
        assert!(errors.iter().all(|error| error["code"] == "unexpected_text"), "{errors:?}");
        bad.typed("x").await;
        others.one.until("its update", |one| one.text().contains('x')).await;
    }

    /// The limit is 16 MiB, in one frame or in many.
    async fn a_message_has_a_limit(relay: Kind) {
        let host = Host::start(relay).await;
        let others = Bystanders::join(&host).await;
        let longest = Client::join_with_events(&host.address, "p").await;
        let longer = Client::join(&host.address, "p").await;
        let before = host.process.memory();
        others
            .edit_while(async {
                longest.send(vec![0; 16 << 20]).await;
                longest.saved(1).await;
                // The server may close before it has read the whole message.
                let _ = longer.try_send(Message::Binary(vec![0; 17 << 20].into())).await;
                assert_eq!(longer.end().await, Closed::Code(1009));
            })
            .await;
        assert_eq!(longest.events("error").len(), 1);
        longest.assert_fine("a message of 16 MiB");

        let mut pieces = Raw::open(&host, "p").await;
        let first = frame(0x02, true, 1 << 20, 1 << 20);
        let more = frame(0x00, true, 1 << 20, 1 << 20);
        let code = others
            .edit_while(async {
                for n in 0..17 {
                    pieces.send(if n == 0 { &first } else { &more }).await;
                }
                pieces.close_code().await
            })
            .await;
        assert_eq!(code, Some(1009));
        assert_growth(&host, before);
    }

    /// The server closes the connection with the code for the breach.
    async fn breaches_of_the_protocol_are_closed(relay: Kind) {
        let host = Host::start(relay).await;
        let others = Bystanders::join(&host).await;
        let mut random = vec![0; 4096];
        rand::rng().fill(&mut random[..]);
        // This byte sets a reserved bit, so it begins no frame.
        random[0] |= 0x70;
        let breaches: [(&str, Vec<u8>, u16); 9] = [
            ("unmasked", frame(0x82, false, 3, 3), 1002),
            ("reserved bits", frame(0xf2, true, 3, 3), 1002),
            ("reserved opcode", frame(0x83, true, 3, 3), 1002),
            ("continuation of nothing", frame(0x80, true, 3, 3), 1002),
            ("fragmented ping", frame(0x09, true, 3, 3), 1002),
            ("long ping", frame(0x89, true, 126, 126), 1002),
            ("no UTF-8", [&frame(0x81, true, 0, 2)[..], &[0xff, 0xfe]].concat(), 1007),
            ("longer than anything", frame(0x82, true, 0, 1 << 62), 1009),
            ("random bytes", random, 1002),
        ];
        others
            .edit_while(async {
                for (what, bytes, code) in breaches {
                    let mut raw = Raw::open(&host, "p").await;
                    raw.send(&bytes).await;
                    assert_eq!(raw.close_code().await, Some(code), "{what}");
                }
            })
            .await;
    }

    /// A client that falls silent within a request or a frame, or before either, is dropped in time.
    async fn half_open_connections_are_dropped(relay: Kind) {
        const EACH: usize = 20;
        let host = Setup::new(relay)
            .variable("internal_token", "t")
            .env("RELAY_HEADER_TIMEOUT", "1s")
            .env("RELAY_PING_INTERVAL", "500ms")
            .env("RELAY_IDLE_TIMEOUT", "2s")
            .start()
            .await;
        let others = Bystanders::join(&host).await;
        let mut silent = Vec::new();
        for _ in 0..EACH {
            silent.push(TcpStream::connect(&host.address).await.unwrap());
            let mut half = TcpStream::connect(&host.address).await.unwrap();
            half.write_all(b"GET /sync/p HTTP/1.1\r\nhost: x\r\nupg").await.unwrap();
            silent.push(half);
            silent.push(Raw::open(&host, "p").await.0);
            let mut half = Raw::open(&host, "p").await;
            half.send(&frame(0x82, true, 500, 1000)).await;
            silent.push(half.0);
        }
        others
            .edit_while(async {
                for mut stream in silent {
                    // The server sends it updates and pings, and must end the connection.
                    let mut scrap = [0; 4096];
                    let end = async { while let Ok(1..) = stream.read(&mut scrap).await {} };
                    soon("a silent connection is dropped", end).await;
                }
            })
            .await;
        let http = host.http();
        until("only two are left", async || http.metric("relay_connections", "t").await == 2).await;
        assert_eq!(http.metric("relay_partial_bytes", "t").await, 0);
    }

    /// A client that does not read is closed if its queue is full. When it returns, it gets the whole document.
    async fn a_slow_reader_is_closed(relay: Kind) {
        let host = Setup::new(relay)
            .variable("internal_token", "t")
            .env("RELAY_MAX_SOCKET_QUEUE", "1MiB")
            .start()
            .await;
        let others = Bystanders::join(&host).await;
        let before = host.process.memory();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        let stream = socket.connect(host.address.parse().unwrap()).await.unwrap();
        let mut slow = open_on(stream, &host.address, "/sync/p").await.unwrap();
        let writer = Client::join_with_events(&host.address, "p").await;
        let picture: String = (0..256 * 1024)
            .map(|_| char::from(rand::random_range(b'!'..=b'~')))
            .collect();
        let http = host.http();
        let mut updates = 0;
        others
            .edit_while(async {
                // The kernel buffers some megabytes before the queue begins to fill.
                while http.metric("relay_closed_slow_total", "t").await == 0 {
                    // Setting the same value again would change nothing.
                    let value = format!("{updates}{picture}");
                    writer
                        .edit(|doc| doc.get_map("map").insert("picture", value).unwrap())
                        .await;
                    updates += 1;
                    writer.saved(updates).await;
                    assert!(updates < 200, "the slow reader is never closed");
                }
            })
            .await;
        let mut received = LoroDoc::new();
        let code = loop {
            match soon("the end of the slow reader", slow.next()).await {
                Some(Ok(Message::Binary(blob))) => drop(received.import(&blob).unwrap()),
                Some(Ok(Message::Close(frame))) => break frame.map(|frame| u16::from(frame.code)),
                Some(Ok(_)) => {}
                other => panic!("no close frame: {other:?}"),
            }
        };
        assert_eq!(code, Some(4008));
        assert_eq!(http.metric("relay_closed_slow_total", "t").await, 1);
        received = Client::rejoin(&host.address, "p", received)
            .await
            .leave()
            .await;
        assert!(received.get_map("map").get("picture").is_some());
        assert_growth(&host, before);
    }

    /// Checks that many clients that begin large messages and never end them cannot fill the memory.
    async fn unfinished_messages_take_bounded_memory(relay: Kind) {
        const SOCKETS: usize = 40;
        const SENT: usize = 12 << 20;
        let host = Setup::new(relay)
            .variable("internal_token", "t")
            .env("RELAY_MAX_PARTIAL", "64MiB")
            .env("RELAY_CLOSE_TIMEOUT", "1s")
            .start()
            .await;
        let others = Bystanders::join(&host).await;
        let before = host.process.memory();
        let part = frame(0x82, true, SENT, 15 << 20);
        let sockets = others
            .edit_while(join_all((0..SOCKETS).map(async |_| {
                let mut raw = Raw::open(&host, "q").await;
                raw.send(&part).await;
                raw
            })))
            .await;
        assert_growth(&host, before);
        assert!(host.http().metric("relay_closed_try_again_total", "t").await > 0);
        drop(sockets);
        until("the memory of all messages is freed", async || host.http().metric("relay_partial_bytes", "t").await == 0).await;
    }

    /// Checks that the relay, while the app cannot keep up, reads less instead of keeping a flood in memory, and loses
    /// nothing.
    async fn a_flood_is_held_back(relay: Kind) {
        const WRITERS: usize = 8;
        const EACH: usize = 60;
        let host = Host::start(relay).await;
        let others = Bystanders::join(&host).await;
        let before = host.process.memory();
        let noise: String = (0..128 * 1024).map(|_| char::from(rand::random_range(b'!'..=b'~'))).collect();
        others
            .edit_while(join_all((0..WRITERS).map(|n| {
                let (address, noise) = (host.address.clone(), noise.clone());
                async move {
                    let room = format!("flood-{n}");
                    let writer = Client::join_with_events(&address, &room).await;
                    for n in 0..EACH {
                        let value = format!("{n}{noise}");
                        writer
                            .edit(|doc| doc.get_map("map").insert("noise", value).unwrap())
                            .await;
                    }
                    writer.saved(EACH as u64).await;
                }
            })))
            .await;
        // The app's instances run in the same process and compact these rooms meanwhile, each within its own
        // memory limit.
        let now = host.process.memory();
        assert!(now < before + 4 * GROWTH, "{before} MiB before, {now} MiB now");
        assert_eq!(host.http().get("/sync/flood-0").await.rev(), EACH as u64);
    }
}

fn assert_growth(host: &Host, before: u64) {
    let now = host.process.memory();
    assert!(now < before + GROWTH, "{before} MiB before, {now} MiB now");
}

/// A WebSocket frame that announces a payload of `length` bytes and has `present` bytes of it, all zero.
fn frame(first: u8, masked: bool, present: usize, length: u64) -> Vec<u8> {
    let mask = if masked { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match length {
        0..126 => bytes.push(mask | length as u8),
        126..65536 => {
            bytes.push(mask | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(mask | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    if masked {
        // A mask of zeros leaves the payload unchanged.
        bytes.extend([0; 4]);
    }
    bytes.resize(bytes.len() + present, 0);
    bytes
}

/// A WebSocket after its handshake, as a stream of bytes.
struct Raw(TcpStream);

impl Raw {
    async fn open(host: &Host, project: &str) -> Self {
        let socket = open(&host.address, &format!("/sync/{project}"))
            .await
            .unwrap();
        Self(socket.into_inner())
    }

    /// Sends bytes, or as many as the server reads.
    async fn send(&mut self, bytes: &[u8]) {
        let _ = tokio::time::timeout(Duration::from_secs(30), self.0.write_all(bytes)).await;
    }

    /// Reads to the end, and returns the code of the close frame, if there is one.
    async fn close_code(&mut self) -> Option<u16> {
        loop {
            let mut head = [0; 2];
            self.read(&mut head).await?;
            let length = match head[1] & 0x7f {
                126 => {
                    let mut length = [0; 2];
                    self.read(&mut length).await?;
                    u64::from(u16::from_be_bytes(length))
                }
                127 => {
                    let mut length = [0; 8];
                    self.read(&mut length).await?;
                    u64::from_be_bytes(length)
                }
                length => u64::from(length),
            };
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.read(&mut payload).await?;
            if head[0] & 0x0f == 8 {
                return Some(u16::from_be_bytes([payload[0], payload[1]]));
            }
        }
    }

    async fn read(&mut self, bytes: &mut [u8]) -> Option<()> {
        soon("the close frame", self.0.read_exact(bytes))
            .await
            .ok()
            .map(drop)
    }
}

/// The app itself answers a malformed request, and keeps serving.
#[tokio::test]
async fn a_malformed_request_harms_nothing() {
    let host = Host::start(Kind::Native).await;
    for http in [host.http(), host.app_http()] {
        for request in [
            &b"GET\r\n\r\n"[..],
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /sync/p HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
            b"POST /sync/p HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nxx\r\n\r\n",
            b"POST /sync/p HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        ] {
            let (status, answer) = http.raw(request.to_vec()).await;
            assert!([0, 400, 505].contains(&status), "{request:?}: {answer}");
        }
        assert_eq!(http.get("/health").await.status, 200);
    }
    assert_eq!(host.http().get("/sync/p").await.rev(), 0);
}
