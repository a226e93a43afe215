//! Guests: a component made ready to run, and the state of one instance of it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::component::{HasSelf, InstancePre, Linker, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::allowed_hosts::AllowedHosts;
use crate::bindings::{self, RedisTriggerPre, SpinCronPre};
use crate::database::Database;
use crate::host::Shared;
use crate::limits::{self, MemoryLimit, Meter};
use crate::outbound_http::OutboundHttp;
use crate::variables::ComponentVariables;

/// What a component may reach, resolved from the manifest.
#[derive(Debug)]
pub struct Grants {
    /// Its variables' values.
    pub variables: ComponentVariables,
    /// Its environment.
    pub environment: Vec<(String, String)>,
    /// Folders it sees, read-only: path here, path in the guest.
    pub folders: Vec<(PathBuf, String)>,
    /// Hosts that it may call.
    pub hosts: AllowedHosts,
    /// SQLite databases that it may open, by name.
    pub databases: BTreeMap<String, Arc<Database>>,
    /// Key-value stores that it may open.
    pub stores: BTreeSet<String>,
}

/// A component made ready: compiled, linked, with what it may reach.
pub struct Program {
    /// The component's id.
    pub id: String,
    grants: Grants,
    /// What all components share.
    pub shared: Arc<Shared>,
    pre: InstancePre<Guest>,
}

impl std::ops::Deref for Program {
    type Target = Grants;

    fn deref(&self) -> &Grants {
        &self.grants
    }
}

/// No instance became free in time.
#[derive(Debug, thiserror::Error)]
#[error("all instances are busy")]
pub struct Busy;

/// The linker with everything that a component may import.
pub fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    crate::outbound_http::add_to_linker(&mut linker)?;
    bindings::variables::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest: &mut Guest| guest)?;
    bindings::sqlite::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest: &mut Guest| guest)?;
    bindings::key_value::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest: &mut Guest| guest)?;
    bindings::redis::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest: &mut Guest| guest)?;
    Ok(linker)
}

impl Program {
    /// Joins a linked component with what it may reach.
    pub fn new(id: String, grants: Grants, shared: Arc<Shared>, pre: InstancePre<Guest>) -> Self {
        Self {
            id,
            grants,
            shared,
            pre,
        }
    }

    /// The HTTP handler that the component exports.
    pub fn http(&self) -> wasmtime::Result<ProxyPre<Guest>> {
        ProxyPre::new(self.pre.clone())
    }

    /// The Redis handler that the component exports.
    pub fn redis(&self) -> wasmtime::Result<RedisTriggerPre<Guest>> {
        RedisTriggerPre::new(self.pre.clone())
    }

    /// The cron handler that the component exports.
    pub fn cron(&self) -> wasmtime::Result<SpinCronPre<Guest>> {
        SpinCronPre::new(self.pre.clone())
    }

    /// A fresh store for one instance, as soon as there is room for it.
    pub async fn store(self: &Arc<Self>) -> Result<Store<Guest>, Busy> {
        let slots = Arc::clone(&self.shared.slots);
        let slot = match Arc::clone(&slots).try_acquire_owned() {
            Ok(slot) => slot,
            Err(_) => tokio::time::timeout(self.shared.limits.queue, slots.acquire_owned())
                .await
                .map_err(|_| Busy)?
                .map_err(|_| Busy)?,
        };
        let mut wasi = WasiCtxBuilder::new();
        wasi.envs(&self.environment)
            .stdout(crate::logs::GuestOutput::new(&self.id, false))
            .stderr(crate::logs::GuestOutput::new(&self.id, true));
        for (here, there) in &self.folders {
            if let Err(error) = wasi.preopened_dir(here, there, FsPerms::ReadOnly) {
                tracing::warn!(component = self.id, folder = %here.display(), "files are gone: {error}");
            }
        }
        let meter = Arc::new(Meter::default());
        let guest = Guest {
            program: Arc::clone(self),
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            table: ResourceTable::new(),
            outbound: OutboundHttp::new(Arc::clone(self)),
            memory: MemoryLimit::new(self.shared.limits.memory, Arc::clone(&meter)),
            meter,
            _slot: slot,
        };
        let mut store = Store::new(self.pre.engine(), guest);
        limits::watch(&mut store, &self.shared.limits);
        Ok(store)
    }

    /// Runs a call into a guest within the limits, until it returns, traps or is stopped; the last
    /// two are logged. `meter` is the store's own.
    pub async fn run<T>(
        &self,
        meter: Arc<Meter>,
        call: impl Future<Output = wasmtime::Result<T>>,
    ) -> wasmtime::Result<T> {
        let result = limits::within(&self.shared.limits, Arc::clone(&meter), call).await;
        if let Err(error) = &result {
            let memory = if meter.memory_reached() {
                " (it had reached its memory limit)"
            } else {
                ""
            };
            tracing::error!(component = self.id, "instance failed{memory}: {error:#}");
        }
        result
    }
}

/// The state of one instance.
pub struct Guest {
    /// What it is an instance of.
    pub program: Arc<Program>,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    /// Its open resources.
    pub table: ResourceTable,
    outbound: OutboundHttp,
    /// Its memory limit.
    pub memory: MemoryLimit,
    /// Its processor time.
    pub meter: Arc<Meter>,
    _slot: OwnedSemaphorePermit,
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.outbound,
        }
    }
}
