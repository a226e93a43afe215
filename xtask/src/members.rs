//! The members of the workspace.

use std::path::PathBuf;

use anyhow::{Context, Result};
use toml::Table;

use crate::steps::root;

/// The members whose package has another name than their folder: the host is named after its program, and its guests
/// are test data inside its folder.
const OTHERWISE_NAMED: &[&str] = &["loro-host", "host-guests"];

/// The members that log but are programs of their own, so that no component contains them.
const PROGRAMS: &[&str] = &["loro-host", "relay"];

/// Reads the folder of each workspace member and the name of its package.
fn members() -> Result<Vec<(PathBuf, String)>> {
    let workspace: Table = std::fs::read_to_string(root().join("Cargo.toml"))?.parse()?;
    let patterns = workspace["workspace"]["members"].as_array();
    let mut folders = Vec::new();
    for pattern in patterns.context("no members")? {
        let pattern = pattern.as_str().context("a member is not a string")?;
        if let Some(folder) = pattern.strip_suffix("/*") {
            for entry in std::fs::read_dir(root().join(folder))? {
                folders.push(entry?.path());
            }
        } else {
            folders.push(root().join(pattern));
        }
    }
    let mut members = Vec::new();
    for folder in folders {
        let manifest: Table = std::fs::read_to_string(folder.join("Cargo.toml"))
            .with_context(|| folder.display().to_string())?
            .parse()?;
        let name = manifest["package"]["name"].as_str().context("no name")?;
        members.push((folder, name.to_owned()));
    }
    Ok(members)
}

#[test]
fn the_folder_of_every_member_has_the_name_of_its_package() {
    for (folder, package) in members().unwrap() {
        if !OTHERWISE_NAMED.contains(&package.as_str()) {
            assert_eq!(folder.file_name().unwrap(), package.as_str());
        }
    }
}

/// The list in `log.rs` names the only crates whose lines a component logs, so each crate that logs must be in it.
#[test]
fn the_log_of_a_component_has_the_lines_of_every_crate_that_logs() {
    let log = std::fs::read_to_string(root().join("crates/door/src/spin/log.rs")).unwrap();
    for (folder, package) in members().unwrap() {
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        if manifest.contains("\ntracing") && !PROGRAMS.contains(&package.as_str()) {
            let target = format!("\"{}\"", package.replace('-', "_"));
            assert!(log.contains(&target), "{target}");
        }
    }
}
