//! Checks joining a room after many edits, and joining by many clients at the same time.

use e2e::both_relays;
use e2e::host::{Host, Setup};
use e2e::raw::{Client, Closed, Heard, change};
use futures_util::future::join_all;
use loro::{ExportMode, LoroDoc};

/// The most blobs that a joining client may get: a snapshot, 384 updates that are read with it, 128 stored since then,
/// and a few that are being stored.
const MOST: usize = 600;

fn noise(bytes: usize) -> String {
    (0..bytes)
        .map(|_| char::from(rand::random_range(b'!'..=b'~')))
        .collect()
}

/// The number of blobs before the event `synced`.
fn blobs_of_the_state(client: &Client) -> usize {
    client
        .heard()
        .iter()
        .take_while(|heard| !matches!(heard, Heard::Event(event) if event["type"] == "synced"))
        .filter(|heard| matches!(heard, Heard::Blob(_)))
        .count()
}

/// Lets a client edit a room 3,000 times in a row while others join it, and one more join afterwards.
async fn edit_for_long(host: &Host, base: &str) {
    const UPDATES: u64 = 3000;
    let writer = Client::join_with_events(&host.address, "p").await;
    writer.typed(base).await;
    writer.saved(1).await;
    let mut meanwhile = Vec::new();
    for n in 1..=UPDATES {
        writer
            .edit(|doc| doc.get_map("map").insert("n", n as i64).unwrap())
            .await;
        if n % 750 == 0 {
            meanwhile.push(Client::join_with_events(&host.address, "p").await);
        }
    }
    writer.saved(UPDATES + 1).await;
    let after = Client::join_with_events(&host.address, "p").await;
    after.event("synced").await;
    let blobs = blobs_of_the_state(&after);
    assert!(
        (1..=MOST).contains(&blobs),
        "{blobs} blobs after the last edit"
    );
    meanwhile.push(after);
    for joined in &meanwhile {
        joined.event("synced").await;
        // Updates that are stored while a state is read follow it one by one, and there are many a second.
        let blobs = blobs_of_the_state(joined);
        assert!(
            (1..=MOST + 1000).contains(&blobs),
            "{blobs} blobs for a client that joined meanwhile"
        );
        joined
            .until("the newest edit", |joined| {
                let value = joined.doc().get_map("map").get("n");
                value.and_then(|value| value.into_value().ok()?.into_i64().ok())
                    == Some(UPDATES as i64)
            })
            .await;
        assert_eq!(joined.text(), base);
    }
    let (stored, rev) = host.http().document("p").await;
    assert_eq!(rev, UPDATES + 1);
    assert_eq!(stored.get_deep_value(), writer.doc().get_deep_value());
}

/// A document of many peers, each of which has made one edit.
fn crowded(peers: u64) -> LoroDoc {
    let updates = (1..=peers).map(|peer| {
        let one = LoroDoc::new();
        // Random peer ids are large numbers.
        one.set_peer_id(u64::MAX / 2 + peer).unwrap();
        change(&one, |doc| {
            doc.get_map("map").insert(&peer.to_string(), 1).unwrap()
        })
    });
    let updates: Vec<Vec<u8>> = updates.collect();
    let all = LoroDoc::new();
    // Importing them one by one would take time in the square of their number.
    all.import_batch(&updates).unwrap();
    // The next update builds on this one alone, and not on every peer's.
    change(&all, |doc| doc.get_map("map").insert("all", 1).unwrap());
    all
}

both_relays! {
    /// A version vector that no URL can hold comes in the first frame; the client gets only what it lacks.
    async fn a_client_of_thousands_of_peers_rejoins(relay: Kind) {
        const PEERS: u64 = 5000;
        let host = Host::start(relay).await;
        let doc = crowded(PEERS);
        host.http().post("/sync/p", doc.export(ExportMode::all_updates()).unwrap()).await;
        let mut version = doc.oplog_vv().encode();
        let behind = change(&doc, |doc| doc.get_map("map").insert("new", noise(1000)).unwrap());
        host.http().post("/sync/p", behind).await;
        assert!(version.len() > 40_000, "{}", version.len());
        let path = "/sync/p?version=frame&events=1";
        let client = Client::connect(&host.address, path, LoroDoc::new()).await;
        client.send(version.clone()).await;
        client.event("synced").await;
        let sizes = client.heard().into_iter().filter_map(|heard| match heard {
            Heard::Blob(blob) => Some(blob.len()),
            _ => None,
        });
        let sizes: Vec<usize> = sizes.collect();
        println!("{PEERS} peers: a version of {} bytes, an answer of {sizes:?}", version.len());
        assert!(sizes.iter().sum::<usize>() < 5000, "{sizes:?}");
        // A client that knows nothing gets the whole document.
        let newcomer = Client::connect(&host.address, path, LoroDoc::new()).await;
        newcomer.send(Vec::new()).await;
        newcomer.event("synced").await;
        assert_eq!(newcomer.doc().get_deep_value(), doc.get_deep_value());
        newcomer.typed("x").await;
        assert_eq!(newcomer.saved(1).await, 3);
        // Bytes that are no version vector end the connection, whatever their number.
        version.truncate(version.len() / 2);
        for garbage in [vec![0xff; 10], vec![0xff; 100_000], version] {
            let client = Client::connect(&host.address, path, LoroDoc::new()).await;
            client.send(garbage).await;
            assert_eq!(client.end().await, Closed::Code(1008));
            assert_eq!(client.blobs(), 0);
            assert_eq!(client.events("error")[0]["code"], "invalid_version");
        }
    }

    async fn a_small_room_edited_for_long_is_joined_quickly(relay: Kind) {
        let host = Host::start(relay).await;
        edit_for_long(&host, "small").await;
    }

    async fn a_large_room_edited_for_long_is_joined_quickly(relay: Kind) {
        let host = Host::start(relay).await;
        edit_for_long(&host, &noise(700 * 1024)).await;
    }

    /// A hundred clients that join at the same time cost one read of the state.
    async fn joining_at_once_costs_one_read(relay: Kind) {
        const CLIENTS: usize = 100;
        let host = Setup::new(relay).variable("internal_token", "t").start().await;
        let http = host.http();
        let doc = LoroDoc::new();
        for n in 0..10 {
            let update = change(&doc, |doc| doc.get_map("map").insert(&n.to_string(), noise(20_000)).unwrap());
            http.post("/sync/p", update).await;
        }
        assert_eq!(http.metric("relay_state_reads_total", "t").await, 0);
        let clients = join_all((0..CLIENTS).map(|_| Client::join(&host.address, "p"))).await;
        for client in &clients {
            client.until("the state", |client| client.doc().get_map("map").len() == 10).await;
            assert_eq!(client.doc().get_deep_value(), doc.get_deep_value());
        }
        assert_eq!(http.metric("relay_state_reads_total", "t").await, 1);
        assert_eq!(http.metric("relay_connections", "t").await, CLIENTS as u64);
    }

    /// A client that joins while others write misses no update.
    async fn joining_while_others_write_misses_nothing(relay: Kind) {
        const EDITS: usize = 300;
        let host = Host::start(relay).await;
        let writer = Client::join_with_events(&host.address, "p").await;
        let joined = tokio::join!(
            async {
                for _ in 0..EDITS {
                    writer.typed("x").await;
                    tokio::time::sleep(std::time::Duration::from_millis(3)).await;
                }
            },
            async {
                let mut joined = Vec::new();
                for _ in 0..20 {
                    joined.push(Client::join(&host.address, "p").await);
                    tokio::time::sleep(std::time::Duration::from_millis(40)).await;
                }
                joined
            }
        )
        .1;
        for client in &joined {
            client.until("every edit", |client| client.text().len() == EDITS).await;
        }
    }
}
