//! The calls that a guest makes: `fermyon:spin/key-value@2.0.0`, as much of it as the components use. The linker
//! refuses a component that calls more, by the name of the call.

use std::collections::BTreeSet;
use std::sync::Arc;

use rusqlite::{OptionalExtension, params};
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};

use crate::other_host::Keys;
use crate::sqlite::database::Database;
use wit::fermyon::spin::key_value;

mod wit {
    #![allow(missing_docs, unreachable_pub)]

    wasmtime::component::bindgen!({
        inline: r#"
            package fermyon:spin@2.0.0;

            interface key-value {
                resource store {
                    open: static func(label: string) -> result<store, error>;
                    get: func(key: string) -> result<option<list<u8>>, error>;
                    set: func(key: string, value: list<u8>) -> result<_, error>;
                    delete: func(key: string) -> result<_, error>;
                }
                variant error { store-table-full, no-such-store, access-denied, other(string) }
            }

            world calls { import key-value; }
        "#,
        imports: { default: async },
        require_store_data_send: true,
        with: { "fermyon:spin/key-value.store": crate::key_value::guest::Store },
    });
}

/// The stores that one component may open.
pub(crate) struct Grant {
    /// The names of its stores.
    pub(crate) stores: BTreeSet<String>,
    /// The file of all stores.
    pub(crate) database: Option<Arc<Database>>,
    /// The limits of a store, if those of another host are kept.
    pub(crate) keys: Option<Keys>,
}

/// The calls of one instance, and its open stores.
pub(crate) struct Calls {
    grant: Arc<Grant>,
    open: ResourceTable,
}

/// An open store of a guest.
#[allow(unreachable_pub)] // The bindings re-export it.
pub struct Store {
    name: String,
    database: Arc<Database>,
}

/// Adds the calls to a linker; `calls` finds those of an instance.
pub(crate) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    calls: fn(&mut T) -> &mut Calls,
) -> wasmtime::Result<()> {
    key_value::add_to_linker::<T, HasSelf<Calls>>(linker, calls)
}

fn other(error: impl std::fmt::Display) -> key_value::Error {
    key_value::Error::Other(error.to_string())
}

impl Calls {
    /// The calls of a new instance.
    pub(crate) fn new(grant: &Arc<Grant>) -> Self {
        Self {
            grant: Arc::clone(grant),
            open: ResourceTable::new(),
        }
    }

    fn opened(&self, store: &Resource<Store>) -> Result<(Arc<Database>, String), key_value::Error> {
        let store = self.open.get(store);
        let store = store.map_err(|_| key_value::Error::NoSuchStore)?;
        Ok((Arc::clone(&store.database), store.name.clone()))
    }
}

impl key_value::Host for Calls {}

impl key_value::HostStore for Calls {
    async fn open(&mut self, label: String) -> Result<Resource<Store>, key_value::Error> {
        if !self.grant.stores.contains(&label) {
            return Err(key_value::Error::AccessDenied);
        }
        let Some(database) = &self.grant.database else {
            return Err(key_value::Error::NoSuchStore);
        };
        let store = Store {
            name: label,
            database: Arc::clone(database),
        };
        self.open
            .push(store)
            .map_err(|_| key_value::Error::StoreTableFull)
    }

    async fn get(
        &mut self,
        store: Resource<Store>,
        key: String,
    ) -> Result<Option<Vec<u8>>, key_value::Error> {
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
        store: Resource<Store>,
        key: String,
        value: Vec<u8>,
    ) -> Result<(), key_value::Error> {
        let (database, name) = self.opened(&store)?;
        if let Some(keys) = self.grant.keys
            && (key.len() > keys.key || value.len() > keys.value)
        {
            return Err(other(format!(
                "a key has {} bytes at most, and a value {}",
                keys.key, keys.value
            )));
        }
        let most = self.grant.keys.map_or(i64::MAX, |keys| keys.count.into());
        // The number of keys is counted only if there is a limit.
        let sql = "INSERT INTO spin_key_value (store, key, value)
            SELECT ?1, ?2, ?3 WHERE ?4 = 9223372036854775807
                OR EXISTS (SELECT 1 FROM spin_key_value WHERE store = ?1 AND key = ?2)
                OR (SELECT COUNT(*) FROM spin_key_value WHERE store = ?1) < ?4
            ON CONFLICT (store, key) DO UPDATE SET value = excluded.value";
        let changed = database
            .run(move |c| c.statement(sql, |s| s.execute(params![name, key, value, most])))
            .await
            .map_err(other)?;
        if changed == 0 {
            return Err(other(format!("the store has {most} keys, and no more")));
        }
        Ok(())
    }

    async fn delete(
        &mut self,
        store: Resource<Store>,
        key: String,
    ) -> Result<(), key_value::Error> {
        let (database, name) = self.opened(&store)?;
        let sql = "DELETE FROM spin_key_value WHERE store = ?1 AND key = ?2";
        database
            .run(move |c| c.statement(sql, |s| s.execute(params![name, key])))
            .await
            .map(drop)
            .map_err(other)
    }

    async fn drop(&mut self, store: Resource<Store>) -> wasmtime::Result<()> {
        self.open.delete(store)?;
        Ok(())
    }
}
