//! The relay as a program of its own beside a Spin app, native or as a WASI command.

use anyhow::{Context, Result};
use clap::Parser;
use relay::CommandLine;
use std::process::ExitCode;
use tokio::net::TcpListener;

/// The allocator of this program. That of glibc keeps the memory that a storm of requests took, in an arena for each
/// thread; jemalloc gives it back.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = CommandLine::parse();
    relay::start_logs(&["relay"]);
    relay::warn_of_unknown_variables();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: CommandLine) -> Result<()> {
    runtime()
        .enable_all()
        .build()
        .context("the runtime cannot start")?
        .block_on(serve(cli))
}

async fn serve(cli: CommandLine) -> Result<()> {
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

/// Begins to build a runtime with one thread, because WASI has no more.
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
