//! Builds the components, the page and the programs.

use std::{fs, path::Path, process::Command, time::SystemTime};

use anyhow::{Context, Result, anyhow};
use clap::Args;

use crate::{
    machine,
    steps::{cargo, npm, root, run},
};

/// The components of the app.
pub(crate) const COMPONENTS: &[&str] = &[
    "sync",
    "projects",
    "tasks-api",
    "webhooks",
    "poller",
    "events",
    "cron-tick",
    "cron-tick-v3",
    "console",
];

/// The components that a host without SQLite runs. Such a host has HTTP triggers only.
const ON_LIBSQL: &[&str] = &[
    "sync",
    "projects",
    "tasks-api",
    "webhooks",
    "poller",
    "console",
];

/// The target folder of the components that keep their tables on libSQL. They have a folder of their own, because the
/// files of both builds have the same names, and because neither build should make the other compile anything again.
pub(crate) const LIBSQL_TARGET: &str = "target/hrana";

/// The relay as a WASI command.
pub(crate) const RELAY: &str = "relay-command";

/// The Wasm guests that only tests load.
pub(crate) const GUESTS: &[&str] = &["host-guests"];

/// The options of `cargo xtask build`.
#[derive(Args)]
pub(crate) struct Build {
    /// Build the components that keep their tables on a libSQL server, for a host without SQLite
    #[arg(long)]
    hrana: bool,
}

impl Build {
    pub(crate) fn run(self) -> Result<()> {
        if self.hrana { on_libsql() } else { all() }
    }
}

/// Builds everything that `spin up` and `cargo xtask up` run.
pub(crate) fn all() -> Result<()> {
    machine::wasm_target()?;
    page()?;
    let wasm = || {
        components()?;
        wasm(&[RELAY])
    };
    at_once(wasm, || native(&["loro-host", "relay"]))
}

/// Builds for Wasm and for this machine at once, because neither build keeps all cores busy: the largest packages and the
/// link-time optimization of each component take one core each. Cargo locks the folder of a profile, so the two do not wait
/// for each other.
///
/// # Errors
/// If one of them fails. The other is built to its end.
pub(crate) fn at_once(
    wasm: impl FnOnce() -> Result<()> + Send,
    native: impl FnOnce() -> Result<()>,
) -> Result<()> {
    std::thread::scope(|scope| {
        let wasm = scope.spawn(wasm);
        let native = native();
        let wasm = wasm
            .join()
            .map_err(|_| anyhow!("the build for Wasm panicked"))?;
        wasm.and(native)
    })
}

/// Builds the app's components. They have a build of their own, because a package in the same build may add features
/// to their dependencies, and then `up` and `test` would each compile Loro.
pub(crate) fn components() -> Result<()> {
    wasm(COMPONENTS)
}

/// Builds the page, and the components that keep their tables on a libSQL server, for a host without SQLite.
pub(crate) fn on_libsql() -> Result<()> {
    machine::wasm_target()?;
    page()?;
    let mut build = for_wasm(ON_LIBSQL);
    build.args(["--target-dir", LIBSQL_TARGET, "--features", "door/hrana"]);
    run("building for Wasm, on libSQL", build)
}

/// Builds Wasm packages.
pub(crate) fn wasm(packages: &[&str]) -> Result<()> {
    run("building for Wasm", for_wasm(packages))
}

fn for_wasm(packages: &[&str]) -> Command {
    let mut build = cargo(&["build", "--target", "wasm32-wasip2", "--profile", "wasm"]);
    for package in packages {
        build.args(["--package", package]);
    }
    build
}

/// Builds programs for this machine, and only what they need. `--bin` without `--package` resolves the features of the
/// whole workspace, as [`everything`] does, so that neither build compiles again what the other has compiled.
pub(crate) fn native(programs: &[&str]) -> Result<()> {
    let mut build = cargo(&["build", "--release"]);
    for program in programs {
        build.args(["--bin", program]);
    }
    run(&format!("building {}", programs.join(" and ")), build)
}

/// Builds the whole workspace for this machine, with the tests' programs and the bench.
pub(crate) fn everything() -> Result<()> {
    run("building the workspace", cargo(&["build", "--release"]))
}

/// Builds the page: installs its npm packages if they are missing, and bundles it if a source is newer.
pub(crate) fn page() -> Result<()> {
    install("clients/web")?;
    install("components/console/web")?;
    let sources = [
        "clients/web/src",
        "clients/web/package-lock.json",
        "components/console/web/src",
        "components/console/web/build.js",
        "components/console/web/package-lock.json",
        "components/console/web/tsconfig.json",
    ];
    let built = newest(&root().join("components/console/dist"));
    let changed = sources
        .iter()
        .map(|source| newest(&root().join(source)))
        .max();
    if built > SystemTime::UNIX_EPOCH && Some(built) > changed {
        return Ok(());
    }
    run(
        "building the page",
        npm("components/console/web", &["run", "--silent", "build"]),
    )
}

/// Installs the npm packages of a folder if its lock file is newer than the installation.
pub(crate) fn install(folder: &str) -> Result<()> {
    let folder_path = root().join(folder);
    let installed = modified(&folder_path.join("node_modules/.package-lock.json"));
    if installed > modified(&folder_path.join("package-lock.json")) {
        return Ok(());
    }
    let install = npm(
        folder,
        &["ci", "--no-audit", "--no-fund", "--loglevel=error"],
    );
    run(&format!("installing the npm packages of {folder}"), install)
        .context("npm is needed for the page; it comes with Node.js 20 or newer")
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The time of the last write to any file below a path.
fn newest(path: &Path) -> SystemTime {
    let Ok(entries) = fs::read_dir(path) else {
        return modified(path);
    };
    entries
        .flatten()
        .map(|entry| newest(&entry.path()))
        .max()
        .unwrap_or(SystemTime::UNIX_EPOCH)
}
