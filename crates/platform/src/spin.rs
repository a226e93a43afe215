//! The Spin adapters: the ports on the host interfaces of `fermyon:spin@2.0.0` and `wasi:http@0.2`.

use spin_sdk::{
    http::{ErrorCode, Request, Response, SendError},
    key_value::Store,
    redis, sqlite, variables,
};

use tracing::Level;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt};

use crate::{
    Config, Database, DatabaseError, HttpClient, HttpError, KeyValue, KeyValueError, PubSub,
    PubSubError, Row, Value,
};

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

/// The store `default`.
pub struct SpinKeyValue(Store);

impl SpinKeyValue {
    /// Opens it.
    ///
    /// # Errors
    /// When the host has none, or the component may not use it.
    pub fn open() -> Result<Self, KeyValueError> {
        Store::open_default().map(Self).map_err(key_value_failed)
    }
}

fn key_value_failed(error: spin_sdk::key_value::Error) -> KeyValueError {
    KeyValueError(error.to_string())
}

impl KeyValue for SpinKeyValue {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        self.0.get(key).map_err(key_value_failed)
    }

    async fn set(&self, key: &str, value: Vec<u8>) -> Result<(), KeyValueError> {
        self.0.set(key, &value).map_err(key_value_failed)
    }

    async fn delete(&self, key: &str) -> Result<(), KeyValueError> {
        self.0.delete(key).map_err(key_value_failed)
    }
}

/// Redis at the address in the setting `redis_url`. It connects when it is first used.
#[derive(Default)]
pub struct SpinPubSub {
    connection: std::cell::OnceCell<redis::Connection>,
}

impl PubSub for SpinPubSub {
    async fn publish(&self, channel: &str, payload: Vec<u8>) -> Result<(), PubSubError> {
        let failed = |error: redis::Error| PubSubError(error.to_string());
        let connection = match self.connection.get() {
            Some(connection) => connection,
            None => {
                let Some(address) = SpinConfig.get("redis_url") else {
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
    fn get(&self, name: &str) -> Option<String> {
        variables::get(name).ok().filter(|value| !value.is_empty())
    }
}

/// Outbound HTTP, as far as `allowed_outbound_hosts` allows it.
#[derive(Debug, Clone, Copy, Default)]
pub struct SpinHttpClient;

impl HttpClient for SpinHttpClient {
    async fn send(
        &self,
        request: http::Request<Vec<u8>>,
    ) -> Result<http::Response<Vec<u8>>, HttpError> {
        let (parts, body) = request.into_parts();
        let mut outgoing = Request::builder();
        outgoing
            .method(match parts.method {
                http::Method::POST => spin_sdk::http::Method::Post,
                http::Method::PUT => spin_sdk::http::Method::Put,
                http::Method::PATCH => spin_sdk::http::Method::Patch,
                http::Method::DELETE => spin_sdk::http::Method::Delete,
                http::Method::HEAD => spin_sdk::http::Method::Head,
                _ => spin_sdk::http::Method::Get,
            })
            .uri(parts.uri.to_string())
            .body(body);
        for (name, value) in &parts.headers {
            if let Ok(value) = value.to_str() {
                outgoing.header(name.as_str(), value);
            }
        }
        let response: Response = spin_sdk::http::send(outgoing.build())
            .await
            .map_err(no_answer)?;
        let mut answer = http::Response::builder().status(*response.status());
        for (name, value) in response.headers() {
            answer = answer.header(name, value.as_bytes());
        }
        answer
            .body(response.into_body())
            .map_err(|error| HttpError::NoAnswer(error.to_string()))
    }
}

fn no_answer(error: SendError) -> HttpError {
    match error {
        SendError::Http(
            code @ (ErrorCode::HttpRequestDenied
            | ErrorCode::HttpRequestUriInvalid
            | ErrorCode::DestinationNotFound
            | ErrorCode::DestinationUnavailable
            | ErrorCode::DestinationIpProhibited
            | ErrorCode::DestinationIpUnroutable
            | ErrorCode::ConnectionRefused),
        ) => HttpError::NotSent(code.to_string()),
        other => HttpError::NoAnswer(other.to_string()),
    }
}

/// Sends the log lines of our own crates to the component's standard error. Call it once, first.
pub fn log_to_stderr() {
    // Loro's own lines and spans cost time, and may quote a document.
    let ours = Targets::new().with_targets(
        ["auth", "platform", "rooms", "sync", "wire"].map(|name| (name, Level::INFO)),
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
