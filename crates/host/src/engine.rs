//! The engine: how Wasm is compiled, cached and instantiated.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use tokio::sync::oneshot;
use wasmtime::component::Component;
use wasmtime::{
    Cache, CacheConfig, Config, Enabled, Engine, InstanceAllocationStrategy,
    PoolingAllocationConfig,
};

use crate::guest::capacity;
use crate::guest::limits::Limits;

/// The interval at which a running guest gives way to other tasks and is checked against its limits.
const TICK: Duration = Duration::from_millis(10);
/// The bytes of memory that stay mapped at a place after an instance, for the next one. Each place keeps them for good,
/// so after a storm that used every place, each holds that much. A small request touches about 1 MiB, but it is no
/// faster if that much is kept.
const KEPT: usize = 64 << 10;
/// The time that a compilation may take before it is logged.
const SILENT: Duration = Duration::from_millis(500);

/// An engine whose compiled code is kept in `cache`, with room for as many instances as `limits` allows. The receiver
/// resolves when the engine's clock ends; without the clock, processor time has no limit.
pub(crate) fn start(
    cache: &Path,
    limits: &Limits,
) -> wasmtime::Result<(Engine, oneshot::Receiver<()>)> {
    let mut directory = CacheConfig::new();
    directory.with_directory(std::path::absolute(cache)?);
    let instances = capacity::places(limits);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances * 8)
        .total_memories(instances * 2)
        .total_tables(instances * 8)
        .total_stacks(instances)
        .max_memory_size(limits.memory)
        .linear_memory_keep_resident(KEPT)
        .pagemap_scan(Enabled::Auto)
        .table_keep_resident(64 << 10)
        .max_unused_warm_slots(instances.min(64));
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .cache(Some(Cache::new(directory)?))
        .concurrency_support(false)
        .epoch_interruption(true)
        .memory_init_cow(true);
    let engine = Engine::new(&config)?;
    let clock = tick(&engine)?;
    Ok((engine, clock))
}

/// An engine for the relay, which has one long-lived instance and no limit of memory.
pub(crate) fn start_for_relay(cache: &Path) -> wasmtime::Result<Engine> {
    let mut directory = CacheConfig::new();
    directory.with_directory(std::path::absolute(cache)?);
    let mut config = Config::new();
    config
        .cache(Some(Cache::new(directory)?))
        .concurrency_support(false)
        .epoch_interruption(true);
    let engine = Engine::new(&config)?;
    tick(&engine)?;
    Ok(engine)
}

/// Counts the engine's epochs on a thread, one each [`TICK`], as long as the engine is in use. The receiver resolves at
/// the thread's end.
fn tick(engine: &Engine) -> std::io::Result<oneshot::Receiver<()>> {
    let engine = engine.weak();
    let (running, ended) = oneshot::channel();
    std::thread::Builder::new()
        .name("epochs".into())
        .spawn(move || {
            // The end of the thread drops it.
            let _running: oneshot::Sender<()> = running;
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TICK);
            }
        })?;
    Ok(ended)
}

/// Compiles a component, or takes it from the cache; it blocks. A compilation that takes a while is logged.
pub(crate) fn compile(engine: &Engine, path: &Path) -> Result<Component, String> {
    let name = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned();
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!(
            "{} is missing: `cargo xtask build` builds it",
            path.display()
        ),
        _ => format!("{}: {error}", path.display()),
    })?;
    let (done, wait) = channel::<()>();
    std::thread::scope(|scope| {
        let name = &name;
        scope.spawn(move || {
            if wait.recv_timeout(SILENT) == Err(RecvTimeoutError::Timeout) {
                tracing::info!("compiling {name}, once until it changes");
            }
        });
        let component = Component::new(engine, &bytes);
        drop(done);
        component.map_err(|error| format!("{}: {error:#}", path.display()).replace('\n', " "))
    })
}
