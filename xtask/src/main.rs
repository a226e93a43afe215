//! The commands of this repository.
//!
//! `cargo xtask up` builds the app and runs it, `cargo xtask test` runs every test, `cargo xtask bench` measures
//! against the peers, `cargo xtask mutants` looks for code that no test covers, and `cargo xtask generate` writes
//! derived files. Each first installs what it needs.

mod backup;
mod bench;
mod blocks;
mod build;
#[cfg(test)]
mod deploy;
mod generate;
#[cfg(test)]
mod licences;
mod machine;
mod manifest;
#[cfg(test)]
mod members;
mod mutants;
#[cfg(test)]
mod pages;
mod parts;
mod python;
mod steps;
mod test;
mod up;
#[cfg(test)]
mod words;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "The commands of Loro Sync Server for Spin"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the app, then run it on this machine
    Up(up::Up),
    /// Build the components and the page, and start nothing
    Build(build::Build),
    /// Print a manifest derived from spin.toml
    Manifest(manifest::Manifest),
    /// Copy the databases of a server, also while it runs
    Backup(backup::Backup),
    /// Put the databases of a backup into an empty state folder
    Restore(backup::Restore),
    /// Write the variables of spin.toml and the tables in docs/ from what the code declares
    Generate,
    /// Install what the tests need, and run them all
    Test(test::Test),
    /// Measure against the peers; the arguments go to the load generator
    Bench(bench::Bench),
    /// Change the code in small ways, and report the changes that no test notices
    Mutants(mutants::Mutants),
}

fn main() -> std::process::ExitCode {
    let result = match Cli::parse().command {
        Command::Up(up) => up.run(),
        Command::Build(build) => build.run(),
        Command::Manifest(manifest) => manifest.run(),
        Command::Backup(backup) => backup.run(),
        Command::Restore(restore) => restore.run(),
        Command::Generate => generate::write(),
        Command::Test(test) => test.run(),
        Command::Bench(bench) => bench.run(),
        Command::Mutants(mutants) => mutants.run(),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
