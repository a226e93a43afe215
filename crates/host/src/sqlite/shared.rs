//! What the app shares: the open databases.
//!
//! Database `default` is the file `sqlite_db.db`, any other `NAME` is `sqlite_NAME.db`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

use super::database::Database;
use super::guest::Grant;

/// The databases by name.
#[derive(Default)]
pub(crate) struct Databases(BTreeMap<String, Arc<Database>>);

impl Databases {
    /// Opens the databases that are named; they are created if they do not exist.
    pub(crate) fn open<'a>(
        state: &Path,
        names: impl IntoIterator<Item = &'a String>,
    ) -> Result<Self> {
        let names: BTreeSet<&String> = names.into_iter().collect();
        let open = |name: &String| {
            let path = file(state, name);
            let database = Database::open(&path).with_context(|| path.display().to_string())?;
            Ok((name.clone(), database))
        };
        names.into_iter().map(open).collect::<Result<_>>().map(Self)
    }

    /// The part that a component may open.
    pub(crate) fn grant(&self, names: &BTreeSet<String>) -> Grant {
        let open = self.0.iter().filter(|(name, _)| names.contains(*name));
        Grant {
            databases: open
                .map(|(name, database)| (name.clone(), Arc::clone(database)))
                .collect(),
        }
    }

    /// All databases.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Database>> {
        self.0.values()
    }
}

fn file(state: &Path, name: &str) -> PathBuf {
    match name {
        "default" => state.join("sqlite_db.db"),
        name => state.join(format!("sqlite_{name}.db")),
    }
}
