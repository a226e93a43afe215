//! Other hosts than this machine, as far as they can be had here: the manifest that `cargo xtask manifest` prints for
//! them, their limits, and a libSQL server if they have no SQLite.
//!
//! `TEST_HOST` names one, and every [`Setup`](crate::host::Setup) without a manifest of its own is of that host: so the
//! same tests run on it. `cargo xtask test --hosts` does that.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use toml::Table;

use crate::built::{built, root};
use crate::libsql::{Libsql, TOKEN};

/// A host, and what belongs to one set-up of it.
#[derive(Clone)]
pub struct Elsewhere {
    name: &'static str,
    libsql: Option<Arc<Libsql>>,
}

/// The names that `TEST_HOST` may have.
const NAMES: [&str; 3] = ["http-only", "akamai", "spinkube"];

impl Elsewhere {
    /// The host that `TEST_HOST` names, for a set-up with this state folder; `None` if it names none.
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

    /// A host for a set-up with this state folder. The file of a database on a libSQL server is where SQLite's would be.
    pub fn new(name: &'static str, state: &Path) -> Self {
        let libsql = (name != "http-only").then(|| {
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

    /// Its libSQL server, if it has one.
    pub fn libsql(&self) -> Option<&Libsql> {
        self.libsql.as_deref()
    }

    /// The options of the local host that make it that host. The state folder is that of [`Elsewhere::new`].
    pub fn options(&self, state: &Path) -> Vec<String> {
        let manifest = state.join("spin.toml").display().to_string();
        let mut options = vec!["--manifest".to_owned(), manifest];
        let Some(libsql) = &self.libsql else {
            return options;
        };
        if self.name == "spinkube" {
            let config = state.join("runtime-config.toml").display().to_string();
            options.extend(["--runtime-config".to_owned(), config]);
        } else {
            let url = format!("database_url={}", libsql.url());
            let token = format!("database_token={TOKEN}");
            options.extend(["--variable".to_owned(), url]);
            options.extend(["--variable".to_owned(), token]);
        }
        options
    }
}

/// The manifest of a host, in development, because the tests' callers have no sessions.
fn manifest(name: &str) -> String {
    let printed = Command::new(built("target/release/xtask"))
        .args(["manifest", "--for", name])
        .output()
        .unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let mut manifest: Table = String::from_utf8(printed.stdout).unwrap().parse().unwrap();
    manifest["variables"]["environment"]["default"] = "development".into();
    for (_, component) in manifest["component"].as_table_mut().unwrap() {
        let source = root().join(component["source"].as_str().unwrap());
        component["source"] = source.to_str().unwrap().into();
    }
    manifest.to_string()
}
