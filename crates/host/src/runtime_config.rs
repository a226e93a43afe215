//! The part of Spin's runtime configuration that this host reads: `[outbound_networking]`, and databases on libSQL
//! servers (`[sqlite_database.NAME]`).

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use crate::outbound_networking::blocked_networks::BlockedNetworks;

/// The file as the operator wrote it.
#[derive(Debug, Default)]
pub(crate) struct RuntimeConfig {
    /// The networks that components may not reach; `None` if the file says nothing about them.
    pub(crate) blocked: Option<BlockedNetworks>,
    /// The libSQL servers of databases, by the databases' names.
    pub(crate) databases: BTreeMap<String, Libsql>,
}

/// The libSQL server of a database.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Libsql {
    #[serde(rename = "type")]
    _kind: String,
    /// The address of the server.
    pub(crate) url: String,
    /// The token that the server requires.
    #[serde(default)]
    pub(crate) token: String,
}

impl RuntimeConfig {
    /// Reads the file.
    ///
    /// # Errors
    /// With the key and what is wrong with it, in one line. It shows neither the address nor the token of a server,
    /// because they may be secret.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("cannot be read: {e}"))?;
        let mut table: Table =
            toml::from_str(&text).map_err(|e: toml::de::Error| e.message().replace('\n', " "))?;
        let blocked = table.remove("outbound_networking");
        let databases = table.remove("sqlite_database");
        for key in table.keys() {
            tracing::warn!(
                file = %path.display(),
                "[{key}] is ignored: this host reads [outbound_networking] and [sqlite_database]"
            );
        }
        Ok(Self {
            blocked: blocked.map(BlockedNetworks::parse).transpose()?,
            databases: databases.map_or(Ok(BTreeMap::new()), databases_of)?,
        })
    }
}

fn databases_of(section: Value) -> Result<BTreeMap<String, Libsql>, String> {
    let Value::Table(section) = section else {
        return Err("sqlite_database: must be a table".into());
    };
    let databases = section.into_iter().map(|(name, database)| {
        let key = format!("sqlite_database.{name}");
        match database.get("type").and_then(Value::as_str) {
            Some("libsql") => {}
            Some(kind) => {
                return Err(format!(
                    "{key}.type: this host supports \"libsql\", and not {kind:?}; without an entry the database is a file in \
                     the state folder"
                ));
            }
            None => return Err(format!("{key}.type: is missing")),
        }
        let read = database.try_into::<Libsql>();
        let read = read.map_err(|error| format!("{key}: {}", error.message().replace('\n', " ")));
        read.map(|database| (name, database))
    });
    databases.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<RuntimeConfig, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runtime.toml");
        std::fs::write(&path, text).unwrap();
        RuntimeConfig::read(&path)
    }

    #[test]
    fn networks_and_databases_are_read() {
        let networks = "[outbound_networking]\nblock_networks = [\"1.2.3.0/24\"]";
        let blocked = read(networks).unwrap().blocked.unwrap();
        assert!(blocked.blocks("1.2.3.4".parse().unwrap()));
        let database =
            "[sqlite_database.default]\ntype = \"libsql\"\nurl = \"http://h\"\ntoken = \"t\"";
        let config = read(database).unwrap();
        assert!(config.blocked.is_none());
        let default = &config.databases["default"];
        assert_eq!(
            (default.url.as_str(), default.token.as_str()),
            ("http://h", "t")
        );
        let other = read("[other]\nx = 1").unwrap();
        assert!(other.blocked.is_none() && other.databases.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_in_one_line() {
        for (wrong, words) in [
            ("x =", ""),
            ("sqlite_database = 1", "must be a table"),
            (
                "[outbound_networking]\nblock_networks = [\"all\"]",
                "outbound_networking",
            ),
            (
                "[sqlite_database.default]\ntype = \"spin\"\npath = \"a\"",
                "sqlite_database.default.type: this host supports \"libsql\", and not \"spin\"",
            ),
            (
                "[sqlite_database.a]\nurl = \"u\"",
                "sqlite_database.a.type: is missing",
            ),
            (
                "[sqlite_database.a]\ntype = \"libsql\"",
                "missing field `url`",
            ),
            (
                "[sqlite_database.a]\ntype = \"libsql\"\nurl = \"u\"\nno = 1",
                "unknown field `no`",
            ),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains(words), "{wrong}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
