//! Checks memory: a document up to a size is compacted and read in an instance that has no more memory than the host
//! gives. A larger one is left as it is, and no instance dies of it.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use e2e::host::{Host, Kind, Setup};
use e2e::http::Answer;
use e2e::raw::{Client, change};
use e2e::wait::{until, until_within};
use http::Method;
use loro::{ExportMode, LoroDoc, LoroMap};
use rusqlite::{Connection, params};

use crate::quarantine::quarantined;
use crate::quotas::usage;

/// The ways to fill a document, each of which takes memory in its own way.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// A canvas: small maps in a map, each with a map in it.
    Canvas,
    /// A long text, appended in pieces.
    Text,
    /// A list of small maps.
    List,
    /// A map of plain values.
    Entries,
    /// A text in which a client types letters anywhere.
    Letters,
}

impl Shape {
    /// Writes updates of this many bytes together into a document.
    pub(crate) fn write(self, doc: &LoroDoc, bytes: usize) -> Vec<Vec<u8>> {
        let (mut updates, mut made) = (Vec::new(), 0);
        let mut number = i64::try_from(doc.len_ops()).unwrap();
        while made < bytes {
            let update = change(doc, |doc| {
                for _ in 0..self.at_once() {
                    self.add(doc, number);
                    number += 1;
                }
            });
            made += update.len();
            updates.push(update);
        }
        updates
    }

    fn at_once(self) -> i64 {
        match self {
            Self::Text => 1,
            _ => 500,
        }
    }

    fn add(self, doc: &LoroDoc, number: i64) {
        let name = format!("{:08x}", number * 7919);
        match self {
            Self::Canvas => {
                let nodes = doc.get_map("nodes");
                let node = nodes.insert_container(&name, LoroMap::new()).unwrap();
                node.insert("x", number).unwrap();
                node.insert("y", number / 3).unwrap();
                let data = node.insert_container("data", LoroMap::new()).unwrap();
                data.insert("status", "done").unwrap();
            }
            Self::List => {
                let list = doc.get_list("list");
                let map = list.push_container(LoroMap::new()).unwrap();
                map.insert("x", number).unwrap();
            }
            Self::Entries => {
                doc.get_map("map").insert(&name, number).unwrap();
            }
            Self::Text => {
                let text = doc.get_text("text");
                let letters: String = (0..16 << 10)
                    .map(|_| char::from(rand::random_range(b'a'..=b'z')))
                    .collect();
                text.insert(text.len_unicode(), &letters).unwrap();
            }
            Self::Letters => {
                let text = doc.get_text("text");
                let at = rand::random_range(0..=text.len_unicode());
                text.insert(at, "x").unwrap();
            }
        }
    }
}

/// Fills a room directly in the database, without the app, and returns the number of stored bytes.
pub(crate) fn fill(
    database: &Path,
    project: &str,
    snapshot: Option<&LoroDoc>,
    log: &[Vec<u8>],
) -> usize {
    let database = Connection::open(database).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut stored = 0;
    if let Some(doc) = snapshot {
        let bytes = doc.export(ExportMode::Snapshot).unwrap();
        stored += bytes.len();
        let sql = "INSERT INTO loro_snapshots (project_id, snapshot, version, updated_at, rev)
                   VALUES (?1, ?2, ?3, unixepoch(), 1)";
        let version = doc.oplog_vv().encode();
        database
            .execute(sql, params![project, bytes, version])
            .unwrap();
    }
    for (number, update) in log.iter().enumerate() {
        stored += update.len();
        let sql = "INSERT INTO loro_updates (project_id, rev, payload, origin, created_at)
                   VALUES (?1, ?2, ?3, 'test', unixepoch())";
        let rev = i64::try_from(number).unwrap() + 2;
        database
            .execute(sql, params![project, rev, update])
            .unwrap();
    }
    database.execute_batch("COMMIT").unwrap();
    stored
}

/// A host whose instances have this much memory.
struct World {
    host: Host,
}

impl World {
    async fn start(mib: u32) -> Self {
        let host = Setup::new(Kind::Native)
            .variable("internal_token", "t")
            .option("--instance-memory", &mib.to_string())
            .env("RUST_LOG", "warn,loro_host=debug")
            .start()
            .await;
        // The first request makes the schema.
        assert_eq!(host.http().get("/health").await.status, 200);
        Self { host }
    }

    async fn internal(&self, path: &str) {
        let headers = [("authorization", "Bearer t")];
        let http = self.host.app_http();
        let answer = http.send(Method::POST, path, &headers, Bytes::new()).await;
        assert_eq!(answer.status, 202, "{answer:?}");
    }

    /// The most memory that an instance has had so far, in MiB.
    ///
    /// # Panics
    /// If an instance died.
    fn most(&self) -> u64 {
        let log = self.host.database().with_file_name("host.log");
        let log = std::fs::read_to_string(log).unwrap();
        let died = log.lines().find(|line| line.contains("instance failed"));
        assert_eq!(died, None);
        let ended = log.lines().filter(|line| line.contains("instance ended"));
        let held = ended.filter_map(|line| line.split("mib=").nth(1)?.split(' ').next());
        held.map(|mib| mib.parse().unwrap()).max().unwrap()
    }

    /// Reads the document as JSON.
    async fn json(&self, project: &str) -> Answer {
        let headers = [("accept", "application/json")];
        self.host
            .http()
            .get_with(&format!("/sync/{project}"), &headers)
            .await
    }

    /// Compacts a document of this shape and of this many stored bytes, and reads it in every way.
    async fn holds(&self, shape: Shape, kib: usize, is_grown: bool) {
        let project = format!("{shape:?}-{is_grown}").to_lowercase();
        let doc = LoroDoc::new();
        let mut log = shape.write(&doc, 64 << 10);
        let mut stored = 0;
        if is_grown {
            // The snapshot has about twice the bytes of the updates.
            shape.write(&doc, kib << 9);
            let snapshot = doc.fork();
            log = shape.write(&doc, kib << 7);
            stored += fill(&self.host.database(), &project, Some(&snapshot), &log);
        } else {
            log.extend(shape.write(&doc, kib << 10));
            stored += fill(&self.host.database(), &project, None, &log);
        }
        let start = Instant::now();
        self.internal(&format!("/internal/rooms/{project}/compact"))
            .await;
        if self.json(&project).await.status != 200 {
            self.internal("/internal/sweep").await;
            let read = async || self.json(&project).await.status == 200;
            until_within(MERGED, "the state", read).await;
        }
        let took = start.elapsed();
        let (whole, _) = self.host.http().document(&project).await;
        assert_eq!(whole.oplog_vv(), doc.oplog_vv());
        let client = Client::join(&self.host.address, &project).await;
        client
            .until("the document", |client| {
                client.doc().oplog_vv() == doc.oplog_vv()
            })
            .await;
        println!(
            "{project}: {} operations in {} KiB: compacted and read in {took:?}; the most so far is {} MiB",
            doc.len_ops(),
            stored >> 10,
            self.most()
        );
    }

    /// Checks a document that has grown beyond its largest size: it is not merged, but it is compacted, joined and read as a
    /// blob. It takes no more updates, and no update is blamed.
    async fn leaves(&self, shape: Shape, kib: usize, snapshot_kib: usize) {
        let project = format!("{shape:?}-{kib}-{snapshot_kib}").to_lowercase();
        let doc = LoroDoc::new();
        let mut snapshot = None;
        if snapshot_kib > 0 {
            shape.write(&doc, snapshot_kib << 10);
            snapshot = Some(doc.fork());
        }
        let log = shape.write(&doc, kib << 10);
        let database = self.host.database();
        let stored = fill(&database, &project, snapshot.as_ref(), &log);
        let start = Instant::now();
        self.internal(&format!("/internal/rooms/{project}/compact"))
            .await;
        let took = start.elapsed();
        let blob = blob_rev(&database, &project);
        assert_eq!(blob, log.len() as u64 + 1, "{project} was not compacted");
        self.json(&project)
            .await
            .assert_problem(503, "state-unavailable");
        let (whole, _) = self.host.http().document(&project).await;
        assert_eq!(whole.oplog_vv(), doc.oplog_vv());
        drop(whole);
        let client = Client::join_with_events(&self.host.address, &project).await;
        client
            .until("the document", |client| {
                client.doc().oplog_vv() == doc.oplog_vv()
            })
            .await;
        // A merge counts the operations, and from then on the document takes no update that would add to them.
        self.internal("/internal/sweep").await;
        until("the document is full", async || {
            usage(&self.host, &project).await["full"] == "room_full"
        })
        .await;
        client.typed("and on").await;
        until("the refusal", async || !client.events("error").is_empty()).await;
        assert_eq!(client.events("error")[0]["code"], "room_full");
        self.json(&project)
            .await
            .assert_problem(503, "state-unavailable");
        assert_eq!(quarantined(&self.host, &project), []);
        println!(
            "{project}: {} operations in {} KiB, compacted in {took:?} and left without its state; the most so far is {} MiB",
            doc.len_ops(),
            stored >> 10,
            self.most()
        );
    }
}

/// The rev of a room's blob; 0 if it has none.
fn blob_rev(database: &Path, project: &str) -> u64 {
    let database = Connection::open(database).unwrap();
    let sql = "SELECT ifnull(max(rev), 0) FROM loro_blobs WHERE project_id = ?1";
    let rev: i64 = database
        .query_row(sql, [project], |row| row.get(0))
        .unwrap();
    u64::try_from(rev).unwrap()
}

/// The longest time that a merge in an instance of its own may take.
const MERGED: Duration = Duration::from_secs(150);

/// Checks documents of four shapes that just fit instances of 64 MiB, and documents of two shapes that do not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_fits_is_compacted_and_one_that_does_not_is_left_as_it_is() {
    let world = World::start(64).await;
    for (shape, kib) in [
        (Shape::Text, 5 << 10),
        (Shape::Canvas, 1800),
        (Shape::Entries, 1500),
        (Shape::Letters, 500),
    ] {
        world.holds(shape, kib, true).await;
    }
    world.leaves(Shape::Canvas, 3 << 10, 0).await;
    world.leaves(Shape::Letters, 1 << 10, 400).await;
}

/// The same at the sizes that `docs/documents.md` states.
#[ignore = "takes minutes: cargo xtask test --long"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_of_the_stated_sizes_fit() {
    for (mib, text, canvas, letters) in [
        (128, 12 << 10, 5 << 10, 2 << 10),
        (256, 24 << 10, 10 << 10, 4 << 10),
    ] {
        println!("instances of {mib} MiB");
        let world = World::start(mib).await;
        world.holds(Shape::Text, text, true).await;
        world.holds(Shape::Letters, letters / 2, true).await;
        for shape in [Shape::Canvas, Shape::List, Shape::Entries] {
            world.holds(shape, canvas, true).await;
            world.holds(shape, canvas / 2, false).await;
        }
        world.leaves(Shape::Letters, 2 * letters, letters / 2).await;
    }
}
