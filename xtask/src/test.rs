//! `cargo xtask test`: every test there is, and what they need.

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    build, machine, python,
    steps::{cargo, npm, program, quietly, root, run},
};

/// Wasm guests that only tests load.
const GUESTS: &[&str] = &["host-guests"];

/// What the tests start, and the Debian package that it comes in.
const PROGRAMS: &[(&str, &str)] = &[
    ("/usr/bin/redis-server", "redis-server"),
    ("/usr/bin/chromium", "chromium"),
];

/// The options of `cargo xtask test`.
#[derive(Args)]
pub(crate) struct Test {
    /// Only tests whose name contains this; leaves out the style checks, the browser and Python
    filter: Option<String>,
    /// The tests that take minutes, alone: each prints what it saw
    #[arg(long)]
    long: bool,
}

impl Test {
    pub(crate) fn run(self) -> Result<()> {
        machine::wasm_target()?;
        let whole = self.filter.is_none() && !self.long;
        if whole {
            run("checking the format", cargo(&["fmt", "--all", "--check"]))?;
        }
        machine::debian_packages(PROGRAMS)?;
        build::install("tests/better-auth")?;
        build::page()?;
        build::components(&[&["relay-command"], GUESTS].concat())?;
        build::host()?;
        if !whole {
            let mut tests = cargo(&["test", "--release"]);
            tests.args(self.filter);
            if self.long {
                tests.args(["--", "--ignored", "--nocapture", "--test-threads", "1"]);
            }
            return run("running the tests", tests);
        }
        lint()?;
        run(
            "running the tests",
            cargo(&["test", "--release", "--no-fail-fast"]),
        )?;
        for folder in ["clients/web", "components/console/web"] {
            run(
                &format!("testing {folder}"),
                npm(folder, &["test", "--silent"]),
            )?;
        }
        browser()?;
        with_server("target/python-state", python::test)?;
        eprintln!("==> all tests pass");
        Ok(())
    }
}

fn lint() -> Result<()> {
    let native = [
        "clippy",
        "--release",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    run("clippy", cargo(&native))?;
    let mut wasm = cargo(&["clippy", "--target", "wasm32-wasip2", "--profile", "wasm"]);
    for package in build::COMPONENTS
        .iter()
        .chain(&["relay-command"])
        .chain(GUESTS)
    {
        wasm.args(["--package", package]);
    }
    wasm.args(["--", "-D", "warnings"]);
    run("clippy, for Wasm", wasm)
}

/// The page in Chromium, against a server of its own.
fn browser() -> Result<()> {
    build::install("tests/browser")?;
    with_server("target/browser-state", |url| {
        let mut tests = npm("tests/browser", &["test", "--silent"]);
        tests.env("LORO_URL", url);
        run("testing in the browser", tests)
    })
}

/// Runs tests with the address of a host that is started for them, on an empty state folder.
fn with_server(state: &str, tests: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    let state = root().join(state);
    let _ = std::fs::remove_dir_all(&state);
    let mut server = Server::start(
        program(
            "target/release/loro-host",
            &["--listen", "127.0.0.1:0", "--state-dir"],
        )
        .arg(&state),
    )?;
    let result = tests(&server.url);
    server.stop()?;
    result
}

/// A host that runs while the tests do.
struct Server {
    process: Child,
    url: String,
    /// Held open, for the host prints more than the line that is read.
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    fn start(command: &mut Command) -> Result<Self> {
        let mut process = command
            .stdout(Stdio::piped())
            .spawn()
            .context("the host could not be started")?;
        let stdout = process.stdout.take().context("no output")?;
        let mut line = String::new();
        let mut stdout = BufReader::new(stdout);
        stdout.read_line(&mut line)?;
        match line.trim().strip_prefix("ready ") {
            Some(url) => Ok(Self {
                process,
                url: url.to_owned(),
                _stdout: stdout,
            }),
            None => bail!("the host did not come up: {line}"),
        }
    }

    fn stop(&mut self) -> Result<()> {
        let id = self.process.id().to_string();
        quietly(&mut program("kill", &["-TERM", &id]))?;
        let status = self.process.wait()?;
        if !status.success() {
            bail!("the host did not stop in good order ({status})");
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing to do where it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
