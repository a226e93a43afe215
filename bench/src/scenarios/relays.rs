//! Compares the relay as a WASI command with the native relay: an append, a hundred joins, and a busy
//! room.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::SinkExt;
use futures_util::future::try_join_all;
use tokio_tungstenite::tungstenite::Message;

use super::sides::Bench;
use crate::client::Dialect;
use crate::client_raw;
use crate::connection::JoinOptions;
use crate::load::{self, Plan, Room};
use crate::servers::{Relay, Server};
use crate::stats::{Samples, median, micros};
use crate::table::{Cell, Row, Target};
use crate::updates;

const ROOM: &str = "relays";

/// The most that the WASI command may take, compared with the native relay.
const MOST_RATIO: f64 = 2.0;

/// The sockets that join at once, and the clients of the busy room.
const SOCKETS: usize = 100;

/// The writers of the busy room, and the updates that each sends a second.
const WRITERS: usize = 50;
const RATE: usize = 20;

/// The results of one relay, in milliseconds.
struct Times {
    append: f64,
    joins: f64,
    fanout: f64,
}

pub(super) async fn run(bench: &Bench) -> Result<Vec<Row>> {
    let wasm = measure(bench, Relay::Wasm).await?;
    let native = measure(bench, Relay::Native).await?;
    let row = |measure: &str, value: fn(&Times) -> f64| {
        let cell = |times| Cell::from(value(times));
        Row::new("relays", measure, cell(&wasm), cell(&native))
            .must(Target::RatioAtMost(MOST_RATIO))
    };
    Ok(vec![
        row("append p50, ms: wasm | native", |times| times.append),
        row("100 joins at once, ms: wasm | native", |times| times.joins),
        row("1,000/s to 100 clients, p50, ms: wasm | native", |times| {
            times.fanout
        }),
    ])
}

async fn measure(bench: &Bench, relay: Relay) -> Result<Times> {
    let state = bench.places.state_dir("relays")?;
    let server = bench.places.start_ours_with(&state, relay)?;
    let times = Times {
        append: append(&server, if bench.quick { 20 } else { 200 }).await?,
        joins: joins(&server, if bench.quick { 2 } else { 7 }).await?,
        fanout: fanout(&server, if bench.quick { 2 } else { 6 }).await?,
    };
    eprintln!(
        "  {}: append {:.2} ms, {SOCKETS} joins {:.0} ms, fanout {:.2} ms",
        relay.name(),
        times.append,
        times.joins,
        times.fanout,
    );
    server.kill()?;
    Ok(times)
}

/// Appends one update after the other, and returns the median time until it is saved.
pub(super) async fn append(server: &Server, appends: usize) -> Result<f64> {
    let options = JoinOptions {
        events: true,
        ..JoinOptions::default()
    };
    let mut socket = Dialect::Raw
        .join(server.address, ROOM, options)
        .await?
        .socket;
    let mut series = updates::apart(1, appends, 1)?;
    let mut times = Vec::new();
    for (number, update) in series.remove(0).into_iter().enumerate() {
        let start = Instant::now();
        socket.send(Message::Binary(update)).await?;
        client_raw::saved(&mut socket, number as u64 + 1).await?;
        times.push(micros(start.elapsed()));
    }
    Samples::new(times).percentile(50.0).context("no append")
}

/// Joins with all sockets at once, and returns the median time until all have the state.
async fn joins(server: &Server, repetitions: usize) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..repetitions {
        let start = Instant::now();
        let join =
            || load::join_patiently(Dialect::Raw, server.address, ROOM, JoinOptions::default());
        let sockets = try_join_all((0..SOCKETS).map(|_| join())).await?;
        times.push(start.elapsed().as_secs_f64() * 1000.0);
        drop(sockets);
    }
    median(&times).context("no join")
}

/// Writes to a busy room, and returns the median time to each receipt.
async fn fanout(server: &Server, seconds: usize) -> Result<f64> {
    let plan = Plan {
        rooms: vec![Room {
            name: format!("{ROOM}-busy"),
            clients: SOCKETS,
            writers: updates::together(WRITERS, RATE * seconds, 1000)?,
        }],
        rate: RATE as f64,
        warm_up: Duration::from_secs(1),
    };
    let outcome = load::run(Dialect::Raw, server.address, &plan).await?;
    anyhow::ensure!(
        outcome.delivered == outcome.expected,
        "{} of {} delivered",
        outcome.delivered,
        outcome.expected
    );
    outcome.latencies.percentile(50.0).context("no receipt")
}
