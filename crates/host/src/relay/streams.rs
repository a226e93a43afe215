//! The sockets of the Wasm relay, so that none of them waits for its client.
//!
//! Rust 1.95's libc for `wasm32-wasip2` ends every write to a socket with `blocking-flush`, even if the socket is
//! non-blocking, and wasmtime-wasi lets the drop of a stream wait until everything is written. The relay has one
//! thread, so a client that reads nothing would hold up all others. Here a flush returns at once, and the stream takes
//! no more until its data is written; a drop leaves the rest to a task.

use std::time::Duration;

use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::p2::DynOutputStream;
use wasmtime_wasi::p2::bindings::io::streams::{Host as _, StreamError};

/// The interface as wasmtime-wasi's linker names it.
const STREAMS: &str = "wasi:io/streams@0.2.12";

/// The time that a client may take to read what was written before its stream was dropped.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Puts these streams in place of those of wasmtime-wasi.
pub(crate) fn add_to_linker<T: WasiView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut streams = linker.instance(STREAMS)?;
    streams.func_wrap(
        "[method]output-stream.blocking-flush",
        |mut store, (stream,): (Resource<DynOutputStream>,)| {
            let table = store.data_mut().ctx().table;
            let flushed: Result<(), StreamError> = match table.get_mut(&stream)?.flush() {
                Ok(()) => Ok(()),
                Err(error) => Err(table.convert_stream_error(error)?),
            };
            Ok((flushed,))
        },
    )?;
    streams.resource(
        "output-stream",
        ResourceType::host::<DynOutputStream>(),
        |mut store, stream| {
            let stream = Resource::<DynOutputStream>::new_own(stream);
            let mut stream = store.data_mut().ctx().table.delete(stream)?;
            tokio::spawn(async move {
                if tokio::time::timeout(LAST_WORDS, stream.cancel())
                    .await
                    .is_err()
                {
                    tracing::debug!("a client did not read what was written last");
                }
            });
            Ok(())
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}
