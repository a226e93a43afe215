//! `spin.toml`, and what the compiled components read of its variables.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use platform::Setting;
use toml::{Table, Value};

use crate::built::root;

/// Reads `spin.toml`.
///
/// # Errors
/// If it is missing or no TOML.
pub fn manifest() -> Result<Table> {
    let text = std::fs::read_to_string(root().join("spin.toml"))?;
    text.parse().context("spin.toml")
}

/// Finds the settings that each compiled component reads, by the component's id: the marks that [`Setting`] leaves in the
/// code.
///
/// # Errors
/// If a component is not built.
pub fn settings_read(manifest: &Table) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let components = manifest.get("component").and_then(Value::as_table);
    let mut read = BTreeMap::new();
    for (id, component) in components.context("no components")? {
        let source = component.get("source").and_then(Value::as_str);
        let source = source.with_context(|| format!("{id} has no source"))?;
        let wasm = std::fs::read(root().join(source))
            .with_context(|| format!("{source}: `cargo xtask build` builds it"))?;
        read.insert(id.clone(), settings_in(&wasm));
    }
    Ok(read)
}

/// Finds the names after marks in compiled code.
fn settings_in(wasm: &[u8]) -> BTreeSet<String> {
    let mark = Setting::MARK.as_bytes();
    let starts = (0..wasm.len()).filter(|at| wasm[*at..].starts_with(mark));
    starts
        .filter_map(|start| {
            let rest = &wasm[start + mark.len()..];
            let end = rest.iter().position(|byte| !is_of_a_name(*byte))?;
            let name = (rest[end] == b';').then_some(&rest[..end])?;
            String::from_utf8(name.to_vec()).ok()
        })
        .collect()
}

fn is_of_a_name(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_after_their_marks() {
        let wasm = b"\0setting:setting:a_1;setting:b;b;setting:B;setting:c\0setting:";
        let found: Vec<String> = settings_in(wasm).into_iter().collect();
        assert_eq!(found, ["a_1", "b"]);
    }
}
