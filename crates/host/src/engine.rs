//! The engine: how Wasm is compiled, cached and instantiated.

use std::path::Path;
use std::time::Duration;

use wasmtime::component::Component;
use wasmtime::{
    Cache, CacheConfig, Config, Enabled, Engine, InstanceAllocationStrategy,
    PoolingAllocationConfig,
};

use crate::limits::{Limits, TICK};

/// An engine whose compiled code is kept in `cache`, with room for as many instances as `limits`
/// allows.
pub fn start(cache: &Path, limits: &Limits) -> wasmtime::Result<Engine> {
    let mut directory = CacheConfig::new();
    directory.with_directory(std::path::absolute(cache)?);
    // What an instance touched stays mapped for the next one up to here: it's cleared by writing
    // zeros, which costs less than giving the pages back and faulting them in again. Since 6.7
    // Linux tells which pages those are; without that all are cleared, and few can be kept.
    let keep = match PoolingAllocationConfig::is_pagemap_scan_available() {
        true => limits.memory / 16,
        false => 1 << 20,
    };
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(limits.instances)
        .total_core_instances(limits.instances * 8)
        .total_memories(limits.instances * 2)
        .total_tables(limits.instances * 8)
        .total_stacks(limits.instances)
        .max_memory_size(limits.memory)
        .linear_memory_keep_resident(keep)
        .pagemap_scan(Enabled::Auto)
        .table_keep_resident(64 << 10)
        .async_stack_keep_resident(32 << 10)
        .max_unused_warm_slots(limits.instances.min(64));
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .cache(Some(Cache::new(directory)?))
        .concurrency_support(false)
        .epoch_interruption(true)
        .memory_init_cow(true);
    let engine = Engine::new(&config)?;
    tick(&engine)?;
    Ok(engine)
}

/// An engine for the relay: one long-lived instance, with memory as it needs it.
pub fn start_for_relay(cache: &Path) -> wasmtime::Result<Engine> {
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

/// Counts the engine's epochs, one each [`TICK`], as long as the engine is in use.
fn tick(engine: &Engine) -> std::io::Result<()> {
    let engine = engine.weak();
    std::thread::Builder::new()
        .name("epochs".into())
        .spawn(move || {
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TICK);
            }
        })?;
    Ok(())
}

/// Compiles a component, or takes it from the cache; blocks. A compilation that takes its time is
/// told on stderr.
pub fn compile(engine: &Engine, path: &Path) -> Result<Component, String> {
    let name = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned();
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("{} is missing; build it first", path.display()),
        _ => format!("{}: {error}", path.display()),
    })?;
    let (done, wait) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let name = &name;
        scope.spawn(move || {
            if wait.recv_timeout(Duration::from_millis(500))
                == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                tracing::info!("compiling {name}, once until it changes");
            }
        });
        let component = Component::new(engine, &bytes);
        drop(done);
        component.map_err(|error| format!("{}: {error:#}", path.display()).replace('\n', " "))
    })
}
