//! The relay as a program: its command line, and the log of a program that runs it.

use clap::Parser;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::{Settings, listen::listen_address};

/// The WebSocket relay of the Loro sync server.
#[derive(Debug, Parser)]
#[command(name = "relay", version)]
pub struct CommandLine {
    /// The address on which the relay listens. `8787`, `:8787` and `localhost:8787` are this machine alone;
    /// `0.0.0.0:8787` is every network.
    #[arg(long, env = "RELAY_LISTEN", default_value = "127.0.0.1:8787", value_parser = listen_address)]
    pub listen: SocketAddr,
    /// The other settings.
    #[command(flatten)]
    pub settings: Settings,
}

/// Writes logs to stderr. `RUST_LOG` chooses the lines; by default they are info of the targets in `ours`, and warnings of
/// libraries. A second call changes nothing.
pub fn start_logs(ours: &[&'static str]) {
    let chosen = std::env::var("RUST_LOG").ok();
    let filter = chosen
        .and_then(|chosen| chosen.parse().ok())
        .unwrap_or_else(|| {
            Targets::new()
                .with_default(Level::WARN)
                .with_targets(ours.iter().map(|name| (*name, Level::INFO)))
        });
    let result = tracing_subscriber::fmt()
        .with_max_level(Level::TRACE)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .finish()
        .with(filter)
        .try_init();
    if result.is_err() {
        tracing::debug!("logs were set up already");
    }
}
