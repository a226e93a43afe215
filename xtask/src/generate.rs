//! `cargo xtask generate`: writes what is derived from the code.

use anyhow::Result;

use crate::{
    build, machine,
    steps::{program, run},
};

/// The program that knows the declarations. It is part of the end-to-end tests, so that `xtask` links no component.
const PROGRAM: &str = "generate";

/// Writes the files.
pub(crate) fn write() -> Result<()> {
    machine::wasm_target()?;
    build::page()?;
    build::components()?;
    build::native(&[PROGRAM])?;
    run("writing what is derived from the code", generate(&[]))
}

/// Compares the files with what [`write`] would write. Everything is built already.
pub(crate) fn check() -> Result<()> {
    run(
        "checking what is derived from the code",
        generate(&["--check"]),
    )
}

fn generate(arguments: &[&str]) -> std::process::Command {
    program(&format!("target/release/{PROGRAM}"), arguments)
}
