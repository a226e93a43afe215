//! The relay as a program of its own beside a Spin app, native or as a WASI command.

use anyhow::{Context, Result};
use clap::Parser;
use relay::Settings;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::process::ExitCode;
use tokio::net::TcpListener;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The WebSocket relay of the Loro sync server.
#[derive(Debug, Parser)]
#[command(name = "relay", version)]
struct Cli {
    /// The address on which the relay listens. Without a host, such as `8787`, it is this machine alone.
    #[arg(long, env = "RELAY_LISTEN", default_value = "127.0.0.1:8787", value_parser = relay::listen_address)]
    listen: SocketAddr,
    #[command(flatten)]
    settings: Settings,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logs();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Writes logs to stderr. `RUST_LOG` chooses the lines; the default is the relay's own from the level info on, and
/// those of libraries from warnings on.
fn start_logs() {
    let chosen = std::env::var("RUST_LOG").ok();
    let filter = chosen
        .and_then(|chosen| chosen.parse().ok())
        .unwrap_or_else(|| {
            Targets::new()
                .with_default(Level::WARN)
                .with_target("relay", Level::INFO)
        });
    tracing_subscriber::fmt()
        .with_max_level(Level::TRACE)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .finish()
        .with(filter)
        .init();
}

fn run(cli: Cli) -> Result<()> {
    runtime()
        .enable_all()
        .build()
        .context("the runtime cannot start")?
        .block_on(serve(cli))
}

async fn serve(cli: Cli) -> Result<()> {
    relay::check(&cli.settings)?;
    let listener = TcpListener::bind(cli.listen)
        .await
        .with_context(|| format!("cannot listen on {}", cli.listen))?;
    let address = listener.local_addr()?;
    let stop = stop()?;
    // The socket listens already, so a client that reads this line can connect.
    println!("ready http://{address}");
    relay::serve(listener, cli.settings, stop).await?;
    Ok(())
}

#[cfg(not(target_arch = "wasm32"))]
fn runtime() -> tokio::runtime::Builder {
    tokio::runtime::Builder::new_multi_thread()
}

/// The runtime of WASI has one thread, because WASI has no others.
#[cfg(target_arch = "wasm32")]
fn runtime() -> tokio::runtime::Builder {
    tokio::runtime::Builder::new_current_thread()
}

/// Resolves on SIGINT or SIGTERM.
#[cfg(not(target_arch = "wasm32"))]
fn stop() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Never resolves, because WASI has no signals. `POST /internal/drain` is the way to stop.
#[cfg(target_arch = "wasm32")]
fn stop() -> Result<impl Future<Output = ()>> {
    Ok(std::future::pending())
}
