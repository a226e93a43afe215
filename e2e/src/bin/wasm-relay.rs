//! The relay's Wasm build in a process of its own, as `wasmtime run -S inherit-network` runs it. Its settings are
//! the relay's own, `RELAY_…`.

use anyhow::{Context, Result};
use e2e::built::{built, compiled};
use loro_host::{Relay, RelaySettings};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<()> {
    loro_host::start_logs();
    let mut terminate = signal(SignalKind::terminate())?;
    let listen = std::env::var("RELAY_LISTEN")?.parse()?;
    let settings = RelaySettings {
        app: std::env::var("RELAY_APP")?,
        redis: std::env::var("RELAY_REDIS")?,
        internal_token: std::env::var("RELAY_INTERNAL_TOKEN").unwrap_or_default(),
        wasm: built("target/wasm32-wasip2/wasm/relay.wasm"),
        cache: compiled(),
    };
    let mut relay = Relay::start_wasm(listen, settings).await?;
    println!("ready http://{}", relay.address());
    tokio::select! {
        ended = relay.ended() => ended.context("the relay ended"),
        _ = terminate.recv() => relay.drain().await,
    }
}
