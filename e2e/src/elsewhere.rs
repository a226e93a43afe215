//! The hosts other than this machine, as far as this machine can imitate them: the manifest that `cargo xtask manifest`
//! prints for them, their limits, and a libSQL server if they have no SQLite.
//!
//! If `TEST_HOST` names a host, every [`Setup`](crate::host::Setup) without a manifest of its own imitates that host, so
//! that the same tests run on it. `cargo xtask test --hosts` sets it.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use toml::Table;

use crate::built::{built, root};
use crate::libsql::{Libsql, TOKEN};

/// A host, with the libSQL server of one set-up of it.
#[derive(Clone)]
pub struct Elsewhere {
    name: &'static str,
    libsql: Option<Arc<Libsql>>,
}

/// The names that `TEST_HOST` may have.
const NAMES: [&str; 4] = ["http-only", "fermyon-cloud", "akamai", "spinkube"];

impl Elsewhere {
    /// The host that `TEST_HOST` names, for a set-up with this state folder; `None` if it is not set.
    ///
    /// # Panics
    /// If there is no such host.
    pub fn of_environment(state: &Path) -> Option<Self> {
        let name = std::env::var("TEST_HOST").ok()?;
        let name = NAMES.into_iter().find(|known| *known == name);
        Some(Self::new(
            name.expect("TEST_HOST is none of the hosts"),
            state,
        ))
    }

    /// Prepares a host for a set-up with this state folder. A libSQL server keeps its database in the file that SQLite
    /// would use.
    pub fn new(name: &'static str, state: &Path) -> Self {
        let libsql = matches!(name, "akamai" | "spinkube").then(|| {
            let file = state.join("sqlite_db.db");
            Arc::new(Libsql::start(&file, Duration::ZERO))
        });
        if let ("spinkube", Some(libsql)) = (name, &libsql) {
            let config = format!(
                "[sqlite_database.default]\ntype = \"libsql\"\nurl = {:?}\ntoken = {TOKEN:?}\n",
                libsql.url()
            );
            std::fs::write(state.join("runtime-config.toml"), config).unwrap();
        }
        std::fs::write(state.join("spin.toml"), manifest(name)).unwrap();
        Self { name, libsql }
    }

    /// The libSQL server, if the host has one.
    pub fn libsql(&self) -> Option<&Libsql> {
        self.libsql.as_deref()
    }

    /// The options that make the local host imitate this host. The state folder is that of [`Elsewhere::new`].
    pub fn options(&self, state: &Path) -> Vec<String> {
        let manifest = state.join("spin.toml").display().to_string();
        let mut options = vec!["--manifest".to_owned(), manifest];
        let mut option = |name: &str, value: String| options.extend([name.to_owned(), value]);
        match (self.name, &self.libsql) {
            ("spinkube", _) => {
                let config = state.join("runtime-config.toml");
                option("--runtime-config", config.display().to_string());
            }
            ("akamai", Some(libsql)) => {
                option("--limits", "akamai".into());
                option("--variable", format!("database_url={}", libsql.url()));
                option("--variable", format!("database_token={TOKEN}"));
            }
            _ => option("--limits", "fermyon-cloud".into()),
        }
        options
    }

    /// The settings of a relay in front of this host.
    pub fn relay(&self) -> &'static [(&'static str, &'static str)] {
        match self.name {
            "akamai" => &[
                ("RELAY_TICK", "true"),
                ("RELAY_MAX_BODY", "7MiB"),
                ("RELAY_LINE_BYTES", "2MiB"),
            ],
            "spinkube" => &[("RELAY_TICK", "true")],
            _ => &[
                ("RELAY_TICK", "true"),
                ("RELAY_MAX_BODY", "9MiB"),
                ("RELAY_LINE_BYTES", "512KiB"),
            ],
        }
    }
}

/// The size in MiB of the largest body that the host of `TEST_HOST` accepts, if it has a limit. A document cannot be
/// larger either.
pub fn max_body_mib() -> Option<usize> {
    match std::env::var("TEST_HOST").as_deref() {
        Ok("http-only" | "fermyon-cloud") => Some(9),
        Ok("akamai") => Some(7),
        _ => None,
    }
}

/// The manifest of a host, in the environment `development`, because the tests' callers have no sessions.
fn manifest(name: &str) -> String {
    let printed = Command::new(built("target/release/xtask"))
        .args(["manifest", "--for", name])
        .output()
        .unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let mut manifest: Table = String::from_utf8(printed.stdout).unwrap().parse().unwrap();
    let variables = &mut manifest["variables"];
    variables["environment"]["default"] = "development".into();
    if name == "http-only" {
        // It runs within the limits of Fermyon Cloud.
        for (name, limit) in [
            ("max_body_mib", "9"),
            ("max_handler_seconds", "30"),
            ("session_places", "500"),
        ] {
            variables[name]["default"] = limit.into();
        }
    }
    for (_, component) in manifest["component"].as_table_mut().unwrap() {
        let source = root().join(component["source"].as_str().unwrap());
        component["source"] = source.to_str().unwrap().into();
    }
    manifest.to_string()
}
