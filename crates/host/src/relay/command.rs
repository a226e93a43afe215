//! The relay as a WASI command: one long-lived instance that inherits the network.

use std::net::SocketAddr;

use anyhow::{Result, anyhow};
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::RelaySettings;
use crate::logs::GuestOutput;
use crate::{engine, environment};

/// The state of the relay's one instance.
struct Command {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Command {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

/// Runs the command until it ends. The address that it listens on goes to `ready`.
pub(crate) async fn run(
    listen: SocketAddr,
    settings: RelaySettings,
    ready: oneshot::Sender<SocketAddr>,
) -> Result<()> {
    let engine = engine::start_for_relay(&settings.cache)?;
    let component = {
        let (engine, wasm) = (engine.clone(), settings.wasm.clone());
        tokio::task::spawn_blocking(move || engine::compile(&engine, &wasm)).await?
    };
    let component = component.map_err(|error| anyhow!(error))?;
    let mut linker = Linker::<Command>::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    super::streams::add_to_linker(&mut linker)?;
    let command = CommandPre::new(linker.instantiate_pre(&component)?)?;
    let mut wasi = WasiCtxBuilder::new();
    for (name, value) in environment::variables() {
        if name.starts_with("RELAY_") || name == "RUST_LOG" {
            wasi.env(name, value);
        }
    }
    let wasi = wasi
        .args(&[
            "relay",
            "--listen",
            &listen.to_string(),
            "--app",
            &settings.app,
            "--redis",
            &settings.redis,
        ])
        .env("RELAY_INTERNAL_TOKEN", &settings.internal_token)
        .stdout(GuestOutput::watched("relay", "ready http://", ready))
        .inherit_stderr()
        .allow_tcp(true)
        .inherit_network()
        .allow_ip_name_lookup(true)
        .build();
    let mut store = Store::new(
        &engine,
        Command {
            wasi,
            table: ResourceTable::new(),
        },
    );
    // It has no deadline. At every tick it gives way to the other tasks of its runtime.
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|_| Ok(wasmtime::UpdateDeadline::Yield(1)));
    let instance = command.instantiate_async(&mut store).await?;
    match instance.wasi_cli_run().call_run(&mut store).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(())) => Err(anyhow!(
            "the relay ended with an error, which is in its log"
        )),
        Err(error) => match error.downcast_ref::<wasmtime_wasi::I32Exit>() {
            Some(wasmtime_wasi::I32Exit(0)) => Ok(()),
            Some(wasmtime_wasi::I32Exit(code)) => Err(anyhow!(
                "the relay ended with code {code}; the reason is in its log"
            )),
            None => Err(anyhow::Error::from(error).context("the relay failed")),
        },
    }
}
