//! `cargo xtask bench`: measures this server and its peers in one run.

use anyhow::Result;
use clap::Args;

use crate::{
    build,
    steps::{program, root, run},
};

/// The options of `cargo xtask bench`.
#[derive(Args)]
pub(crate) struct Bench {
    /// The arguments of the load generator: `--only fanout-20,join`, `--quick`, `--help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

impl Bench {
    pub(crate) fn run(self) -> Result<()> {
        crate::machine::wasm_target()?;
        build::page()?;
        let wasm = || {
            build::components()?;
            build::wasm(&[build::RELAY])
        };
        build::at_once(wasm, build::everything)?;
        let mut bench = program(&root().join("target/release/bench").to_string_lossy(), &[]);
        bench.args(&self.arguments);
        run("measuring", bench)
    }
}
