//! The memory that an idle connection costs the server process.
//!
//! On our side, this process is the relay, which runs on its own in front of the app.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;

use super::sides::{Bench, Side};
use crate::connection::JoinOptions;
use crate::http::Http;
use crate::load::{CONNECT_AT_ONCE, join_patiently};
use crate::machine;
use crate::servers::Server;
use crate::table::{Cell, Row, Target};

const CLIENTS_IN_A_ROOM: usize = 10;

/// The most that an idle connection may cost our relay, in KiB.
const MOST_KIB: f64 = 24.0;

pub(super) async fn run(bench: &Bench) -> Result<Vec<Row>> {
    let counts: &[usize] = if bench.quick { &[200] } else { &[1000, 5000] };
    let mut rows = Vec::new();
    for &count in counts {
        let mut cells = [Cell::None, Cell::None];
        for (side, cell) in Side::BOTH.into_iter().zip(&mut cells) {
            match one_side(bench, side, count).await {
                Ok(kib) => {
                    eprintln!("  {}: {kib:.1} KiB each of {count}", side.name());
                    *cell = Cell::from(kib);
                }
                Err(error) => eprintln!("  {} failed: {error:#}", side.name()),
            }
        }
        let [ours, theirs] = cells;
        let measure = format!("{count} connections, KiB each");
        rows.push(Row::new("idle", measure, ours, theirs).must(Target::AtMost(MOST_KIB)));
    }
    Ok(rows)
}

async fn one_side(bench: &Bench, side: Side, count: usize) -> Result<f64> {
    match side {
        Side::Ours => {
            let app = bench.places.start_app(&bench.places.state_dir("idle")?)?;
            let relay = bench.places.start_relay(&app)?;
            let kib = memory_each(side, &relay, count).await?;
            relay.kill()?;
            app.kill()?;
            Ok(kib)
        }
        Side::Theirs => {
            let server = bench.places.start_official()?;
            let kib = memory_each(side, &server, count).await?;
            server.kill()?;
            Ok(kib)
        }
    }
}

async fn memory_each(side: Side, server: &Server, count: usize) -> Result<f64> {
    // The client's buffers are small, because only the server's memory counts.
    let options = JoinOptions {
        read_buffer: 2 * 1024,
        ..JoinOptions::default()
    };
    // The memory that a server allocates for its very first client is not a connection's cost.
    let address = server.address;
    let _first = join_patiently(side.dialect(), address, "first", options).await?;
    let before = settled_memory(server).await?;
    let sockets = futures_util::stream::iter(0..count)
        .map(|number| async move {
            let room = format!("idle-{}", number / CLIENTS_IN_A_ROOM);
            join_patiently(side.dialect(), address, &room, options).await
        })
        .buffer_unordered(CONNECT_AT_ONCE)
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect::<Result<Vec<_>>>()
        .context("connect all clients")?;
    let after = settled_memory(server).await?;
    if side == Side::Ours {
        // A dropped connection would cost nothing, and falsify the result.
        let open = Http::connect(address)
            .await?
            .metric("relay_connections")
            .await?;
        ensure!(
            open == (count + 1) as f64,
            "only {open} are still connected"
        );
    }
    drop(sockets);
    Ok(after.saturating_sub(before) as f64 / count as f64)
}

/// Reads the memory of a server in KiB, once it changes by no more than 1 % in a second, or after
/// 15 s.
async fn settled_memory(server: &Server) -> Result<u64> {
    let mut last = machine::memory_kib(server.pid())?;
    for _ in 0..15 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = machine::memory_kib(server.pid())?;
        if now.abs_diff(last) * 100 <= last {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}
