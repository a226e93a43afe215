//! Building the components, the page and the host.

use std::{fs, path::Path, time::SystemTime};

use anyhow::{Context, Result};

use crate::{
    machine,
    steps::{cargo, npm, root, run},
};

/// The Wasm parts of the app.
pub(crate) const COMPONENTS: &[&str] = &[
    "sync",
    "projects",
    "tasks-api",
    "webhooks",
    "poller",
    "events",
    "cron-tick",
    "console",
];

/// Everything that `spin up` and `cargo xtask up` need.
pub(crate) fn all() -> Result<()> {
    machine::wasm_target()?;
    page()?;
    wasm(&[COMPONENTS, &["relay-command"]].concat())?;
    host()
}

/// The app's components, and whatever else is named.
pub(crate) fn components(more: &[&str]) -> Result<()> {
    wasm(&[COMPONENTS, more].concat())
}

fn wasm(packages: &[&str]) -> Result<()> {
    let mut build = cargo(&["build", "--target", "wasm32-wasip2", "--profile", "wasm"]);
    for package in packages {
        build.args(["--package", package]);
    }
    run("building the Wasm components", build)
}

/// The local host and the relay beside it, together with the tests' libraries and the bench: in
/// one build the dependencies are compiled once, and with the same features for all.
pub(crate) fn host() -> Result<()> {
    run("building the host", cargo(&["build", "--release"]))
}

/// The page: npm packages where they are missing, then the bundle where its sources are newer.
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

/// Installs the npm packages of a folder where its lock file is newer than what is installed.
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

/// When the newest file below a path was written.
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
