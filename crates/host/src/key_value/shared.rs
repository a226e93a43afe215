//! The part that the whole app shares: the file of all stores.
//!
//! The table is Spin's own, so that `spin up` and this host can take turns on one state folder.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::guest::Grant;
use crate::other_host::Keys;
use crate::sqlite::database::Database;

const FILE: &str = "sqlite_key_value.db";

const CREATE: &str = "CREATE TABLE IF NOT EXISTS spin_key_value (
    store TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (store, key))";

/// The stores of the app.
#[derive(Default)]
pub(crate) struct Stores(Option<Arc<Database>>);

impl Stores {
    /// Opens the file and creates its table, unless no component has a store.
    pub(crate) fn open<'a>(
        state: &Path,
        mut names: impl Iterator<Item = &'a String>,
    ) -> Result<Self> {
        if names.next().is_none() {
            return Ok(Self::default());
        }
        let path = state.join(FILE);
        let open = || {
            let database = Database::open(&path)?;
            let mut connection = database.take()?;
            connection.statement(CREATE, |statement| statement.execute([]))?;
            database.give_back(connection);
            Ok::<_, rusqlite::Error>(database)
        };
        let database = open().with_context(|| path.display().to_string())?;
        Ok(Self(Some(database)))
    }

    /// The part that a component may open, within the limits of another host.
    pub(crate) fn grant(&self, names: &BTreeSet<String>, keys: Option<Keys>) -> Grant {
        Grant {
            stores: names.clone(),
            database: self.0.clone(),
            keys,
        }
    }

    /// The file, if there is one.
    pub(crate) fn database(&self) -> Option<&Arc<Database>> {
        self.0.as_ref()
    }
}
