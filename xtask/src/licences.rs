//! The licences of all packages that are used to build or to test: each must be known to suit this repository.

use serde_json::Value;

use crate::steps::{cargo, output, root};

/// The licences that require only that their text goes with every copy.
const PERMISSIVE: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "BlueOak-1.0.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// The packages under MPL-2.0, which requires that changes to their own files are published. This repository changes
/// none of them.
const UNDER_MPL: &[&str] = &["bitmaps", "im", "sized-chunks", "smartstring"];

/// The platforms of the native programs and of the components.
const PLATFORMS: &[&str] = &["x86_64-unknown-linux-gnu", "wasm32-wasip2"];

/// The lock files of npm.
const NPM: &[&str] = &[
    "clients/web/package-lock.json",
    "components/console/web/package-lock.json",
    "deploy/compose/better-auth/package-lock.json",
    "e2e/better-auth/package-lock.json",
    "e2e/browser/package-lock.json",
];

/// Returns whether a package may be used under its licence, an expression of SPDX. One of several alternatives must be
/// known, and each of several licences that hold together. An old form writes alternatives with a slash.
fn is_allowed(licence: &str) -> bool {
    let licence = licence.trim();
    // An AND binds more tightly, so the alternatives are taken apart first.
    if let Some((left, right)) = split(licence, " OR ").or_else(|| split(licence, "/")) {
        return is_allowed(left) || is_allowed(right);
    }
    if let Some((left, right)) = split(licence, " AND ") {
        return is_allowed(left) && is_allowed(right);
    }
    match licence.strip_prefix('(').and_then(|l| l.strip_suffix(')')) {
        Some(inner) => is_allowed(inner),
        None => PERMISSIVE.contains(&licence),
    }
}

/// The two sides of the first `word` outside of parentheses.
fn split<'a>(licence: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    licence.match_indices(word).find_map(|(at, _)| {
        let (left, right) = (&licence[..at], &licence[at + word.len()..]);
        (left.matches('(').count() == left.matches(')').count()).then_some((left, right))
    })
}

/// The packages of Rust for a platform: the name and the licence of each.
fn of_cargo(platform: &str) -> Vec<(String, String)> {
    let mut command = cargo(&["metadata", "--format-version", "1", "--locked"]);
    command.args(["--filter-platform", platform]);
    let metadata: Value = serde_json::from_str(&output(&mut command).unwrap()).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| (text(&package["name"]), text(&package["license"])))
        .collect()
}

/// The packages in a lock file of npm: the folder and the licence of each. A link is left out, because it leads to
/// another package of the file.
fn of_npm(file: &str) -> Vec<(String, String)> {
    let list = std::fs::read_to_string(root().join(file)).unwrap();
    let list: Value = serde_json::from_str(&list).unwrap();
    let packages = list["packages"].as_object().unwrap();
    packages
        .iter()
        .filter(|(_, package)| package["link"].is_null())
        .map(|(folder, package)| (folder.clone(), text(&package["license"])))
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("none").to_owned()
}

#[test]
fn every_package_has_a_licence_that_is_known() {
    let rust = PLATFORMS.iter().map(|platform| of_cargo(platform));
    let npm = NPM.iter().map(|file| of_npm(file));
    let packages: Vec<_> = rust.chain(npm).flatten().collect();
    assert!(packages.len() > 800, "{}", packages.len());
    for (package, licence) in packages {
        let is_known =
            is_allowed(&licence) || licence == "MPL-2.0+" && UNDER_MPL.contains(&package.as_str());
        assert!(is_known, "{package}: {licence}");
    }
}

#[test]
fn expressions_are_read_as_spdx_means_them() {
    for (licence, is_known) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("Apache-2.0 / MIT", true),
        ("MIT AND GPL-3.0", false),
        ("MIT OR ISC AND GPL-3.0", true),
        ("GPL-3.0 OR ISC AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND ISC", true),
        ("(MIT AND GPL-3.0) OR ISC", true),
        ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", true),
        ("MPL-2.0+", false),
        ("none", false),
    ] {
        assert_eq!(is_allowed(licence), is_known, "{licence}");
    }
}
