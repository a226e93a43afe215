//! The appends to an app whose tables are on a libSQL server, by the time of a round trip to it.

use std::time::Duration;

use anyhow::Result;

use super::saturation::{self, Acknowledged};
use super::sides::{Bench, Side};
use crate::table::{Cell, Row};

/// The times of a round trip, in milliseconds.
const ROUND_TRIPS: [u64; 3] = [1, 5, 20];

/// The updates that each writer sends before it waits for their acknowledgements.
const WINDOWS: [usize; 2] = [1, 16];

pub(super) async fn run(bench: &Bench) -> Result<Vec<Row>> {
    let (seconds, each) = if bench.quick { (2, 500) } else { (10, 4000) };
    let updates = saturation::series(each)?;
    let mut rows = Vec::new();
    for round_trip in ROUND_TRIPS {
        let mut rates = Vec::new();
        for window in WINDOWS {
            let state = bench.places.state_dir("libsql")?;
            let libsql = bench.places.start_libsql(&state, round_trip)?;
            let server = bench.places.start_ours_on(&state, &libsql)?;
            let length = Duration::from_secs(seconds);
            let (side, kind) = (Side::Ours, Acknowledged::Saved);
            let rate = saturation::rate(&server, side, &updates, window, kind, length).await?;
            eprintln!("  {round_trip} ms, window {window}: {rate:.0}/s");
            rates.push(rate);
            server.kill()?;
            libsql.kill()?;
        }
        let measure = format!(
            "{round_trip} ms to libSQL, ten writers, updates/s saved: window {} | window {}",
            WINDOWS[0], WINDOWS[1]
        );
        rows.push(Row::new("libsql", measure, rates[0], Cell::from(rates[1])));
    }
    Ok(rows)
}
