//! The guests: a component that is ready to run, and the state of one instance of it.

mod background;
pub(crate) mod capacity;
pub(crate) mod lane;
pub(crate) mod limits;

use std::future::Future;
use std::sync::Arc;

use wasmtime::component::{InstancePre, Linker, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use self::capacity::{Busy, Capacity, Place};
use self::lane::Lane;
use self::limits::{MemoryLimit, Meter, Shortage};
use crate::logs::GuestOutput;
use crate::{key_value, outbound_http, redis, sqlite, variables};

/// The part of each capability that a component may use.
pub(crate) struct Grants {
    pub(crate) key_value: Arc<key_value::guest::Grant>,
    pub(crate) outbound_http: Arc<outbound_http::guest::Grant>,
    pub(crate) redis: Arc<redis::guest::Grant>,
    pub(crate) sqlite: Arc<sqlite::guest::Grant>,
    pub(crate) variables: Arc<variables::guest::Grant>,
}

/// A component that is ready to run: compiled and linked, with what it may use.
pub(crate) struct Program {
    /// The component's id.
    pub(crate) id: String,
    grants: Grants,
    capacity: Arc<Capacity>,
    pre: InstancePre<Guest>,
}

/// The state of one instance.
pub(crate) struct Guest {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    key_value: key_value::guest::Calls,
    outbound_http: outbound_http::guest::Calls,
    redis: redis::guest::Calls,
    sqlite: sqlite::guest::Calls,
    variables: variables::guest::Calls,
    memory: MemoryLimit,
    /// The meter of its memory and processor time.
    pub(crate) meter: Arc<Meter>,
    _permit: tokio::sync::OwnedSemaphorePermit,
}

/// A linker with everything that a component may import.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    key_value::guest::add_to_linker(&mut linker, |guest: &mut Guest| &mut guest.key_value)?;
    outbound_http::guest::add_to_linker(&mut linker)?;
    redis::guest::add_to_linker(&mut linker, |guest: &mut Guest| &mut guest.redis)?;
    sqlite::guest::add_to_linker(&mut linker, |guest: &mut Guest| &mut guest.sqlite)?;
    variables::guest::add_to_linker(&mut linker, |guest: &mut Guest| &mut guest.variables)?;
    Ok(linker)
}

impl Program {
    /// Bundles a linked component with what it may use.
    pub(crate) fn new(
        id: String,
        grants: Grants,
        capacity: Arc<Capacity>,
        pre: InstancePre<Guest>,
    ) -> Self {
        Self {
            id,
            grants,
            capacity,
            pre,
        }
    }

    /// The linked component, in which a trigger finds its export.
    pub(crate) fn pre(&self) -> &InstancePre<Guest> {
        &self.pre
    }

    /// A fresh store for one instance of a lane, as soon as there is room for it.
    ///
    /// # Errors
    /// If there is no room.
    pub(crate) async fn store(&self, lane: Lane) -> Result<Store<Guest>, Busy> {
        let Place { claim, permit } = self.capacity.place(lane).await?;
        let wasi = WasiCtxBuilder::new()
            .stdout(GuestOutput::new(&self.id, false))
            .stderr(GuestOutput::new(&self.id, true))
            .build();
        let meter = Arc::new(Meter::default());
        let limits = &self.capacity.limits;
        let guest = Guest {
            wasi,
            http: WasiHttpCtx::new(),
            table: ResourceTable::new(),
            key_value: key_value::guest::Calls::new(&self.grants.key_value),
            outbound_http: outbound_http::guest::Calls::new(&self.grants.outbound_http),
            redis: redis::guest::Calls::new(&self.grants.redis),
            sqlite: sqlite::guest::Calls::new(&self.grants.sqlite, claim.beside()),
            variables: variables::guest::Calls::new(&self.grants.variables),
            memory: MemoryLimit::new(limits.memory, claim, Arc::clone(&meter)),
            meter: Arc::clone(&meter),
            _permit: permit,
        };
        let mut store = Store::new(self.pre.engine(), guest);
        store.limiter(|guest| &mut guest.memory);
        limits::watch(&mut store, lane.processor_time(limits), meter);
        Ok(store)
    }

    /// Runs a task that calls an instance of a lane.
    pub(crate) fn spawn(&self, lane: Lane, task: impl Future<Output = ()> + Send + 'static) {
        self.capacity.spawn(lane, task);
    }

    /// Runs a call into a guest within the limits, until it returns, traps or is stopped. A trap and a stop are
    /// logged. `meter` is the store's own.
    pub(crate) async fn run<T>(
        &self,
        meter: Arc<Meter>,
        call: impl Future<Output = wasmtime::Result<T>>,
    ) -> wasmtime::Result<T> {
        let result = limits::within(&self.capacity.limits, Arc::clone(&meter), call).await;
        tracing::debug!(
            component = self.id,
            mib = meter.held().div_ceil(1 << 20),
            "an instance ended"
        );
        if let Err(error) = &result {
            let memory = match meter.shortage() {
                Some(Shortage::Instance) => " (it had reached its memory limit)",
                Some(Shortage::Budget) => " (the memory for all instances was used up)",
                None => "",
            };
            tracing::error!(component = self.id, "an instance failed{memory}: {error:#}");
        }
        result
    }
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
            hooks: &mut self.outbound_http,
        }
    }
}
