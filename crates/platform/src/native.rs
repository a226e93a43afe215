//! The native adapters, for tests: SQLite in a file, and all other ports in memory.

mod hrana;
mod world;

pub use hrana::{Fault, HranaClient, HranaServer, HranaWorld, Reply, database_in, is_on_hrana};
pub use world::World;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    path::Path,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use async_trait::async_trait;
use rusqlite::{ErrorCode, config::DbConfig, types::ValueRef};

use crate::{
    Clock, Config, Database, DatabaseError, HttpClient, HttpError, KeyValue, KeyValueError, PubSub,
    PubSubError, Row, Setting, UnreadableSetting, Value, clock::SystemClock, http_client::Limits,
    migrations,
};

/// Runs a future that uses only adapters of this module, because those never make it wait.
///
/// # Panics
/// If the future waits for something else.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a native adapter never waits"),
    }
}

/// A SQLite database in a file, as durable as the one that Spin opens.
#[derive(Debug)]
pub struct SqliteFile(rusqlite::Connection);

impl SqliteFile {
    /// Opens the file, and creates it if it does not exist.
    ///
    /// # Errors
    /// If SQLite cannot open it.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        let connection = rusqlite::Connection::open(path).map_err(failed)?;
        connection
            .busy_timeout(Duration::from_secs(5))
            .map_err(failed)?;
        connection
            .pragma_update(None, "journal_mode", "WAL")
            .map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        Ok(Self(connection))
    }

    /// Plans each statement without regard to its parameters. Otherwise, as on Spin, SQLite prepares a statement anew
    /// whenever its parameters change, if it could use a partial index.
    ///
    /// # Errors
    /// If SQLite refuses.
    pub fn with_stable_plans(self) -> Result<Self, DatabaseError> {
        self.0
            .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
            .map_err(failed)?;
        Ok(self)
    }
}

impl SqliteFile {
    /// Makes an empty database with the newest schema. It is in memory, because most tests need no file.
    ///
    /// # Panics
    /// If SQLite fails.
    #[allow(clippy::expect_used)]
    pub fn with_schema() -> Self {
        let database = Self::open(":memory:".as_ref()).expect("SQLite opens in memory");
        block_on(migrations::apply(&database, &SystemClock)).expect("the schema is made");
        database
    }
}

/// The most statements that are kept prepared. A test runs the same few dozen statements tens of thousands of times.
const STATEMENTS_KEPT: usize = 128;

fn failed(error: rusqlite::Error) -> DatabaseError {
    DatabaseError::Failed(error.to_string())
}

#[async_trait(?Send)]
impl Database for SqliteFile {
    async fn execute(&self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Row>, DatabaseError> {
        let parameters: Vec<_> = parameters
            .into_iter()
            .map(|value| match value {
                Value::Integer(value) => rusqlite::types::Value::Integer(value),
                Value::Real(value) => rusqlite::types::Value::Real(value),
                Value::Text(value) => rusqlite::types::Value::Text(value),
                Value::Blob(value) => rusqlite::types::Value::Blob(value),
                Value::Null => rusqlite::types::Value::Null,
            })
            .collect();
        let mut attempts = 0;
        loop {
            match self.query(sql, &parameters) {
                // SQLite does not always wait: a statement whose view of a changed schema is stale fails at once, and
                // has changed nothing.
                Err(error)
                    if attempts < BUSY_ATTEMPTS
                        && error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) =>
                {
                    attempts += 1;
                    std::thread::sleep(Duration::from_millis(10));
                }
                result => return result.map_err(failed),
            }
        }
    }
}

/// The number of times that a statement is tried again while another connection holds the database.
const BUSY_ATTEMPTS: u32 = 100;

impl SqliteFile {
    fn query(
        &self,
        sql: &str,
        parameters: &[rusqlite::types::Value],
    ) -> rusqlite::Result<Vec<Row>> {
        let mut statement = self.0.prepare_cached(sql)?;
        let columns = statement.column_count();
        let mut rows = statement.query(rusqlite::params_from_iter(parameters))?;
        let mut result = Vec::new();
        while let Some(row) = rows.next()? {
            let mut values = Vec::with_capacity(columns);
            for column in 0..columns {
                values.push(match row.get_ref(column)? {
                    ValueRef::Null => Value::Null,
                    ValueRef::Integer(value) => Value::Integer(value),
                    ValueRef::Real(value) => Value::Real(value),
                    ValueRef::Text(value) => {
                        Value::Text(String::from_utf8_lossy(value).into_owned())
                    }
                    ValueRef::Blob(value) => Value::Blob(value.to_vec()),
                });
            }
            result.push(Row(values));
        }
        Ok(result)
    }
}

#[async_trait(?Send)]
impl Database for Box<dyn Database> {
    async fn execute(&self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Row>, DatabaseError> {
        (**self).execute(sql, parameters).await
    }
}

/// A database whose process is killed before or after a chosen statement.
pub struct KillableDatabase {
    inner: Box<dyn Database>,
    left: Cell<Option<u32>>,
    last_happens: Cell<bool>,
}

impl KillableDatabase {
    /// Makes a database with no kill scheduled.
    pub fn new(inner: impl Database + 'static) -> Self {
        Self {
            inner: Box::new(inner),
            left: Cell::new(None),
            last_happens: Cell::new(false),
        }
    }

    /// Schedules a kill at the `statements`-th statement from now. If `last_happens`, that statement is still
    /// carried out and only its answer is lost. After the kill, every statement fails.
    pub fn kill_after(&self, statements: u32, last_happens: bool) {
        self.left.set(Some(statements));
        self.last_happens.set(last_happens);
    }

    /// Starts a new process: statements succeed again.
    pub fn revive(&self) {
        self.left.set(None);
    }
}

#[async_trait(?Send)]
impl Database for KillableDatabase {
    async fn execute(&self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Row>, DatabaseError> {
        match self.left.get() {
            Some(0) => return Err(DatabaseError::Failed("killed".into())),
            Some(1) => {
                self.left.set(Some(0));
                if self.last_happens.get() {
                    self.inner.execute(sql, parameters).await?;
                }
                return Err(DatabaseError::Failed("killed".into()));
            }
            Some(left) => self.left.set(Some(left - 1)),
            None => {}
        }
        self.inner.execute(sql, parameters).await
    }
}

/// A key-value store in memory.
#[derive(Debug, Default)]
pub struct MemoryKeyValue(RefCell<HashMap<String, Vec<u8>>>);

#[async_trait(?Send)]
impl KeyValue for MemoryKeyValue {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        Ok(self.0.borrow().get(key).cloned())
    }

    async fn set(&self, key: &str, value: Vec<u8>) -> Result<(), KeyValueError> {
        self.0.borrow_mut().insert(key.to_owned(), value);
        Ok(())
    }
}

/// The messages that were published, as (channel, payload).
#[derive(Debug, Default)]
pub struct Published(pub RefCell<Vec<(String, Vec<u8>)>>);

#[async_trait(?Send)]
impl PubSub for Published {
    async fn publish(&self, channel: &str, payload: Vec<u8>) -> Result<(), PubSubError> {
        self.0.borrow_mut().push((channel.to_owned(), payload));
        Ok(())
    }
}

/// The settings in a map. As in the manifest, `environment` is `development` unless the map has another value.
#[derive(Debug, Default)]
pub struct MapConfig {
    values: HashMap<String, String>,
    unreadable: Vec<String>,
}

impl MapConfig {
    /// Makes settings from a list of names and values.
    pub fn from_pairs(pairs: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            values: pairs.iter().map(owned).collect(),
            unreadable: Vec::new(),
        }
    }

    /// Makes every read of this setting fail.
    #[must_use]
    pub fn with_unreadable(mut self, name: &str) -> Self {
        self.unreadable.push(name.to_owned());
        self
    }
}

impl Config for MapConfig {
    fn read(&self, setting: Setting) -> Result<Option<String>, UnreadableSetting> {
        let name = setting.name();
        if self.unreadable.iter().any(|unreadable| unreadable == name) {
            return Err(UnreadableSetting {
                name,
                reason: "the provider does not answer".into(),
            });
        }
        let default = (name == "environment").then(|| "development".to_owned());
        let value = self.values.get(name).cloned().or(default);
        Ok(value.filter(|value| !value.is_empty()))
    }
}

/// A clock that a test sets. A sleep sets it forward and returns at once.
#[derive(Debug, Default)]
pub struct SetClock(pub Cell<i64>);

#[async_trait(?Send)]
impl Clock for SetClock {
    fn unix_seconds(&self) -> i64 {
        self.0.get()
    }

    async fn sleep(&self, duration: std::time::Duration) {
        self.0.set(self.0.get() + duration.as_secs() as i64);
    }
}

/// A client whose requests a function answers.
pub struct AnswerWith<F>(pub F);

#[async_trait(?Send)]
impl<F> HttpClient for AnswerWith<F>
where
    F: Fn(http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, HttpError>,
{
    async fn send(
        &self,
        request: http::Request<Vec<u8>>,
        _limits: Limits,
    ) -> Result<http::Response<Vec<u8>>, HttpError> {
        (self.0)(request)
    }
}
