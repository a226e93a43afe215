//! The manifest `spin.toml`, and what the compiled components read and import.

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
    let components = compiled(manifest)?.into_iter();
    Ok(components
        .map(|(id, wasm)| (id, settings_in(&wasm)))
        .collect())
}

/// Finds the variables that a text of a manifest names in templates (`{{ name }}`).
pub fn named_in(text: &str) -> impl Iterator<Item = &str> {
    let templates = text.split("{{").skip(1);
    templates.filter_map(|rest| rest.split_once("}}").map(|(name, _)| name.trim()))
}

/// Reads the compiled components, by their ids.
fn compiled(manifest: &Table) -> Result<Vec<(String, Vec<u8>)>> {
    let components = manifest.get("component").and_then(Value::as_table);
    let mut compiled = Vec::new();
    for (id, component) in components.context("no components")? {
        let source = component.get("source").and_then(Value::as_str);
        let source = source.with_context(|| format!("{id} has no source"))?;
        let wasm = std::fs::read(root().join(source))
            .with_context(|| format!("{source}: `cargo xtask build` builds it"))?;
        compiled.push((id.clone(), wasm));
    }
    Ok(compiled)
}

/// Finds the interfaces that each compiled component imports, by the component's id.
///
/// # Errors
/// If a component is not built, or is no component.
pub fn imports(manifest: &Table) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut imports = BTreeMap::new();
    for (id, wasm) in compiled(manifest)? {
        let found = imports_of(&wasm).with_context(|| format!("{id} is no component"))?;
        imports.insert(id, found);
    }
    Ok(imports)
}

/// The number of the section of a component's imports.
const IMPORTS: u8 = 10;

/// Reads the interfaces that a component imports. `None` if the bytes are no component, or if it imports anything but
/// interfaces and the types of interfaces.
fn imports_of(wasm: &[u8]) -> Option<BTreeSet<String>> {
    let mut rest = wasm.strip_prefix(b"\0asm\x0d\0\x01\0")?;
    let mut found = BTreeSet::new();
    while let Some((&section, after)) = rest.split_first() {
        let (length, after) = number(after)?;
        let (mut content, after) = after.split_at_checked(length)?;
        rest = after;
        if section != IMPORTS {
            continue;
        }
        let count;
        (count, content) = number(content)?;
        for _ in 0..count {
            // One byte for the kind of the name, the name, and what it stands for.
            let (length, after) = number(content.get(1..)?)?;
            let (name, after) = after.split_at_checked(length)?;
            match after {
                [5, after @ ..] => {
                    found.insert(String::from_utf8(name.to_vec()).ok()?);
                    (_, content) = number(after)?;
                }
                [3, 0, after @ ..] => (_, content) = number(after)?,
                _ => return None,
            }
        }
    }
    Some(found)
}

/// Reads a number in the format of Wasm (LEB128): seven bits a byte, the least significant first.
fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut number = 0;
    for (index, byte) in bytes.iter().enumerate().take(5) {
        number |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[index + 1..]));
        }
    }
    None
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

    #[test]
    fn variables_are_found_in_templates() {
        let text = "a = [\"{{ b }}\", \"{{c}}://{{ d }}\"] # {{ e";
        assert_eq!(named_in(text).collect::<Vec<_>>(), ["b", "c", "d"]);
    }

    #[test]
    fn imports_are_read_from_their_section() {
        let head = b"\0asm\x0d\0\x01\0";
        let component = |sections: &[u8]| imports_of(&[head, sections].concat());
        // A custom section, then two imports: an interface, and a type of it.
        let sections = b"\x00\x02\x01x\x0a\x0e\x02\x00\x03a:b\x05\x00\x00\x01t\x03\x00\x01";
        assert_eq!(
            component(sections),
            Some(BTreeSet::from(["a:b".to_owned()]))
        );
        assert_eq!(component(b""), Some(BTreeSet::new()));
        for wrong in [
            &b"\x0a\x02\x01"[..],
            b"\x0a\x05\x01\x00\x01a\x01",
            b"\x0a\xff\xff\xff\xff\xff",
        ] {
            assert_eq!(component(wrong), None, "{wrong:?}");
        }
        assert_eq!(imports_of(b"\0asm\x01\0\0\0"), None);
    }
}
