//! The cost of an append in a room with ten updates and in one with a million, which must be the
//! same.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::SinkExt;
use rusqlite::{Connection, params};
use tokio_tungstenite::tungstenite::Message;

use super::sides::Bench;
use crate::client::Dialect;
use crate::client_raw;
use crate::connection::JoinOptions;
use crate::http::Http;
use crate::servers::Server;
use crate::stats::{Samples, micros};
use crate::table::{Cell, Row, Target};
use crate::updates;

/// The room with ten updates, none of them compacted.
const SMALL: &str = "small";
/// The room with a million updates, all compacted but the last ten, as in a real deployment.
const LARGE: &str = "large";
/// The room with a hundred thousand updates, none of them compacted.
const LONG: &str = "long";

/// The largest ratio that counts as equal, because the medians of two series of commits differ by
/// some percent by chance alone.
const SAME: f64 = 1.1;

pub(super) async fn run(bench: &Bench) -> Result<Vec<Row>> {
    let appends = if bench.quick { 20 } else { 200 };
    // Each room and each way of appending has its own series.
    let mut series = updates::apart(5, appends + 10, 1)?.into_iter();
    let mut next = || series.next().context("five series");
    let state = bench.places.state_dir("append")?;

    let server = bench.places.start_ours(&state)?;
    let small = next()?;
    let mut http = Http::connect(server.address).await?;
    for update in &small[..10] {
        http.post_update(SMALL, update.clone()).await?;
    }
    drop(http);
    server.kill()?;
    fill(&state.join("sqlite_db.db")).context("fill the database")?;

    let server = bench.places.start_ours(&state)?;
    let by_post = [small[10..].to_vec(), next()?, next()?];
    let [small_post, large_post, long_post] = post(&server, &by_post, appends).await?;
    let [small_socket, large_socket] = send(&server, [&next()?, &next()?], appends).await?;
    server.kill()?;

    let row = |measure: &str, large: &Samples, small: &Samples| {
        let p50 = |samples: &Samples| Cell::from(samples.percentile(50.0));
        Row::new("append-cost", measure, p50(large), p50(small))
    };
    Ok(vec![
        row(
            "POST p50, ms: 1,000,000 updates | 10",
            &large_post,
            &small_post,
        )
        .must(Target::RatioAtMost(SAME)),
        row(
            "socket p50, ms: 1,000,000 updates | 10",
            &large_socket,
            &small_socket,
        )
        .must(Target::RatioAtMost(SAME)),
        row(
            "POST p50, ms: 100,000 uncompacted | 10",
            &long_post,
            &small_post,
        ),
    ])
}

/// Fills the large and the long room with copies of the small room's updates, by SQL.
fn fill(database: &Path) -> Result<()> {
    let connection = Connection::open(database)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    let (doc, snapshot) = updates::document(256 * 1024)?;
    connection.execute(
        "INSERT INTO loro_snapshots (project_id, snapshot, version, updated_at, rev)
         VALUES (?1, ?2, ?3, unixepoch(), 1000000 - 10)",
        params![LARGE, snapshot, doc.oplog_vv().encode()],
    )?;
    connection.execute(
        "INSERT INTO loro_updates (project_id, rev, payload, origin, created_at)
         SELECT ?1, 1000000 - 10 + rev, payload, origin, created_at
         FROM loro_updates WHERE project_id = ?2",
        params![LARGE, SMALL],
    )?;
    connection.execute(
        "WITH RECURSIVE n (rev) AS (SELECT 1 UNION ALL SELECT rev + 1 FROM n WHERE rev < 100000)
         INSERT INTO loro_updates (project_id, rev, payload, origin, created_at)
         SELECT ?1, n.rev, u.payload, u.origin, u.created_at
         FROM n JOIN loro_updates u ON u.project_id = ?2 AND u.rev = 1 + n.rev % 10",
        params![LONG, SMALL],
    )?;
    Ok(())
}

/// Appends by HTTP to each of the three rooms, in turns.
async fn post(server: &Server, updates: &[Vec<Bytes>; 3], appends: usize) -> Result<[Samples; 3]> {
    let mut http = Http::connect(server.address).await?;
    let mut times: [Vec<u32>; 3] = Default::default();
    for number in 0..appends {
        // Another room comes first each time, so that the order does not affect the result.
        for turn in 0..3 {
            let which = (number + turn) % 3;
            let (room, updates) = ([SMALL, LARGE, LONG][which], &updates[which]);
            let start = Instant::now();
            http.post_update(room, updates[number].clone()).await?;
            times[which].push(micros(start.elapsed()));
        }
    }
    Ok(times.map(Samples::new))
}

/// Appends through a socket to each of two rooms, in turns.
async fn send(server: &Server, updates: [&[Bytes]; 2], appends: usize) -> Result<[Samples; 2]> {
    let options = JoinOptions {
        events: true,
        ..JoinOptions::default()
    };
    let mut sockets = Vec::new();
    for room in [SMALL, LARGE] {
        sockets.push(
            Dialect::Raw
                .join(server.address, room, options)
                .await?
                .socket,
        );
    }
    let mut times: [Vec<u32>; 2] = Default::default();
    for number in 0..appends {
        for turn in 0..2 {
            let which = (number + turn) % 2;
            let (socket, updates) = (&mut sockets[which], updates[which]);
            let start = Instant::now();
            socket
                .send(Message::Binary(updates[number].clone()))
                .await?;
            client_raw::saved(socket, number as u64 + 1).await?;
            times[which].push(micros(start.elapsed()));
        }
    }
    Ok(times.map(Samples::new))
}
