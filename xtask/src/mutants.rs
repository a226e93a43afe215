//! `cargo xtask mutants`: changes the code in small ways, and reports the changes that no test notices.
//!
//! cargo-mutants runs each crate's own tests, in a profile that builds fast. A mutant that survives them is built into
//! the app and run against the end-to-end tests of the crate. Both work in place, so the work tree must be clean.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;
use toml::Table;

use crate::{
    build, machine,
    steps::{cargo, output, program, quietly, root, run},
};

const VERSION: &str = "27.1.0";

/// The crates, each with its end-to-end tests: a test binary of this repository, and a filter for its tests.
const CRATES: &[(&str, &[(&str, &str)])] = &[
    ("auth", &[("access", ""), ("host", "http::")]),
    (
        "door",
        &[
            ("host", "http::"),
            ("host", "triggers::"),
            ("rooms", "panics::"),
            ("tasks", "bucket::"),
            ("access", ""),
        ],
    ),
    ("projection", &[("tasks", "projecting::")]),
    ("rooms", &[("rooms", "")]),
    ("tasks", &[("tasks", "")]),
    (
        "wire",
        &[("rooms", "editing::"), ("relays", "two_relays::")],
    ),
];

/// The files whose mutants are not worth a run, because they are code of tests.
const OTHER_FILES: &[&str] = &["**/tests.rs", "**/world.rs"];

/// The mutants that show nothing: those of tests, of `Debug`, and of serde's "expected …".
const IDLE: &str = "(replace|in) tests::|Debug.*::fmt|::expecting";

/// The number of cases of each test that draws random cases, such as the models. It is small, because a crate's own
/// tests run thousands of times.
const CASES: &str = "8";

/// The tests that take half a minute each: the model of the projection, whose cases are fixed.
const SLOW: &[&str] = &["every_task_ends_well", "every_mistake_is_found"];

/// The options of `cargo xtask mutants`.
#[derive(Args)]
pub(crate) struct Mutants {
    /// Only this crate; may be repeated
    #[arg(long = "crate", value_name = "NAME")]
    crates: Vec<String>,
    /// Only files that match this pattern; may be repeated
    #[arg(long = "file", value_name = "GLOB")]
    files: Vec<String>,
    /// Run the crates' own tests alone
    #[arg(long)]
    no_end_to_end: bool,
    /// Only this part of each crate's mutants
    #[arg(long, value_name = "K/N")]
    shard: Option<String>,
}

/// The fate of the mutants of a crate.
#[derive(Default)]
struct Report {
    own: usize,
    end_to_end: usize,
    explained: usize,
    survived: Vec<String>,
}

/// The end of a mutant in the end-to-end tests.
enum End {
    Caught,
    Survived,
    /// The mutant does not compile for Wasm, and is not counted.
    NotBuilt,
}

/// A mutant that its crate's own tests did not catch.
struct Missed {
    name: String,
    file: String,
    diff: PathBuf,
}

impl Mutants {
    pub(crate) fn run(self) -> Result<()> {
        let changes = output(&mut program("git", &["status", "--porcelain"]));
        if changes.is_none_or(|changes| !changes.is_empty()) {
            bail!("the mutants are made in place: commit or stash your changes first");
        }
        for name in &self.crates {
            if !CRATES.iter().any(|(known, _)| known == name) {
                bail!("{name} is not in the table of xtask/src/mutants.rs");
            }
        }
        install()?;
        if !self.no_end_to_end {
            // This build has no mutant, so that a machine that cannot build the app is noticed.
            machine::wasm_target()?;
            build::page()?;
            build::components()?;
        }
        let explained = explained()?;
        let mut reports = BTreeMap::new();
        for (name, tests) in CRATES {
            let is_wanted = self.crates.is_empty() || self.crates.iter().any(|one| one == name);
            if is_wanted && root().join("crates").join(name).exists() {
                reports.insert(*name, self.examine(name, tests, &explained)?);
            }
        }
        print(&reports);
        Ok(())
    }

    /// Runs the mutants of a crate against its own tests, and the survivors against its end-to-end tests.
    fn examine(&self, name: &str, tests: &[(&str, &str)], explained: &Table) -> Result<Report> {
        let (own, missed) = self.own_tests(name)?;
        let mut report = Report {
            own,
            ..Report::default()
        };
        for mutant in missed {
            if explained.contains_key(&without_position(&mutant.name)) {
                report.explained += 1;
                continue;
            }
            let end = if self.no_end_to_end {
                End::Survived
            } else {
                end_to_end(&mutant, tests)?
            };
            match end {
                End::Caught => report.end_to_end += 1,
                End::Survived => report.survived.push(mutant.name),
                End::NotBuilt => {}
            }
        }
        Ok(report)
    }

    /// Returns the number of mutants that a crate's own tests caught, and the mutants that they missed.
    fn own_tests(&self, name: &str) -> Result<(usize, Vec<Missed>)> {
        let folder = root().join("target/mutants").join(name);
        fs::create_dir_all(&folder)?;
        let tool = root().join("target/mutants/tool/bin/cargo-mutants");
        let mut command = program(&tool.to_string_lossy(), &["mutants", "--in-place"]);
        command
            .args(["--package", name, "--profile=mutants", "--no-shuffle"])
            .args(["--exclude-re", IDLE, "--output"])
            .arg(&folder)
            .env("PROPTEST_CASES", CASES)
            .env("CARGO_TARGET_DIR", root().join("target/mutants/build"));
        for file in OTHER_FILES {
            command.args(["--exclude", file]);
        }
        for file in &self.files {
            command.args(["--file", file]);
        }
        if let Some(shard) = &self.shard {
            command.args(["--shard", shard]);
        }
        // Examples in the documentation are left out: they take most of the time, and test only what the tests do.
        command.args(["--", "--tests", "--"]);
        for test in SLOW {
            command.args(["--skip", test]);
        }
        eprintln!("==> mutants of {name}");
        let status = command.status().context("cargo-mutants")?;
        // 2: mutants were missed; 3: tests of a mutant took too long, which counts as caught.
        if !matches!(status.code(), Some(0 | 2 | 3)) {
            bail!("cargo-mutants failed ({status})");
        }
        let outcomes = fs::read(folder.join("mutants.out/outcomes.json"))?;
        read(
            &serde_json::from_slice(&outcomes)?,
            &folder.join("mutants.out"),
        )
    }
}

/// Reads the outcomes of cargo-mutants. Mutants that do not compile are not counted.
fn read(outcomes: &Value, folder: &Path) -> Result<(usize, Vec<Missed>)> {
    let (mut caught, mut missed) = (0, Vec::new());
    for outcome in outcomes["outcomes"].as_array().context("no outcomes")? {
        let mutant = &outcome["scenario"]["Mutant"];
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a mutant");
        match outcome["summary"].as_str() {
            Some("CaughtMutant" | "Timeout") => caught += 1,
            Some("MissedMutant") => missed.push(Missed {
                name: text(&mutant["name"])?,
                file: text(&mutant["file"])?,
                diff: folder.join(text(&outcome["diff_path"])?),
            }),
            _ => {}
        }
    }
    Ok((caught, missed))
}

/// Applies a mutant, builds the app, and runs end-to-end tests until one fails. Always reverts the mutant.
fn end_to_end(mutant: &Missed, tests: &[(&str, &str)]) -> Result<End> {
    eprintln!("==> end-to-end: {}", mutant.name);
    // The header of the diff names the mutant, and git needs the name of the file there.
    let diff = fs::read_to_string(&mutant.diff)?;
    let changes: Vec<&str> = diff.lines().skip(2).collect();
    let file = &mutant.file;
    let patch = format!("--- {file}\n+++ {file}\n{}\n", changes.join("\n"));
    let path = root().join("target/mutants/mutant.patch");
    fs::write(&path, patch)?;
    let apply = |options: &[&str]| {
        let mut apply = program("git", &["apply", "-p0"]);
        quietly(apply.args(options).arg(&path))
    };
    apply(&[])?;
    let result = end(tests);
    apply(&["--reverse"])?;
    result
}

/// Builds everything, and runs tests until one fails.
fn end(tests: &[(&str, &str)]) -> Result<End> {
    // Code that is for Wasm only is compiled here for the first time.
    if build::components().is_err() {
        return Ok(End::NotBuilt);
    }
    build::wasm(&[build::RELAY])?;
    build::everything()?;
    for (binary, filter) in tests {
        // The tests themselves are built first, so that a failure to build does not count as caught.
        let test = ["test", "--release", "--test", binary];
        run(
            "building the tests",
            cargo(&[&test[..], &["--no-run"]].concat()),
        )?;
        if run(binary, cargo(&[&test[..], &[filter]].concat())).is_err() {
            return Ok(End::Caught);
        }
    }
    Ok(End::Survived)
}

/// Installs the pinned cargo-mutants in target/mutants/tool, unless it is there.
fn install() -> Result<()> {
    let folder = root().join("target/mutants/tool");
    let tool = folder
        .join("bin/cargo-mutants")
        .to_string_lossy()
        .into_owned();
    let installed = output(&mut program(&tool, &["mutants", "--version"]));
    if installed.is_some_and(|version| version.contains(VERSION)) {
        return Ok(());
    }
    let mut install = cargo(&["install", "--quiet", "--locked", "cargo-mutants"]);
    install.args(["--version", VERSION, "--root"]).arg(&folder);
    run("installing cargo-mutants", install)
}

/// The explained survivors of xtask/mutants.toml.
fn explained() -> Result<Table> {
    let text = fs::read_to_string(root().join("xtask/mutants.toml"))?;
    let mut file: Table = text.parse().context("xtask/mutants.toml")?;
    match file.remove("explained") {
        Some(toml::Value::Table(explained)) => Ok(explained),
        _ => bail!("xtask/mutants.toml has no [explained]"),
    }
}

/// A mutant's name without its line and column, which other changes of the file move.
fn without_position(name: &str) -> String {
    let mut parts = name.splitn(4, ':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(file), Some(_), Some(_), Some(change)) => format!("{file}:{change}"),
        _ => name.to_owned(),
    }
}

fn print(reports: &BTreeMap<&str, Report>) {
    println!(
        "{:<12} {:>7} {:>9} {:>14} {:>11} {:>12}",
        "crate", "mutants", "own tests", "end-to-end", "explained", "survived"
    );
    for (name, report) in reports {
        let survived = report.survived.len();
        let all = report.own + report.end_to_end + report.explained + survived;
        let percent = |count: usize| format!("{:.1} %", 100.0 * count as f64 / all.max(1) as f64);
        println!(
            "{name:<12} {all:>7} {:>9} {:>14} {:>11} {:>12}",
            percent(report.own),
            percent(report.end_to_end),
            percent(report.explained),
            percent(survived)
        );
    }
    for mutant in reports.values().flat_map(|report| &report.survived) {
        println!("survived: {mutant}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_holds_wherever_its_mutant_moves() {
        let name = "crates/wire/src/lib.rs:12:5: replace is_full -> bool with true";
        let key = "crates/wire/src/lib.rs: replace is_full -> bool with true";
        assert_eq!(without_position(name), key);
    }

    #[test]
    fn every_end_to_end_test_of_the_table_exists() {
        let folder = root().join("e2e/tests");
        for (binary, filter) in CRATES.iter().flat_map(|(_, tests)| *tests) {
            let module = filter.trim_end_matches("::");
            let file = if module.is_empty() { "main" } else { module };
            let path = folder.join(binary).join(format!("{file}.rs"));
            assert!(path.exists(), "{} is missing", path.display());
        }
    }
}
