//! The ports on the host interfaces of `fermyon:spin@2.0.0`.

use async_trait::async_trait;
use platform::{
    Config, Database, DatabaseError, HttpClient, HttpError, KeyValue, KeyValueError, LazyDatabase,
    Opening, Ports, PubSub, PubSubError, Row, Setting, UnreadableSetting, Value,
    clock::SystemClock, config::ReadOnce, http_client::Limits, migrations, pubsub::REDIS_URL,
};
use spin_sdk::{key_value::Store, redis, variables};

use super::{
    database::{self, SpinDatabase},
    http_client::SpinHttpClient,
};
use crate::Routes;

/// Opens the database, with its schema up to date if that is to be checked.
async fn open(schema: Schema) -> Result<SpinDatabase, DatabaseError> {
    let database = database::open(&SpinConfig)?;
    if schema == Schema::Checked {
        migrations::apply(&database, &SystemClock).await?;
    }
    Ok(database)
}

/// The key-value store `default`. It is opened when it is used.
#[derive(Debug, Clone, Copy, Default)]
struct SpinKeyValue;

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
}

/// The connection to Redis at the address in the setting `redis_url`. It is opened when it is first used.
#[derive(Default)]
struct SpinPubSub {
    connection: std::cell::OnceCell<redis::Connection>,
}

#[async_trait(?Send)]
impl PubSub for SpinPubSub {
    async fn publish(&self, channel: &str, payload: Vec<u8>) -> Result<(), PubSubError> {
        let failed = |error: redis::Error| {
            PubSubError(match error {
                redis::Error::InvalidAddress => format!(
                    "the host does not let the app call the address in `{REDIS_URL}`; \
                     `redis_origin` must be its scheme, host and port"
                ),
                error => error.to_string(),
            })
        };
        let connection = match self.connection.get() {
            Some(connection) => connection,
            None => {
                let address = SpinConfig.read(REDIS_URL);
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
struct SpinConfig;

impl Config for SpinConfig {
    fn read(&self, setting: Setting) -> Result<Option<String>, UnreadableSetting> {
        match variables::get(setting.name()) {
            Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
            // This includes a variable that the component does not list, because it may be set all the same.
            Err(error) => Err(UnreadableSetting {
                name: setting.name(),
                reason: error.to_string(),
            }),
        }
    }
}

/// Says whether the schema of the database is checked before the first statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Schema {
    /// The schema is checked, and brought up to date.
    Checked,
    /// The schema is not checked, which saves a statement.
    Trusted,
}

/// The ports of a component.
pub(super) struct SpinPorts {
    database: LazyDatabase<SpinDatabase, Box<dyn Fn() -> Opening<SpinDatabase>>>,
    pubsub: SpinPubSub,
    config: ReadOnce<SpinConfig>,
}

impl SpinPorts {
    /// Makes the ports. None is opened or read before it is used.
    pub(super) fn new(schema: Schema) -> Self {
        Self {
            database: LazyDatabase::new(Box::new(move || Box::pin(open(schema)))),
            pubsub: SpinPubSub::default(),
            config: ReadOnce::new(SpinConfig),
        }
    }

    /// Makes the ports of a request: those that its component needs.
    pub(super) fn of_request<R: Routes>(&self) -> Ports<'_> {
        if R::NEEDS.ports {
            Ports {
                http: &SpinHttpClient,
                ..self.of_message()
            }
        } else {
            Ports {
                database: &Absent,
                key_value: &Absent,
                pubsub: &Absent,
                http: &Absent,
                config: &self.config,
                clock: &SystemClock,
            }
        }
    }

    /// Makes the ports of a message. Its handler sends no requests, and without the HTTP client the component is a
    /// tenth smaller.
    pub(super) fn of_message(&self) -> Ports<'_> {
        Ports {
            database: &self.database,
            key_value: &SpinKeyValue,
            pubsub: &self.pubsub,
            http: &Absent,
            config: &self.config,
            clock: &SystemClock,
        }
    }
}

/// A port that the component does not have.
struct Absent;

const ABSENT: &str = "this component has no such port";

#[async_trait(?Send)]
impl Database for Absent {
    async fn execute(&self, _: &str, _: Vec<Value>) -> Result<Vec<Row>, DatabaseError> {
        Err(DatabaseError::Failed(ABSENT.into()))
    }
}

#[async_trait(?Send)]
impl KeyValue for Absent {
    async fn get(&self, _: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        Err(KeyValueError(ABSENT.into()))
    }

    async fn set(&self, _: &str, _: Vec<u8>) -> Result<(), KeyValueError> {
        Err(KeyValueError(ABSENT.into()))
    }
}

#[async_trait(?Send)]
impl PubSub for Absent {
    async fn publish(&self, _: &str, _: Vec<u8>) -> Result<(), PubSubError> {
        Err(PubSubError(ABSENT.into()))
    }
}

#[async_trait(?Send)]
impl HttpClient for Absent {
    async fn send(
        &self,
        _: http::Request<Vec<u8>>,
        _: Limits,
    ) -> Result<http::Response<Vec<u8>>, HttpError> {
        Err(HttpError::NotSent(ABSENT.into()))
    }
}
