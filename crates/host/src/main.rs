//! `loro-host`: see the library.

use std::process::ExitCode;

/// The allocator of glibc keeps what a storm of requests took, in an arena for each thread. This one gives it back.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    loro_host::cli::main()
}
