//! `cargo xtask test`: installs what the tests need, and runs every test.

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    blocks, build, generate, machine,
    parts::Parts,
    python,
    steps::{cargo, npm, program, quietly, root, run},
};

/// The programs that the tests start, and their Debian packages.
const PROGRAMS: &[(&str, &str)] = &[
    ("/usr/bin/redis-server", "redis-server"),
    ("/usr/bin/chromium", "chromium"),
    ("/usr/bin/sqlite3", "sqlite3"),
];

/// The tests that run at once for each core. Most wait for servers and time limits, and compute little.
const TESTS_PER_CORE: usize = 2;

/// The folder of compiled components, which all hosts of the tests share (`compiled` in `e2e/src/built.rs`).
const COMPILED: &str = "target/tmp/e2e/cache";

/// The options of `cargo xtask test`.
#[derive(Args)]
pub(crate) struct Test {
    /// Run only the Rust tests whose name contains this, without the checks of style, the browser and Python
    filter: Option<String>,
    /// Run only the tests that take minutes; each prints what it measured
    #[arg(long)]
    long: bool,
    /// Run the tests of editing, of access and of tasks on other hosts, as far as this machine can imitate them:
    /// `http-only` within the limits of Fermyon Cloud, `akamai` within its own limits and with a libSQL server in place
    /// of SQLite, and `spinkube` with a libSQL server in its runtime config
    #[arg(long, conflicts_with = "long")]
    hosts: bool,
}

/// The hosts on which `--hosts` runs the tests.
const HOSTS: &[&str] = &["http-only", "akamai", "spinkube"];

/// The binaries with the tests that run on other hosts.
const ON_HOSTS: &[&str] = &["access", "rooms", "tasks"];

/// The beginnings of the names of those tests, which check what clients see, including after a kill -9. The others look
/// into the local host, or need the cron trigger.
const TESTS_ON_HOSTS: &[&str] = &[
    "durability::",
    "editing::",
    "joining::",
    "projects::",
    "quotas::",
    "saved::",
    "assets::",
    "cancelling::",
    "posting::",
    "reading::",
    "webhooks::",
];

impl Test {
    pub(crate) fn run(self) -> Result<()> {
        let mut parts = Parts::new();
        let result = if self.hosts {
            self.on_hosts(&mut parts)
        } else if self.filter.is_none() && !self.long {
            whole(&mut parts)
        } else {
            self.some(&mut parts)
        };
        parts.print();
        result
    }

    /// Runs the same tests on each of the other hosts.
    fn on_hosts(self, parts: &mut Parts) -> Result<()> {
        build(parts)?;
        parts.time("build, libSQL", build::on_libsql)?;
        for host in HOSTS {
            let mut tests = tests(&["--no-fail-fast"]);
            for binary in ON_HOSTS {
                tests.args(["--test", binary]);
            }
            tests.arg("--");
            match &self.filter {
                Some(filter) => tests.arg(filter),
                None => tests.args(TESTS_ON_HOSTS),
            };
            tests.env("TEST_HOST", host);
            parts.time(host, || run(&format!("running the tests on {host}"), tests))?;
        }
        Ok(())
    }

    /// Runs a part of the Rust tests.
    fn some(self, parts: &mut Parts) -> Result<()> {
        build(parts)?;
        let mut tests = tests(&[]);
        tests.args(&self.filter);
        if self.long {
            tests.args(["--", "--ignored", "--nocapture", "--test-threads", "1"]);
        }
        let is_all_long = self.long && self.filter.is_none();
        parts.time("tests", || run("running the tests", tests))?;
        if is_all_long {
            parts.time("browser", browser_long)?;
        }
        Ok(())
    }
}

/// Runs every check and every test.
fn whole(parts: &mut Parts) -> Result<()> {
    parts.time("format", || {
        run("checking the format", cargo(&["fmt", "--all", "--check"]))
    })?;
    set_up(parts)?;
    let mut wasm = Parts::new();
    let built = build::at_once(
        || {
            build_wasm(&mut wasm)?;
            wasm.time("clippy, Wasm", clippy_wasm)
        },
        || {
            parts.time("build, native", build::everything)?;
            parts.time("clippy", clippy)?;
            parts.time("build, tests", || {
                run("building the tests", tests(&["--no-run"]))
            })
        },
    );
    parts.append(wasm);
    built?;
    compile(parts)?;
    parts.time("generated", generate::check)?;
    parts.time("tests", || {
        run("running the tests", tests(&["--no-fail-fast"]))
    })?;
    parts.time("models, libSQL", models_on_libsql)?;
    parts.time("npm tests", || {
        for folder in ["clients/web", "components/console/web"] {
            let tests = npm(folder, &["test", "--silent"]);
            run(&format!("testing {folder}"), tests)?;
        }
        Ok(())
    })?;
    parts.time("browser", browser)?;
    parts.time("Python", || {
        with_server("target/python-state", "native", python::test)
    })?;
    eprintln!("==> all tests pass");
    Ok(())
}

/// Installs and builds everything that the tests start.
fn build(parts: &mut Parts) -> Result<()> {
    set_up(parts)?;
    let mut wasm = Parts::new();
    let built = build::at_once(
        || build_wasm(&mut wasm),
        || parts.time("build, native", build::everything),
    );
    parts.append(wasm);
    built?;
    compile(parts)
}

/// Installs what the builds and the tests need.
fn set_up(parts: &mut Parts) -> Result<()> {
    parts.time("set-up", || {
        machine::wasm_target()?;
        machine::debian_packages(PROGRAMS)?;
        build::install("e2e/better-auth")?;
        build::page()
    })
}

/// Builds the components, the relay and the tests' guests.
fn build_wasm(parts: &mut Parts) -> Result<()> {
    parts.time("build, Wasm", || {
        build::components()?;
        build::wasm(&[&[build::RELAY], build::GUESTS].concat())
    })
}

/// Starts a host once by itself, because several that start at once would each compile all components.
fn compile(parts: &mut Parts) -> Result<()> {
    parts.time("compile, Wasm", || {
        with_server("target/first-state", "wasm", |_| Ok(()))
    })
}

/// The command that runs the Rust tests.
fn tests(arguments: &[&str]) -> Command {
    let mut tests = cargo(&["test", "--release"]);
    tests.args(arguments);
    // If the number of cores is not known, one is assumed.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    tests.env("RUST_TEST_THREADS", (cores * TESTS_PER_CORE).to_string());
    tests
}

/// Runs the tests of the models, and those of `auth`, on a libSQL server that fails. The tests are already built.
fn models_on_libsql() -> Result<()> {
    let mut tests = tests(&["--no-fail-fast"]);
    tests.args([
        "--lib", "--test", "model", "--test", "engine", "--", "--skip",
    ]);
    // This test shows that the model notices mistakes, which does not depend on the database, and takes longest.
    tests.arg("every_mistake_is_found");
    tests
        .env("TEST_DATABASE", "hrana")
        .env("PROPTEST_CASES", "10");
    run("running the models on libSQL", tests)
}

fn clippy() -> Result<()> {
    let native = [
        "clippy",
        "--release",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    run("clippy", cargo(&native))
}

fn clippy_wasm() -> Result<()> {
    let mut wasm = cargo(&["clippy", "--target", "wasm32-wasip2", "--profile", "wasm"]);
    for package in build::COMPONENTS
        .iter()
        .chain(&[build::RELAY])
        .chain(build::GUESTS)
    {
        wasm.args(["--package", package]);
    }
    wasm.args(["--", "-D", "warnings"]);
    run("clippy, for Wasm", wasm)
}

/// Runs the pages' blocks, and tests the page in Chromium, against its own server.
fn browser() -> Result<()> {
    build::install("e2e/browser")?;
    with_server("target/browser-state", "native", |url| {
        blocks::run(url)?;
        in_browser("test", url)
    })
}

/// Runs the tests in Chromium that take minutes, against their own server.
fn browser_long() -> Result<()> {
    build::install("e2e/browser")?;
    with_server("target/browser-state", "native", |url| {
        in_browser("long", url)
    })
}

fn in_browser(script: &str, url: &str) -> Result<()> {
    let mut tests = npm("e2e/browser", &["run", "--silent", script]);
    tests.env("LORO_URL", url);
    run("testing in the browser", tests)
}

/// Starts a host with this relay on an empty state folder, and runs tests with its address. The compiled components are
/// those of the end-to-end tests.
fn with_server(state: &str, relay: &str, tests: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    let state = root().join(state);
    let _ = std::fs::remove_dir_all(&state);
    let compiled = root().join(COMPILED);
    for folder in [&state, &compiled] {
        std::fs::create_dir_all(folder)?;
    }
    std::os::unix::fs::symlink(compiled, state.join("cache"))?;
    let mut server = Server::start(
        program(
            "target/release/loro-host",
            &["--listen", "127.0.0.1:0", "--relay", relay, "--state-dir"],
        )
        .arg(&state),
    )?;
    let result = tests(&server.url);
    server.stop()?;
    result
}

/// A host that runs during the tests.
struct Server {
    process: Child,
    url: String,
    /// The output of the host, held open because the host prints more than the line that is read.
    stdout: BufReader<ChildStdout>,
}

impl Server {
    fn start(command: &mut Command) -> Result<Self> {
        let mut process = command
            .stdout(Stdio::piped())
            .spawn()
            .context("the host could not be started")?;
        let stdout = process.stdout.take().context("no output")?;
        // From here on, the host is ended if this returns early.
        let mut server = Self {
            process,
            url: String::new(),
            stdout: BufReader::new(stdout),
        };
        let mut line = String::new();
        server.stdout.read_line(&mut line)?;
        match line.trim().strip_prefix("ready ") {
            Some(url) => server.url = url.to_owned(),
            None => bail!("the host did not come up: {line}"),
        }
        Ok(server)
    }

    fn stop(&mut self) -> Result<()> {
        let id = self.process.id().to_string();
        quietly(&mut program("kill", &["-TERM", &id]))?;
        let status = self.process.wait()?;
        if !status.success() {
            bail!("the host did not end with code 0 ({status})");
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error means that the host has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
