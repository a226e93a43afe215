//! The commands of this repository.
//!
//! `cargo xtask up` builds everything and runs it; `cargo xtask test` passes every test;
//! `cargo xtask bench` measures against the peers. Each first sets up what is missing.

mod bench;
mod build;
mod machine;
mod manifest;
mod python;
mod steps;
mod test;
mod up;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "The commands of Loro Sync Server for Spin"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build what is missing, then run everything on this machine
    Up(up::Up),
    /// Build the components and the page, and start nothing
    Build,
    /// Print a manifest derived from spin.toml
    Manifest(manifest::Manifest),
    /// Install what the tests need, and pass them all
    Test(test::Test),
    /// Measure against the peers; the arguments go to the load generator
    Bench(bench::Bench),
}

fn main() -> std::process::ExitCode {
    let result = match Cli::parse().command {
        Command::Up(up) => up.run(),
        Command::Build => build::all(),
        Command::Manifest(manifest) => manifest.run(),
        Command::Test(test) => test.run(),
        Command::Bench(bench) => bench.run(),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
