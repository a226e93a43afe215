//! `cargo xtask up`: builds and runs the app on this machine.

use std::{os::unix::process::CommandExt, path::PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::{
    build, machine,
    steps::{program, root},
};

/// The relay's build.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Relay {
    /// In the host's process
    Native,
    /// relay.wasm, as a WASI command
    Wasm,
}

/// The options of `cargo xtask up`.
#[derive(Args)]
pub(crate) struct Up {
    /// The public address
    #[arg(long, default_value = "127.0.0.1:8787")]
    listen: String,
    /// The folder of the database, the key-value store and compiled Wasm
    #[arg(long, default_value = ".state")]
    state_dir: PathBuf,
    /// A Redis that joins this relay to others; without it, a broker in the process
    #[arg(long)]
    redis: Option<String>,
    /// The relay's build
    #[arg(long, value_enum, default_value = "native")]
    relay: Relay,
    /// Start the last build
    #[arg(long)]
    no_build: bool,
    /// More options for the host, such as `--variable name=value`
    #[arg(last = true)]
    host: Vec<String>,
}

impl Up {
    pub(crate) fn run(self) -> Result<()> {
        if self.no_build {
            machine::missing_target()?;
        } else {
            machine::wasm_target()?;
            build::page()?;
            let relay = self.relay;
            let wasm = || {
                build::components()?;
                if relay == Relay::Wasm {
                    build::wasm(&[build::RELAY])?;
                }
                Ok(())
            };
            build::at_once(wasm, || build::native(&["loro-host"]))?;
        }
        let host = root().join("target/release/loro-host");
        if !host.exists() {
            bail!("the host is not built: run `cargo xtask up` without --no-build");
        }
        let mut command = program(&host.to_string_lossy(), &["--manifest", "spin.toml"]);
        command
            .args(["--listen", &self.listen])
            .arg("--state-dir")
            .arg(&self.state_dir)
            .args([
                "--relay",
                if self.relay == Relay::Wasm {
                    "wasm"
                } else {
                    "native"
                },
            ]);
        if let Some(redis) = &self.redis {
            command.args(["--redis", redis]);
        }
        command.args(&self.host);
        // The host replaces this process, and so gets its signals.
        Err(command.exec()).context("the host could not be started")
    }
}
