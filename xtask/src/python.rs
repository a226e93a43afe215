//! The Python client's tests, in their own environment in target/python.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    machine,
    steps::{program, root, run},
};

/// Checks the client's types and style, and runs its tests against the server at this address.
pub(crate) fn test(url: &str) -> Result<()> {
    install()?;
    run("checking the Python client's types", tool("mypy", &[]))?;
    run(
        "checking the Python client's style",
        tool("ruff", &["check", "--quiet"]),
    )?;
    run(
        "checking the Python client's format",
        tool("ruff", &["format", "--check", "--quiet"]),
    )?;
    let mut tests = tool("pytest", &["--quiet"]);
    tests.env("LORO_URL", url);
    run("testing the Python client", tests)
}

/// The Python of the environment, in which the client is installed.
pub(crate) fn installed() -> Result<PathBuf> {
    install()?;
    Ok(environment().join("bin/python"))
}

/// Makes the environment, and installs the client and its tests' packages, if the pyproject.toml has changed since the
/// last installation.
fn install() -> Result<()> {
    let wanted = fs::read(client().join("pyproject.toml"))?;
    let stamp = environment().join("installed-pyproject.toml");
    let python = environment().join("bin/python");
    if python.exists() && fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    machine::python()?;
    let mut venv = program("python3", &["-m", "venv", "--clear"]);
    venv.arg(environment());
    run("making a Python environment", venv).context(
        "the Python client's tests need Python 3.9 or newer with venv; on Debian, as root: \
         apt-get install python3-venv",
    )?;
    let mut pip = in_client(&python);
    pip.args(["-m", "pip", "install", "--quiet"])
        .arg("--disable-pip-version-check")
        .args(["--editable", ".[test]"]);
    run("installing the Python client", pip)?;
    fs::write(&stamp, wanted)?;
    Ok(())
}

/// A program of the environment, which runs in the client's folder.
fn tool(name: &str, arguments: &[&str]) -> Command {
    let mut command = in_client(&environment().join("bin").join(name));
    command.args(arguments);
    command
}

fn in_client(path: &Path) -> Command {
    let mut command = program(&path.to_string_lossy(), &[]);
    command.current_dir(client());
    command
}

fn client() -> PathBuf {
    root().join("clients/python")
}

fn environment() -> PathBuf {
    root().join("target/python")
}
