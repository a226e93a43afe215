//! The programs that this machine must have.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::steps::{output, program, quietly, run};

const TARGET: &str = "wasm32-wasip2";

/// Installs the Wasm target of the pinned toolchain if it is missing.
pub(crate) fn wasm_target() -> Result<()> {
    if has_wasm_target() {
        return Ok(());
    }
    // The first installation may take a minute and fail half-way.
    for _ in 0..2 {
        let add = program("rustup", &["target", "add", TARGET]);
        if run("installing the Rust target wasm32-wasip2", add).is_ok() && has_wasm_target() {
            return Ok(());
        }
    }
    missing_target()
}

/// Fails if the Wasm target is missing.
pub(crate) fn missing_target() -> Result<()> {
    if has_wasm_target() {
        return Ok(());
    }
    bail!("the Rust target {TARGET} is missing: run `rustup target add {TARGET}`")
}

fn has_wasm_target() -> bool {
    let libraries = output(&mut program(
        "rustc",
        &["--print", "target-libdir", "--target", TARGET],
    ));
    libraries.is_some_and(|folder| Path::new(folder.trim()).is_dir())
}

/// Installs the Debian packages of the programs that are missing. Only tests need them.
pub(crate) fn debian_packages(programs: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> = programs
        .iter()
        .filter(|(path, _)| !Path::new(path).exists())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing)
}

/// Installs Python's venv if it is missing.
pub(crate) fn python() -> Result<()> {
    let can_make = output(&mut program("python3", &["-c", "import ensurepip, venv"]));
    if can_make.is_some() {
        return Ok(());
    }
    install(&["python3-venv"])
}

fn install(missing: &[&str]) -> Result<()> {
    let names = missing.join(" ");
    let install = || -> Result<()> {
        quietly(program("apt-get", &["update", "-qq"]).env("DEBIAN_FRONTEND", "noninteractive"))?;
        let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
        arguments.extend(missing);
        quietly(program("apt-get", &arguments).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    eprintln!("==> installing {names}");
    install().with_context(|| format!("the tests need {names}; as root: apt-get install {names}"))
}
