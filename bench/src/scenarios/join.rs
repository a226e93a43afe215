//! The time from connecting to the last byte of the state, for one client after another and for a
//! hundred at once. Ours is compared with the official server, and with servers that only read the
//! same bytes and send them.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use loro::LoroDoc;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use super::sides::Bench;
use crate::client::Dialect;
use crate::client_official;
use crate::connection::{self, JoinOptions};
use crate::http::{self, Http};
use crate::peers;
use crate::servers::Server;
use crate::stats::{Samples, median, micros};
use crate::table::{Cell, Row, Target};
use crate::updates;

/// The official server's room.
const ROOM: &str = "join";
const AT_ONCE: usize = 100;

/// The most that a join may take, compared with reading and sending the same bytes.
const MOST_RATIO: f64 = 1.2;

/// The kind of server that sends the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Ours,
    Official,
    Plain,
}

/// A server that has the document, with its results.
struct Contender {
    name: &'static str,
    source: Source,
    server: Server,
    one: Vec<u32>,
    hundred_ms: Vec<f64>,
}

pub(super) async fn run(bench: &Bench) -> Result<Vec<Row>> {
    let sizes: &[usize] = &[256, 4096];
    let mut rows = Vec::new();
    for &kib in sizes {
        match one_size(bench, kib).await {
            Ok(of_size) => rows.extend(of_size),
            Err(error) => eprintln!("  {kib} KiB failed: {error:#}"),
        }
    }
    Ok(rows)
}

async fn one_size(bench: &Bench, kib: usize) -> Result<Vec<Row>> {
    let (ones, hundreds) = if bench.quick { (3, 1) } else { (20, 5) };
    // The size is a little less, so that the smaller document fits into a message of the official server.
    let (doc, snapshot) = updates::document(kib * 1024 - 512)?;
    let ours = ours_with(bench, &snapshot, ones + hundreds + 1).await?;
    let state = state_of(&ours, &room(ones + hundreds), &doc).await?;
    let (file, database) = peers::write_sources(&state, bench.places.scratch())?;
    let contender = |name, source, server| Contender {
        name,
        source,
        server,
        one: Vec::new(),
        hundred_ms: Vec::new(),
    };
    let mut contenders = vec![
        contender("ours", Source::Ours, ours),
        contender(
            "plain-file",
            Source::Plain,
            bench.places.start_plain_file(&file)?,
        ),
        contender(
            "plain-sqlite",
            Source::Plain,
            bench.places.start_plain_sqlite(&database)?,
        ),
    ];
    match official_with(bench, &snapshot).await {
        Ok(server) => contenders.push(contender("official", Source::Official, server)),
        Err(error) => eprintln!("  official, {kib} KiB: {error:#}"),
    }
    contenders[0].server.settle().await?;

    for number in 0..ones {
        for contender in &mut contenders {
            let start = Instant::now();
            fetch(contender.source, contender.server.address, number).await?;
            contender.one.push(micros(start.elapsed()));
        }
    }
    let mut reads = Vec::new();
    for number in ones..ones + hundreds {
        for contender in &mut contenders {
            let counted = contender.source == Source::Ours;
            let before = if counted {
                state_reads(&contender.server).await?
            } else {
                0.0
            };
            let took = hundred(contender.source, contender.server.address, number).await?;
            if counted {
                reads.push(state_reads(&contender.server).await? - before);
            }
            contender.hundred_ms.push(took.as_secs_f64() * 1000.0);
        }
    }
    for contender in &contenders {
        eprintln!(
            "  {}: {kib} KiB: one p50 {:.2} ms, {AT_ONCE} at once {:.0} ms",
            contender.name,
            Samples::new(contender.one.clone())
                .percentile(50.0)
                .unwrap_or(f64::NAN),
            median(&contender.hundred_ms).unwrap_or(f64::NAN),
        );
    }
    eprintln!(
        "  ours: {} bytes of state, reads for {AT_ONCE} at once: {reads:?}",
        state.len()
    );
    let rows = rows(kib, &contenders, &reads);
    for contender in contenders {
        contender.server.kill()?;
    }
    Ok(rows)
}

/// Names the room of a join. Each join has its own room, because our relay keeps a state for a
/// moment, and a join would then read nothing.
fn room(number: usize) -> String {
    format!("join-{number}")
}

/// Starts our server with the document in as many rooms as there will be joins, and waits until it
/// is idle.
async fn ours_with(bench: &Bench, snapshot: &[u8], rooms: usize) -> Result<Server> {
    let server = bench.places.start_ours(&bench.places.state_dir("join")?)?;
    let update = Bytes::copy_from_slice(snapshot);
    for number in 0..rooms {
        http::post_update(server.address, &room(number), update.clone()).await?;
        // A client joins and leaves, so that the work which the server then does for the room, such
        // as compaction, is over before the measurement.
        fetch(Source::Ours, server.address, number).await?;
    }
    server.settle().await?;
    Ok(server)
}

/// Returns the state that our server sends to a client, after a check that it is the document.
async fn state_of(server: &Server, room: &str, doc: &LoroDoc) -> Result<Vec<u8>> {
    let options = JoinOptions {
        events: true,
        ..JoinOptions::default()
    };
    let joined = Dialect::Raw.join(server.address, room, options).await?;
    let copy = LoroDoc::new();
    for blob in &joined.blobs {
        copy.import(blob)?;
    }
    ensure!(
        copy.get_deep_value() == doc.get_deep_value(),
        "the state is not the document"
    );
    Ok(joined.blobs.concat())
}

/// Starts the official server with the document in its room.
async fn official_with(bench: &Bench, snapshot: &[u8]) -> Result<Server> {
    let server = bench.places.start_official()?;
    let options = JoinOptions::default();
    let dialect = Dialect::Official;
    let mut writer = dialect.join(server.address, ROOM, options).await?.socket;
    client_official::send_fragments(&mut writer, ROOM, snapshot).await?;
    // The official server acknowledges nothing, so the bench joins until the document is there.
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let joined = dialect
            .join(server.address, ROOM, options)
            .await
            .context("it cannot send a state of more than 256 KiB")?;
        if joined.blobs.concat().len() > snapshot.len() / 2 {
            return Ok(server);
        }
    }
    bail!("the document did not arrive")
}

async fn fetch(source: Source, address: SocketAddr, number: usize) -> Result<()> {
    let options = JoinOptions {
        events: true,
        read_buffer: 128 * 1024,
    };
    match source {
        Source::Ours => {
            Dialect::Raw.join(address, &room(number), options).await?;
        }
        // The official server always reads from memory, so all joins may share one room.
        Source::Official => {
            Dialect::Official.join(address, ROOM, options).await?;
        }
        Source::Plain => {
            let mut socket = connection::open(address, "/", options.read_buffer).await?;
            while !matches!(connection::next(&mut socket).await?, Message::Binary(_)) {}
        }
    }
    Ok(())
}

/// Measures the time until a hundred clients, which all begin at the same moment, have the state.
async fn hundred(source: Source, address: SocketAddr, number: usize) -> Result<Duration> {
    let barrier = Arc::new(Barrier::new(AT_ONCE + 1));
    let mut clients = JoinSet::new();
    for _ in 0..AT_ONCE {
        let barrier = Arc::clone(&barrier);
        clients.spawn(async move {
            barrier.wait().await;
            within_a_minute(fetch(source, address, number)).await
        });
    }
    barrier.wait().await;
    let start = Instant::now();
    while let Some(client) = clients.join_next().await {
        client??;
    }
    Ok(start.elapsed())
}

async fn within_a_minute(fetch: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::time::timeout(Duration::from_secs(60), fetch)
        .await
        .context("no state within a minute")?
}

async fn state_reads(server: &Server) -> Result<f64> {
    Http::connect(server.address)
        .await?
        .metric("relay_state_reads_total")
        .await
}

fn rows(kib: usize, contenders: &[Contender], reads: &[f64]) -> Vec<Row> {
    let find = |name: &str| contenders.iter().find(|contender| contender.name == name);
    let one = |name: &str| {
        let samples = find(name).map(|contender| Samples::new(contender.one.clone()));
        samples.and_then(|samples| samples.percentile(50.0))
    };
    let all = |name: &str| find(name).and_then(|contender| median(&contender.hundred_ms));
    let or_cannot = |value: Option<f64>| value.map_or_else(|| Cell::from("cannot"), Cell::from);
    let scenario = format!("join-{kib}k");
    let row = |measure: String, ours: Option<f64>, theirs: Cell| {
        Row::new(scenario.as_str(), measure, ours, theirs)
    };
    // Only the 4 MiB document has a target.
    let promised = |row: Row| {
        if kib == 4096 {
            row.must(Target::RatioAtMost(MOST_RATIO))
        } else {
            row
        }
    };
    let hundred = format!("{AT_ONCE} clients at once, ms");
    let most_reads = reads.iter().copied().max_by(f64::total_cmp);
    vec![
        row(
            "one client p50, ms; the official server".into(),
            one("ours"),
            or_cannot(one("official")),
        ),
        promised(row(
            "one client p50, ms; read a file, send".into(),
            one("ours"),
            one("plain-file").into(),
        )),
        promised(row(
            "one client p50, ms; read SQLite, send".into(),
            one("ours"),
            one("plain-sqlite").into(),
        )),
        row(
            format!("{hundred}; the official server"),
            all("ours"),
            or_cannot(all("official")),
        ),
        row(
            format!("{hundred}; read a file, send"),
            all("ours"),
            all("plain-file").into(),
        ),
        row(
            format!("{hundred}; read SQLite, send"),
            all("ours"),
            all("plain-sqlite").into(),
        ),
        row(
            format!("state reads for {AT_ONCE} at once, at most"),
            most_reads,
            Cell::None,
        )
        .must(Target::Exactly(1.0)),
    ]
}
