//! The files in `deploy/`, compared with the fields that their kinds have, and with what this repository's programs know:
//! options, variables, metrics, components.

mod compose;
mod containers;
mod docs;
mod shape;
mod spinkube;
mod systemd;

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Deserialize;
use serde_norway::{Deserializer, Value};
use toml::Table;

use crate::steps::root;

fn folder() -> PathBuf {
    root().join("deploy")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The documents of a YAML file.
fn yaml(text: &str) -> Vec<Value> {
    Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).unwrap())
        .collect()
}

/// The value at a path of keys and indices, such as `spec.ports.0.name`; null if there is none.
fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, key| {
        let child = match key.parse::<usize>() {
            Ok(index) => value.get(index),
            Err(_) => value.get(key),
        };
        child.unwrap_or(&Value::Null)
    })
}

fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("no text: {value:?}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_sequence().map_or(&[], Vec::as_slice)
}

/// The strings of a list.
fn texts(value: &Value) -> BTreeSet<String> {
    list(value).iter().map(|one| text(one).to_owned()).collect()
}

/// The keys and values of a map of strings.
fn pairs(value: &Value) -> Vec<(String, String)> {
    let map = value.as_mapping().into_iter().flatten();
    map.map(|(key, value)| (text(key).to_owned(), text(value).to_owned()))
        .collect()
}

/// The variables of the app.
fn variables() -> BTreeSet<String> {
    let manifest: Table = read("spin.toml").parse().unwrap();
    let variables = manifest["variables"].as_table().unwrap();
    variables.keys().cloned().collect()
}

/// The options of a program, in a table that is written from its code: `relay` or `host`.
fn options(program: &str) -> BTreeSet<String> {
    let settings = read("docs/settings.md");
    let start = format!("<!-- `cargo xtask generate` writes: {program} -->");
    let (_, table) = settings.split_once(&start).unwrap();
    let (table, _) = table.split_once("<!-- end").unwrap();
    let rows = table
        .lines()
        .filter_map(|row| row.strip_prefix("| `--")?.split_once('`'));
    rows.map(|(option, _)| option.to_owned()).collect()
}

/// Returns whether a variable of the environment sets something: `SPIN_VARIABLE_` a variable of the app, `RELAY_` an
/// option of the relay.
fn is_known(name: &str) -> bool {
    if let Some(variable) = name.strip_prefix("SPIN_VARIABLE_") {
        return variables().contains(&variable.to_lowercase());
    }
    let option = name.strip_prefix("RELAY_");
    option.is_some_and(|option| options("relay").contains(&option.to_lowercase().replace('_', "-")))
}

/// The metrics of the relay. A histogram has three more names besides its own.
fn metrics() -> BTreeSet<String> {
    let code = read("crates/relay/src/metrics.rs") + &read("crates/relay/src/histograms.rs");
    let mut names = BTreeSet::new();
    for line in code.lines() {
        let mut words = line.trim().trim_end_matches(',').split(' ');
        let (Some(kind), Some(name)) = (words.next(), words.next()) else {
            continue;
        };
        let ends: &[&str] = match kind {
            "gauge" | "counter" => &[""],
            "histogram" => &["", "_bucket", "_sum", "_count"],
            _ => continue,
        };
        names.extend(ends.iter().map(|end| format!("relay_{name}{end}")));
    }
    names
}

/// Returns whether an image is named with a version, so that it does not change by itself.
fn has_version(image: &str) -> bool {
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split_once(':')
        .is_some_and(|(_, tag)| tag.starts_with(|first: char| first.is_ascii_digit()))
}
