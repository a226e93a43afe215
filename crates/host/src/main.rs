//! `loro-host`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    loro_host::cli::main()
}
