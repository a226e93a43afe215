//! The load generator, and the peers that it compares with: `cargo xtask bench`.
//!
//! Each server is a process of its own, on the same machine as the generator; all traffic goes
//! over loopback. The result is one table on stdout; the progress is logged on stderr.

mod client;
mod client_official;
mod client_raw;
mod connection;
mod http;
mod load;
mod machine;
mod native;
mod peers;
mod scenarios;
mod servers;
mod shapes;
mod stats;
mod table;
mod updates;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

use crate::scenarios::{Bench, NAMES};
use crate::servers::{Places, Relay};

/// Compares our server with the official one, and prints a table.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The scenarios to run; by default all.
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<String>,
    /// The scenarios to run, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Runs a smoke test: shorter and smaller, so the numbers say little.
    #[arg(long)]
    quick: bool,
    /// Keeps the servers' logs and state.
    #[arg(long)]
    keep: bool,
    /// The build of our relay.
    #[arg(long, value_enum, default_value_t = Relay::Native)]
    relay: Relay,
    /// The manifest of our app.
    #[arg(long, default_value = "spin.toml")]
    manifest: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves as one of the peers.
    #[command(hide = true, subcommand)]
    Peer(peers::Peer),
    /// Merges once, natively.
    #[command(hide = true)]
    MergeNatively(native::Merge),
}

fn main() -> ExitCode {
    let result = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(Arguments::parse())));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    machine::raise_open_files();
    match arguments.command {
        Some(Command::Peer(peer)) => return peers::serve(peer).await,
        Some(Command::MergeNatively(merge)) => return merge.run(),
        None => {}
    }
    let mut wanted = arguments.scenarios;
    wanted.extend(arguments.only);
    if let Some(unknown) = wanted.iter().find(|name| !NAMES.contains(&name.as_str())) {
        bail!(
            "there is no scenario {unknown}; the scenarios are {}",
            NAMES.join(", ")
        );
    }
    let bench = Bench {
        places: Places::new(arguments.manifest, arguments.relay, arguments.keep)?,
        quick: arguments.quick,
    };
    if arguments.keep {
        eprintln!("logs and state: {}", bench.places.scratch().display());
    }
    let facts = machine::facts(bench.places.scratch())?;
    eprintln!("{facts}");
    bench.places.compile().await?;
    let mut rows = Vec::new();
    for name in NAMES {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            eprintln!("{name}");
            match scenarios::run(&bench, name).await {
                Ok(of_scenario) => rows.extend(of_scenario),
                Err(error) => {
                    eprintln!("  failed: {error:#}");
                    rows.push(table::Row::new(
                        *name,
                        format!("failed: {error:#}"),
                        table::Cell::None,
                        table::Cell::None,
                    ));
                }
            }
        }
    }
    println!("{facts}");
    println!();
    print!("{}", table::render(&rows));
    println!();
    println!("{NOTES}");
    Ok(())
}

/// The notes that a reader of the table needs.
const NOTES: &str = "\
theirs: loro-websocket-server 0.1 with its defaults: in memory, nothing is on disk. Our server has
every update on disk before any other client sees it. If a measure names something else after a
semicolon or a bar, the column \"theirs\" holds the value of that.
Each value of a load scenario is the median of its repetitions; the two servers take turns. The
generator shares the cores with the server: if nearly all cores are busy, or many of them with
something else, a latency says as much about the machine as about the server.";
