//! The time from a `kill -9` until a client is live again and has the whole document.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::SinkExt;
use loro::{LoroDoc, VersionVector};
use tokio_tungstenite::tungstenite::Message;

use super::sides::{Bench, Pair, Side};
use crate::client_raw;
use crate::connection::{self, JoinOptions, Joined};
use crate::servers::Server;
use crate::stats::median;
use crate::table::{Cell, Row, Target};
use crate::updates;

const ROOM: &str = "restart";

/// The result of one kill and restart.
struct Run {
    ready_ms: f64,
    live_ms: f64,
    kept: usize,
}

pub(super) async fn run(bench: &Bench) -> Result<Vec<Row>> {
    let (count, repetitions) = if bench.quick { (100, 1) } else { (2000, 3) };
    let updates = updates::together(1, count, 1)?.swap_remove(0);
    let mut runs = Pair::<Vec<Run>>::default();
    for repetition in 0..repetitions {
        for side in Side::alternating(repetition) {
            match once(bench, side, &updates).await {
                Ok(run) => {
                    eprintln!(
                        "  {}: ready after {:.0} ms, live after {:.0} ms, {} of {count} kept",
                        side.name(),
                        run.ready_ms,
                        run.live_ms,
                        run.kept,
                    );
                    runs.side(side).push(run);
                }
                Err(error) => eprintln!("  {} failed: {error:#}", side.name()),
            }
        }
    }
    let row = |measure: String, value: &dyn Fn(&Run) -> f64| {
        let cell = |runs: &[Run]| Cell::from(median(&runs.iter().map(value).collect::<Vec<_>>()));
        Row::new("restart", measure, cell(&runs.ours), cell(&runs.theirs))
    };
    let lost = |run: &Run| (count - run.kept) as f64;
    Ok(vec![
        row("kill -9 to ready, ms".into(), &|run| run.ready_ms),
        row("kill -9 to a client with the state, ms".into(), &|run| {
            run.live_ms
        }),
        row(format!("updates lost, of {count}"), &lost).must(Target::Exactly(0.0)),
    ])
}

async fn once(bench: &Bench, side: Side, updates: &[Bytes]) -> Result<Run> {
    let state = bench.places.state_dir(ROOM)?;
    let start = || match side {
        Side::Ours => bench.places.start_ours(&state),
        Side::Theirs => bench.places.start_official(),
    };
    let server = start()?;
    fill(side, &server, updates)
        .await
        .context("before the kill")?;

    let killed = Instant::now();
    server.kill()?;
    let server = start()?;
    let ready_ms = killed.elapsed().as_secs_f64() * 1000.0;
    let joined = join(side, &server).await.context("after the restart")?;
    let live_ms = killed.elapsed().as_secs_f64() * 1000.0;

    let doc = LoroDoc::new();
    for blob in &joined.blobs {
        doc.import(blob)?;
    }
    let has = doc.oplog_vv();
    let mut kept = 0;
    for update in updates {
        let end: VersionVector = LoroDoc::decode_import_blob_meta(update, true)?.partial_end_vv;
        kept += usize::from(has >= end);
    }
    drop(joined);
    server.kill()?;
    Ok(Run {
        ready_ms,
        live_ms,
        kept,
    })
}

/// Sends every update, and waits until the server has passed all of them on.
async fn fill(side: Side, server: &Server, updates: &[Bytes]) -> Result<()> {
    let mut observer = join(side, server).await?.socket;
    let mut writer = join(side, server).await?.socket;
    let send = async {
        for update in updates {
            let frame = side.dialect().frame(ROOM, update)?;
            writer.feed(Message::Binary(frame)).await?;
        }
        writer.flush().await?;
        anyhow::Ok(writer)
    };
    let watch = async {
        let mut received = 0;
        while received < updates.len() {
            let message = connection::next(&mut observer).await?;
            received += usize::from(message.is_binary());
        }
        anyhow::Ok(())
    };
    let both = async { tokio::try_join!(send, watch) };
    let (mut writer, ()) = tokio::time::timeout(Duration::from_secs(60), both)
        .await
        .context("the updates were not passed on")??;
    if side == Side::Ours {
        // Our server also reports when all updates are on disk.
        client_raw::saved(&mut writer, updates.len() as u64).await?;
    }
    Ok(())
}

async fn join(side: Side, server: &Server) -> Result<Joined> {
    let options = JoinOptions {
        events: true,
        ..JoinOptions::default()
    };
    let join = side.dialect().join(server.address, ROOM, options);
    tokio::time::timeout(Duration::from_secs(30), join)
        .await
        .context("no state within 30 s")?
}
