//! Compares lines between relay and app with single requests, in turns: for appends one after the
//! other, and for a hundred joins at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::SinkExt;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use super::sides::Bench;
use crate::client::Dialect;
use crate::client_raw;
use crate::connection::JoinOptions;
use crate::http::Http;
use crate::servers::Server;
use crate::stats::{Samples, median, micros};
use crate::table::{Cell, Row};
use crate::updates;

const AT_ONCE: usize = 100;

/// The appends before the measured ones, during which the relay opens a line.
const BEFORE: usize = 20;

const OPTIONS: JoinOptions = JoinOptions {
    events: true,
    read_buffer: 128 * 1024,
};

/// A way in which the relay asks the app, with its results.
struct Way {
    server: Server,
    updates: Vec<Bytes>,
    appends: Vec<u32>,
    joins_ms: Vec<f64>,
}

pub(super) async fn run(bench: &Bench) -> Result<Vec<Row>> {
    let (appends, joins) = if bench.quick { (50, 1) } else { (2000, 10) };
    let mut series = updates::apart(2, BEFORE + appends, 1)?.into_iter();
    let mut ways = Vec::new();
    for lines in [true, false] {
        let state = bench.places.state_dir("lines")?;
        ways.push(Way {
            server: bench.places.start_ours_by(&state, lines)?,
            updates: series.next().context("two series")?,
            appends: Vec::new(),
            joins_ms: Vec::new(),
        });
    }
    append(&mut ways).await?;
    for number in 0..joins {
        for way in &mut ways {
            let took = hundred(way.server.address, format!("join-{number}")).await?;
            way.joins_ms.push(took.as_secs_f64() * 1000.0);
        }
    }
    let by_line = Http::connect(ways[0].server.address)
        .await?
        .metric("relay_line_requests_total")
        .await?;
    let [lines, single] = &ways[..] else {
        return Ok(Vec::new());
    };
    let samples = |way: &Way| Samples::new(way.appends.clone());
    let (lines_took, single_took) = (samples(lines), samples(single));
    let percentile = |percent: f64| {
        Row::new(
            "lines",
            format!("append p{percent}, ms: by a line | by single requests"),
            lines_took.percentile(percent),
            Cell::from(single_took.percentile(percent)),
        )
    };
    Ok(vec![
        percentile(50.0),
        percentile(99.0),
        Row::new(
            "lines",
            format!("{AT_ONCE} joins at once, ms: by a line | by single requests"),
            median(&lines.joins_ms),
            Cell::from(median(&single.joins_ms)),
        ),
        Row::new("lines", "requests on lines", by_line, Cell::None),
    ])
}

/// Appends through one socket of each server, in turns.
async fn append(ways: &mut [Way]) -> Result<()> {
    let mut sockets = Vec::new();
    for way in &*ways {
        let joined = Dialect::Raw.join(way.server.address, "appends", OPTIONS);
        sockets.push(joined.await?.socket);
    }
    let count = ways.first().map_or(0, |way| way.updates.len());
    for number in 0..count {
        for (way, socket) in ways.iter_mut().zip(&mut sockets) {
            let start = Instant::now();
            let update = way.updates[number].clone();
            socket.send(Message::Binary(update)).await?;
            client_raw::saved(socket, number as u64 + 1).await?;
            if number >= BEFORE {
                way.appends.push(micros(start.elapsed()));
            }
        }
    }
    Ok(())
}

/// Measures the time until a hundred clients, which all begin at the same moment, are in a new room.
async fn hundred(address: SocketAddr, room: String) -> Result<Duration> {
    let barrier = Arc::new(Barrier::new(AT_ONCE + 1));
    let mut clients = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (barrier, room) = (Arc::clone(&barrier), room.clone());
        clients.spawn(async move {
            barrier.wait().await;
            let joining = Dialect::Raw.join(address, &room, OPTIONS);
            let joined = tokio::time::timeout(Duration::from_secs(60), joining).await;
            joined.context("not joined within a minute")?
        });
    }
    barrier.wait().await;
    let start = Instant::now();
    while let Some(client) = clients.join_next().await {
        client??;
    }
    Ok(start.elapsed())
}
