//! The calls that a guest makes: `fermyon:spin/sqlite@2.0.0`.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use platform::hrana::Found;
use platform::{Row, Value};
use rusqlite::InterruptHandle;
use rusqlite::types::{ToSqlOutput, ValueRef};
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};

use super::database::{self, Database};
use super::libsql::Server;
use super::shared::Source;
use crate::budget::Claim;
use wit::fermyon::spin::sqlite;

mod wit {
    #![allow(missing_docs, unreachable_pub)]

    wasmtime::component::bindgen!({
        inline: r#"
            package fermyon:spin@2.0.0;

            interface sqlite {
                resource connection {
                    open: static func(database: string) -> result<connection, error>;
                    execute: func(statement: string, parameters: list<value>) -> result<query-result, error>;
                }
                variant error { no-such-database, access-denied, invalid-connection, database-full, io(string) }
                record query-result { columns: list<string>, rows: list<row-result> }
                record row-result { values: list<value> }
                variant value { integer(s64), real(f64), text(string), blob(list<u8>), null }
            }

            world calls { import sqlite; }
        "#,
        imports: { default: async },
        require_store_data_send: true,
        with: { "fermyon:spin/sqlite.connection": crate::sqlite::guest::Connection },
    });
}

/// The most bytes of one query's result.
const RESULT_BYTES: usize = 128 << 20;
/// The steps in which the bytes of a result are counted in the budget of memory, so that small results cost nothing.
const COUNTED: usize = 64 << 10;
/// The error of a result for which the budget of memory has no room.
const NO_MEMORY: &str = "no memory is left for the query result";
/// The most connections that one instance may have open.
const CONNECTIONS: usize = 256;

/// The databases that one component may open.
pub(crate) struct Grant {
    /// The databases by name.
    pub(crate) databases: BTreeMap<String, Source>,
}

/// The calls of one instance, and its open connections.
pub(crate) struct Calls {
    grant: Arc<Grant>,
    open: ResourceTable,
    /// The memory of the last result, which is given back with the next call, because the guest has its own copy by then.
    result: Arc<Mutex<Claim>>,
}

/// Adds the calls to a linker; `calls` finds those of an instance.
pub(crate) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    calls: fn(&mut T) -> &mut Calls,
) -> wasmtime::Result<()> {
    sqlite::add_to_linker::<T, HasSelf<Calls>>(linker, calls)
}

impl Calls {
    /// The calls of a new instance, whose results `claim` counts.
    pub(crate) fn new(grant: &Arc<Grant>, claim: Claim) -> Self {
        Self {
            grant: Arc::clone(grant),
            open: ResourceTable::new(),
            result: Arc::new(Mutex::new(claim)),
        }
    }
}

/// An open connection of a guest.
#[allow(unreachable_pub)] // The bindings re-export it.
pub struct Connection(Opened);

enum Opened {
    /// A connection to a file.
    File(Lent),
    /// A libSQL server, which has no connections.
    Server(Arc<Server>),
}

/// A connection to a file. It takes a pooled one at its first statement.
struct Lent {
    database: Arc<Database>,
    pooled: Option<database::Connection>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(pooled) = self.pooled.take() {
            self.database.give_back(pooled);
        }
    }
}

/// Interrupts a statement if the guest that waits for it is gone. A statement that is over is left alone, because
/// another guest may have its connection by then.
struct Interrupt {
    handle: Arc<InterruptHandle>,
    running: Arc<Mutex<bool>>,
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        if *self.running.lock() {
            self.handle.interrupt();
        }
    }
}

impl sqlite::Host for Calls {}

impl sqlite::HostConnection for Calls {
    async fn open(
        &mut self,
        database: String,
    ) -> Result<Resource<sqlite::Connection>, sqlite::Error> {
        let connection = match self.grant.databases.get(&database) {
            None => return Err(sqlite::Error::AccessDenied),
            Some(Source::File(database)) => Opened::File(Lent {
                database: Arc::clone(database),
                pooled: None,
            }),
            Some(Source::Server(server)) => Opened::Server(Arc::clone(server)),
        };
        if self.open.iter_mut().count() >= CONNECTIONS {
            return Err(sqlite::Error::Io("too many connections are open".into()));
        }
        self.open
            .push(Connection(connection))
            .map_err(|e| sqlite::Error::Io(e.to_string()))
    }

    async fn execute(
        &mut self,
        connection: Resource<sqlite::Connection>,
        statement: String,
        parameters: Vec<sqlite::Value>,
    ) -> Result<sqlite::QueryResult, sqlite::Error> {
        let Connection(open) = self
            .open
            .get_mut(&connection)
            .map_err(|_| sqlite::Error::InvalidConnection)?;
        let open = match open {
            Opened::File(open) => open,
            Opened::Server(server) => {
                let server = Arc::clone(server);
                return ask(server, statement, parameters, Arc::clone(&self.result)).await;
            }
        };
        let database = Arc::clone(&open.database);
        let pooled = match open.pooled.take() {
            Some(pooled) => pooled,
            None => database
                .take()
                .map_err(|e| sqlite::Error::Io(e.to_string()))?,
        };
        let memory = Arc::clone(&self.result);
        let running = Arc::new(Mutex::new(true));
        let interrupt = Interrupt {
            handle: pooled.interrupter(),
            running: Arc::clone(&running),
        };
        let work = Arc::clone(&database).spawn_blocking(move || {
            // Dropping this gives the connection back, even if the guest no longer waits for the answer.
            let mut open = Lent {
                database,
                pooled: Some(pooled),
            };
            let result = open
                .pooled
                .as_mut()
                .map(|pooled| query(pooled, &statement, parameters, &mut memory.lock()));
            *running.lock() = false;
            (open, result)
        });
        let answer = work.await;
        drop(interrupt);
        let (mut used, Some(result)) = answer.map_err(|e| sqlite::Error::Io(e.to_string()))? else {
            return Err(sqlite::Error::InvalidConnection);
        };
        if let Ok(Connection(Opened::File(open))) = self.open.get_mut(&connection) {
            open.pooled = used.pooled.take();
        }
        result.map_err(|e| sqlite::Error::Io(e.to_string()))
    }

    async fn drop(&mut self, connection: Resource<sqlite::Connection>) -> wasmtime::Result<()> {
        let open = self.open.delete(connection)?;
        // Rolling back may touch the disk, but it is short, because no statement runs any more.
        drop(open);
        Ok(())
    }
}

/// Runs a statement on a libSQL server.
async fn ask(
    server: Arc<Server>,
    sql: String,
    parameters: Vec<sqlite::Value>,
    memory: Arc<Mutex<Claim>>,
) -> Result<sqlite::QueryResult, sqlite::Error> {
    memory.lock().release();
    let parameters = parameters.into_iter().map(|value| match value {
        sqlite::Value::Integer(value) => Value::Integer(value),
        sqlite::Value::Real(value) => Value::Real(value),
        sqlite::Value::Text(value) => Value::Text(value),
        sqlite::Value::Blob(value) => Value::Blob(value),
        sqlite::Value::Null => Value::Null,
    });
    let found = server.query(sql, parameters.collect()).await;
    let Found { columns, rows } = found.map_err(|error| sqlite::Error::Io(error.to_string()))?;
    let values = rows.iter().flat_map(|Row(values)| values);
    let bytes: usize = values
        .map(|value| {
            size_of::<sqlite::Value>()
                + match value {
                    Value::Text(text) => text.len(),
                    Value::Blob(bytes) => bytes.len(),
                    _ => 0,
                }
        })
        .sum();
    if !memory.lock().reaches(bytes / COUNTED * COUNTED) {
        return Err(sqlite::Error::Io(NO_MEMORY.into()));
    }
    let rows = rows.into_iter().map(|Row(values)| sqlite::RowResult {
        values: values
            .into_iter()
            .map(|value| match value {
                Value::Integer(value) => sqlite::Value::Integer(value),
                Value::Real(value) => sqlite::Value::Real(value),
                Value::Text(value) => sqlite::Value::Text(value),
                Value::Blob(value) => sqlite::Value::Blob(value),
                Value::Null => sqlite::Value::Null,
            })
            .collect(),
    });
    Ok(sqlite::QueryResult {
        columns,
        rows: rows.collect(),
    })
}

/// A guest's value as SQLite takes it, without a copy.
struct Parameter<'a>(&'a sqlite::Value);

impl rusqlite::ToSql for Parameter<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            sqlite::Value::Integer(value) => ValueRef::Integer(*value),
            sqlite::Value::Real(value) => ValueRef::Real(*value),
            sqlite::Value::Text(value) => ValueRef::Text(value.as_bytes()),
            sqlite::Value::Blob(value) => ValueRef::Blob(value),
            sqlite::Value::Null => ValueRef::Null,
        }))
    }
}

fn value(value: ValueRef<'_>) -> Result<sqlite::Value, rusqlite::Error> {
    Ok(match value {
        ValueRef::Null => sqlite::Value::Null,
        ValueRef::Integer(value) => sqlite::Value::Integer(value),
        ValueRef::Real(value) => sqlite::Value::Real(value),
        ValueRef::Text(value) => sqlite::Value::Text(std::str::from_utf8(value)?.to_owned()),
        ValueRef::Blob(value) => sqlite::Value::Blob(value.to_vec()),
    })
}

fn query(
    connection: &mut database::Connection,
    sql: &str,
    parameters: Vec<sqlite::Value>,
    memory: &mut Claim,
) -> rusqlite::Result<sqlite::QueryResult> {
    memory.release();
    connection.statement(sql, |statement| {
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let mut found =
            statement.query(rusqlite::params_from_iter(parameters.iter().map(Parameter)))?;
        let mut rows = Vec::new();
        let mut bytes = 0;
        while let Some(row) = found.next()? {
            let mut values = Vec::with_capacity(columns.len());
            for index in 0..columns.len() {
                let one = row.get_ref(index)?;
                bytes += size_of::<sqlite::Value>()
                    + one.as_bytes_or_null().ok().flatten().map_or(0, <[u8]>::len);
                values.push(value(one)?);
            }
            if bytes > RESULT_BYTES {
                return Err(rusqlite::Error::ToSqlConversionFailure(
                    format!("query result exceeds {RESULT_BYTES} bytes").into(),
                ));
            }
            if !memory.reaches(bytes / COUNTED * COUNTED) {
                return Err(rusqlite::Error::ToSqlConversionFailure(NO_MEMORY.into()));
            }
            rows.push(sqlite::RowResult { values });
        }
        Ok(sqlite::QueryResult { columns, rows })
    })
}
