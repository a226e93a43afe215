//! The Spin adapters: the ports on the host interfaces of `fermyon:spin@2.0.0` and `wasi:http@0.2`,
//! and what every component with an HTTP trigger needs.

mod http_client;
mod reply;
mod request;
mod sleep;

use async_trait::async_trait;
use spin_sdk::{key_value::Store, redis, sqlite, variables};
use tracing::Level;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt};

use crate::{
    Config, Database, DatabaseError, KeyValue, KeyValueError, Ports, PubSub, PubSubError, Row,
    UnreadableSetting, Value, clock::SystemClock, migrations,
};

pub use http_client::SpinHttpClient;
pub use reply::Reply;
pub use request::{Incoming, Query, names_tag};
pub(crate) use sleep::sleep;

/// The database `default`.
pub struct SpinDatabase(sqlite::Connection);

impl SpinDatabase {
    /// Opens it.
    ///
    /// # Errors
    /// When the host has none, or the component may not use it.
    pub fn open() -> Result<Self, DatabaseError> {
        sqlite::Connection::open_default()
            .map(Self)
            .map_err(database_failed)
    }
}

fn database_failed(error: sqlite::Error) -> DatabaseError {
    DatabaseError::Failed(match error {
        sqlite::Error::Io(words) => words,
        other => other.to_string(),
    })
}

#[async_trait(?Send)]
impl Database for SpinDatabase {
    async fn execute(&self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Row>, DatabaseError> {
        let parameters: Vec<sqlite::Value> = parameters
            .into_iter()
            .map(|value| match value {
                Value::Integer(value) => sqlite::Value::Integer(value),
                Value::Real(value) => sqlite::Value::Real(value),
                Value::Text(value) => sqlite::Value::Text(value),
                Value::Blob(value) => sqlite::Value::Blob(value),
                Value::Null => sqlite::Value::Null,
            })
            .collect();
        let result = self.0.execute(sql, &parameters).map_err(database_failed)?;
        Ok(result
            .rows
            .into_iter()
            .map(|row| {
                Row(row
                    .values
                    .into_iter()
                    .map(|value| match value {
                        sqlite::Value::Integer(value) => Value::Integer(value),
                        sqlite::Value::Real(value) => Value::Real(value),
                        sqlite::Value::Text(value) => Value::Text(value),
                        sqlite::Value::Blob(value) => Value::Blob(value),
                        sqlite::Value::Null => Value::Null,
                    })
                    .collect())
            })
            .collect())
    }
}

/// The store `default`. It is opened when it is used.
#[derive(Debug, Clone, Copy, Default)]
pub struct SpinKeyValue;

fn store() -> Result<Store, KeyValueError> {
    Store::open_default().map_err(key_value_failed)
}

fn key_value_failed(error: spin_sdk::key_value::Error) -> KeyValueError {
    KeyValueError(error.to_string())
}

#[async_trait(?Send)]
impl KeyValue for SpinKeyValue {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        store()?.get(key).map_err(key_value_failed)
    }

    async fn set(&self, key: &str, value: Vec<u8>) -> Result<(), KeyValueError> {
        store()?.set(key, &value).map_err(key_value_failed)
    }

    async fn delete(&self, key: &str) -> Result<(), KeyValueError> {
        store()?.delete(key).map_err(key_value_failed)
    }
}

/// Redis at the address in the setting `redis_url`. It connects when it is first used.
#[derive(Default)]
pub struct SpinPubSub {
    connection: std::cell::OnceCell<redis::Connection>,
}

#[async_trait(?Send)]
impl PubSub for SpinPubSub {
    async fn publish(&self, channel: &str, payload: Vec<u8>) -> Result<(), PubSubError> {
        let failed = |error: redis::Error| PubSubError(error.to_string());
        let connection = match self.connection.get() {
            Some(connection) => connection,
            None => {
                let address = SpinConfig.read("redis_url");
                let Some(address) = address.map_err(|error| PubSubError(error.to_string()))? else {
                    return Ok(());
                };
                let connection = redis::Connection::open(&address).map_err(failed)?;
                self.connection.get_or_init(|| connection)
            }
        };
        connection.publish(channel, &payload).map_err(failed)
    }
}

/// The variables of the component.
#[derive(Debug, Clone, Copy, Default)]
pub struct SpinConfig;

impl Config for SpinConfig {
    fn read(&self, name: &str) -> Result<Option<String>, UnreadableSetting> {
        match variables::get(name) {
            Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
            // Also one that the component does not list: it may be set all the same.
            Err(error) => Err(UnreadableSetting {
                name: name.to_owned(),
                reason: error.to_string(),
            }),
        }
    }
}

/// The ports of a component with a database.
pub struct SpinPorts {
    /// The database `default`.
    pub database: SpinDatabase,
    /// Redis.
    pub pubsub: SpinPubSub,
}

impl SpinPorts {
    /// Opens the database and brings its schema up to date.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open() -> Result<Self, DatabaseError> {
        let ports = Self::open_unchecked()?;
        migrations::apply(&ports.database, &SystemClock).await?;
        Ok(ports)
    }

    /// Opens the database as it is, where one more statement shows.
    ///
    /// # Errors
    /// When the database fails.
    pub fn open_unchecked() -> Result<Self, DatabaseError> {
        Ok(Self {
            database: SpinDatabase::open()?,
            pubsub: SpinPubSub::default(),
        })
    }

    /// All of them.
    pub fn all(&self) -> Ports<'_> {
        Ports {
            database: &self.database,
            key_value: &SpinKeyValue,
            pubsub: &self.pubsub,
            http: &SpinHttpClient,
            config: &SpinConfig,
            clock: &SystemClock,
        }
    }
}

/// Sends the log lines of our own crates to the component's standard error. Call it once, first.
pub fn log_to_stderr() {
    // Loro's own lines and spans cost time, and may quote a document.
    let ours = Targets::new().with_targets(
        [
            "auth",
            "events",
            "platform",
            "poller",
            "projection",
            "projects",
            "rooms",
            "sync",
            "tasks",
            "tasks_api",
            "webhooks",
            "wire",
        ]
        .map(|name| (name, Level::INFO)),
    );
    let subscriber = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // The host knows the time.
        .without_time()
        .finish()
        .with(ours);
    // A second call in one instance changes nothing.
    let _ = tracing::subscriber::set_global_default(subscriber);
}
