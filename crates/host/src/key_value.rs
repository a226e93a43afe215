//! Key-value stores for guests: `fermyon:spin/key-value@2.0.0` over one SQLite file.
//!
//! The table is Spin's own, so that `spin up` and this host can take turns on one state folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{OptionalExtension, params};
use wasmtime::component::Resource;

use crate::bindings::key_value as wit;
use crate::database::Database;
use crate::guest::Guest;

const CREATE: &str = "CREATE TABLE IF NOT EXISTS spin_key_value (
    store TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (store, key))";

/// The file of all stores in the state folder.
pub fn file(state: &Path) -> PathBuf {
    state.join("sqlite_key_value.db")
}

/// Opens the file and makes its table.
pub fn open(state: &Path) -> rusqlite::Result<Arc<Database>> {
    let database = Database::open(&file(state))?;
    let mut connection = database.take()?;
    connection.statement(CREATE, |statement| statement.execute([]))?;
    database.give_back(connection);
    Ok(database)
}

/// An open store of a guest.
pub struct Store {
    name: String,
    database: Arc<Database>,
}

fn other(error: impl std::fmt::Display) -> wit::Error {
    wit::Error::Other(error.to_string())
}

impl Guest {
    fn opened(&self, store: &Resource<wit::Store>) -> Result<(Arc<Database>, String), wit::Error> {
        let store = self.table.get(store).map_err(|_| wit::Error::NoSuchStore)?;
        Ok((Arc::clone(&store.database), store.name.clone()))
    }
}

impl wit::Host for Guest {}

impl wit::HostStore for Guest {
    async fn open(&mut self, label: String) -> Result<Resource<wit::Store>, wit::Error> {
        if !self.program.stores.contains(&label) {
            return Err(wit::Error::AccessDenied);
        }
        let Some(database) = &self.program.shared.key_value else {
            return Err(wit::Error::NoSuchStore);
        };
        let store = Store {
            name: label,
            database: Arc::clone(database),
        };
        self.table
            .push(store)
            .map_err(|_| wit::Error::StoreTableFull)
    }

    async fn get(
        &mut self,
        store: Resource<wit::Store>,
        key: String,
    ) -> Result<Option<Vec<u8>>, wit::Error> {
        let (database, name) = self.opened(&store)?;
        let sql = "SELECT value FROM spin_key_value WHERE store = ?1 AND key = ?2";
        database
            .run(move |c| {
                c.statement(sql, |s| {
                    s.query_row(params![name, key], |row| row.get(0)).optional()
                })
            })
            .await
            .map_err(other)
    }

    async fn set(
        &mut self,
        store: Resource<wit::Store>,
        key: String,
        value: Vec<u8>,
    ) -> Result<(), wit::Error> {
        let (database, name) = self.opened(&store)?;
        let sql = "INSERT INTO spin_key_value (store, key, value) VALUES (?1, ?2, ?3)
            ON CONFLICT (store, key) DO UPDATE SET value = excluded.value";
        database
            .run(move |c| c.statement(sql, |s| s.execute(params![name, key, value])))
            .await
            .map(drop)
            .map_err(other)
    }

    async fn delete(&mut self, store: Resource<wit::Store>, key: String) -> Result<(), wit::Error> {
        let (database, name) = self.opened(&store)?;
        let sql = "DELETE FROM spin_key_value WHERE store = ?1 AND key = ?2";
        database
            .run(move |c| c.statement(sql, |s| s.execute(params![name, key])))
            .await
            .map(drop)
            .map_err(other)
    }

    async fn exists(
        &mut self,
        store: Resource<wit::Store>,
        key: String,
    ) -> Result<bool, wit::Error> {
        let (database, name) = self.opened(&store)?;
        let sql = "SELECT 1 FROM spin_key_value WHERE store = ?1 AND key = ?2";
        database
            .run(move |c| c.statement(sql, |s| s.exists(params![name, key])))
            .await
            .map_err(other)
    }

    async fn get_keys(&mut self, store: Resource<wit::Store>) -> Result<Vec<String>, wit::Error> {
        let (database, name) = self.opened(&store)?;
        let sql = "SELECT key FROM spin_key_value WHERE store = ?1";
        database
            .run(move |c| {
                c.statement(sql, |s| {
                    s.query_map(params![name], |row| row.get(0))?.collect()
                })
            })
            .await
            .map_err(other)
    }

    async fn drop(&mut self, store: Resource<wit::Store>) -> wasmtime::Result<()> {
        self.table.delete(store)?;
        Ok(())
    }
}
