//! The program `loro-host`, which the library describes.

use std::process::ExitCode;

/// The allocator, which gives memory back after a storm of requests. That of glibc keeps it, in an arena for each
/// thread.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    loro_host::cli::main()
}
