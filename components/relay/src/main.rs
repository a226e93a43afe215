//! The relay as a program of its own, beside a Spin app; natively, or as a WASI command.

use anyhow::{Context, Result};
use clap::Parser;
use relay::Settings;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::process::ExitCode;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

/// The WebSocket relay of the Loro sync server.
#[derive(Debug, Parser)]
#[command(name = "relay", version)]
struct Cli {
    /// Where clients connect.
    #[arg(long, env = "RELAY_LISTEN", default_value = "127.0.0.1:8787")]
    listen: SocketAddr,
    #[command(flatten)]
    settings: Settings,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,relay=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    runtime()
        .enable_all()
        .build()
        .context("the runtime cannot start")?
        .block_on(serve(cli))
}

async fn serve(cli: Cli) -> Result<()> {
    let listener = TcpListener::bind(cli.listen)
        .await
        .with_context(|| format!("cannot listen on {}", cli.listen))?;
    let address = listener.local_addr()?;
    let stop = stop()?;
    // Only an error that shows at once is one of the start.
    println!("ready http://{address}");
    relay::serve(listener, cli.settings, stop).await?;
    Ok(())
}

#[cfg(not(target_arch = "wasm32"))]
fn runtime() -> tokio::runtime::Builder {
    tokio::runtime::Builder::new_multi_thread()
}

/// WASI has no threads.
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

/// WASI has no signals: `POST /internal/drain` is the way to stop.
#[cfg(target_arch = "wasm32")]
fn stop() -> Result<impl Future<Output = ()>> {
    Ok(std::future::pending())
}
