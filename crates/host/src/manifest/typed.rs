//! The errors of the manifest's syntax, each in one line.

use serde::de::DeserializeOwned;

/// Turns a table into a type; the error names `key`.
pub(crate) fn typed<T: DeserializeOwned>(key: &str, table: toml::Table) -> Result<T, String> {
    toml::Value::Table(table)
        .try_into()
        .map_err(|error: toml::de::Error| format!("{key}: {}", one_line(error.message())))
}

/// Puts a text on one line.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
