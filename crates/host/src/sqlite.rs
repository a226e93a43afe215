//! SQLite for guests: `fermyon:spin/sqlite@2.0.0` over the files in the state folder.
//!
//! Database `default` is the file `sqlite_db.db`, any other `NAME` is `sqlite_NAME.db`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::InterruptHandle;
use rusqlite::types::{ToSqlOutput, ValueRef};
use wasmtime::component::Resource;

use crate::bindings::sqlite as wit;
use crate::database::{self, Database};
use crate::guest::Guest;

/// Most bytes of one query's result.
const RESULT_BYTES: usize = 128 << 20;
/// Most connections that one instance may have open.
const CONNECTIONS: usize = 256;

/// The file of the database `name` in the state folder.
pub fn file(state: &Path, name: &str) -> PathBuf {
    match name {
        "default" => state.join("sqlite_db.db"),
        name => state.join(format!("sqlite_{name}.db")),
    }
}

/// An open connection of a guest. It takes a pooled one at its first statement.
pub struct Connection {
    database: Arc<Database>,
    pooled: Option<database::Connection>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(pooled) = self.pooled.take() {
            self.database.give_back(pooled);
        }
    }
}

/// Interrupts a statement when the guest that waits for it is gone, unless the statement is over:
/// its connection may be another guest's by then.
struct Interrupt {
    handle: Arc<InterruptHandle>,
    running: Arc<Mutex<bool>>,
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        if *self.running.lock().unwrap_or_else(PoisonError::into_inner) {
            self.handle.interrupt();
        }
    }
}

impl wit::Host for Guest {}

impl wit::HostConnection for Guest {
    async fn open(&mut self, database: String) -> Result<Resource<wit::Connection>, wit::Error> {
        let Some(database) = self.program.databases.get(&database) else {
            return Err(wit::Error::AccessDenied);
        };
        let connection = Connection {
            database: Arc::clone(database),
            pooled: None,
        };
        if self.table.iter_mut().count() > CONNECTIONS {
            return Err(wit::Error::Io("too many resources are open".into()));
        }
        self.table
            .push(connection)
            .map_err(|e| wit::Error::Io(e.to_string()))
    }

    async fn execute(
        &mut self,
        connection: Resource<wit::Connection>,
        statement: String,
        parameters: Vec<wit::Value>,
    ) -> Result<wit::QueryResult, wit::Error> {
        let open = self
            .table
            .get_mut(&connection)
            .map_err(|_| wit::Error::InvalidConnection)?;
        let database = Arc::clone(&open.database);
        let pooled = match open.pooled.take() {
            Some(pooled) => pooled,
            None => database.take().map_err(|e| wit::Error::Io(e.to_string()))?,
        };
        let running = Arc::new(Mutex::new(true));
        let interrupt = Interrupt {
            handle: pooled.interrupter(),
            running: Arc::clone(&running),
        };
        let work = tokio::task::spawn_blocking(move || {
            // Goes back to the pool also when nobody waits for the answer any more.
            let mut open = Connection {
                database,
                pooled: Some(pooled),
            };
            let result = open
                .pooled
                .as_mut()
                .map(|pooled| query(pooled, &statement, parameters));
            *running.lock().unwrap_or_else(PoisonError::into_inner) = false;
            (open, result)
        });
        let answer = work.await;
        drop(interrupt);
        let (mut used, Some(result)) = answer.map_err(|e| wit::Error::Io(e.to_string()))? else {
            return Err(wit::Error::InvalidConnection);
        };
        let pooled = used.pooled.take();
        let open = self
            .table
            .get_mut(&connection)
            .map_err(|_| wit::Error::InvalidConnection)?;
        open.pooled = pooled;
        result.map_err(|e| wit::Error::Io(e.to_string()))
    }

    async fn drop(&mut self, connection: Resource<wit::Connection>) -> wasmtime::Result<()> {
        let open = self.table.delete(connection)?;
        // Rolling back may touch the disk, but is short: a statement that runs was waited for.
        drop(open);
        Ok(())
    }
}

/// A value of a guest as SQLite takes it, with no copy.
struct Parameter<'a>(&'a wit::Value);

impl rusqlite::ToSql for Parameter<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            wit::Value::Integer(value) => ValueRef::Integer(*value),
            wit::Value::Real(value) => ValueRef::Real(*value),
            wit::Value::Text(value) => ValueRef::Text(value.as_bytes()),
            wit::Value::Blob(value) => ValueRef::Blob(value),
            wit::Value::Null => ValueRef::Null,
        }))
    }
}

fn value(value: ValueRef<'_>) -> Result<wit::Value, rusqlite::Error> {
    Ok(match value {
        ValueRef::Null => wit::Value::Null,
        ValueRef::Integer(value) => wit::Value::Integer(value),
        ValueRef::Real(value) => wit::Value::Real(value),
        ValueRef::Text(value) => wit::Value::Text(std::str::from_utf8(value)?.to_owned()),
        ValueRef::Blob(value) => wit::Value::Blob(value.to_vec()),
    })
}

fn query(
    connection: &mut database::Connection,
    sql: &str,
    parameters: Vec<wit::Value>,
) -> rusqlite::Result<wit::QueryResult> {
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
                bytes += size_of::<wit::Value>()
                    + one.as_bytes_or_null().ok().flatten().map_or(0, <[u8]>::len);
                values.push(value(one)?);
            }
            if bytes > RESULT_BYTES {
                return Err(rusqlite::Error::ToSqlConversionFailure(
                    format!("query result exceeds {RESULT_BYTES} bytes").into(),
                ));
            }
            rows.push(wit::RowResult { values });
        }
        Ok(wit::QueryResult { columns, rows })
    })
}
