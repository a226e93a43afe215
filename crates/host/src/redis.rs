//! Redis for guests: `fermyon:spin/redis@2.0.0`.
//!
//! All guests share one multiplexed connection per address. Every call has a time limit, and a
//! connection that broke is made anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, RedisError};
use wasmtime::component::Resource;

use crate::bindings::redis as wit;
use crate::guest::Guest;
use crate::networks::BlockedNetworks;

/// How long connecting, and any one call, may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The connections to Redis servers, by address.
#[derive(Default)]
pub struct Connections {
    open: Mutex<HashMap<String, MultiplexedConnection>>,
    blocked: BlockedNetworks,
    /// The operator's own server, which `blocked` is not about.
    own: Option<String>,
}

/// An open connection of a guest: the address, for the connection itself is shared.
pub struct Connection {
    address: String,
}

impl Connections {
    /// No connections yet; servers in `blocked` networks are refused, but for `own`.
    pub fn new(blocked: BlockedNetworks, own: Option<String>) -> Self {
        Self {
            open: Mutex::default(),
            blocked,
            own,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, MultiplexedConnection>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self, address: &str) -> Result<MultiplexedConnection, RedisError> {
        if let Some(connection) = self.lock().get(address) {
            return Ok(connection.clone());
        }
        let client = redis::Client::open(address)?;
        if self.own.as_deref() != Some(address)
            && let redis::ConnectionAddr::Tcp(host, port) = client.get_connection_info().addr()
        {
            let mut found = tokio::net::lookup_host((host.as_str(), *port)).await?;
            if found.any(|address| self.blocked.blocks(address.ip())) {
                return Err(RedisError::from((
                    ErrorKind::InvalidClientConfig,
                    "the server is in a blocked network",
                )));
            }
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT));
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        self.lock().insert(address.to_owned(), connection.clone());
        Ok(connection)
    }

    /// Sends a command; over a new connection if the shared one turns out to be gone.
    async fn call<T: FromRedisValue>(
        &self,
        address: &str,
        command: &Cmd,
        again: bool,
    ) -> Result<T, RedisError> {
        let mut connection = self.connect(address).await?;
        let result = command.query_async(&mut connection).await;
        match result {
            Err(error) if broken(&error) => {
                self.lock().remove(address);
                if !again {
                    return Err(error);
                }
                let mut connection = self.connect(address).await?;
                command.query_async(&mut connection).await
            }
            result => result,
        }
    }
}

fn broken(error: &RedisError) -> bool {
    error.is_connection_dropped() || error.is_unrecoverable_error() || error.is_io_error()
}

fn error(error: RedisError) -> wit::Error {
    match error.kind() {
        ErrorKind::UnexpectedReturnType | ErrorKind::Parse => wit::Error::TypeError,
        _ => wit::Error::Other(error.to_string()),
    }
}

/// What a guest's own command answered, flattened as Spin flattens it.
struct Results(Vec<wit::RedisResult>);

impl FromRedisValue for Results {
    fn from_redis_value(value: redis::Value) -> Result<Self, redis::ParsingError> {
        fn flatten(
            value: redis::Value,
            results: &mut Vec<wit::RedisResult>,
        ) -> Result<(), redis::ParsingError> {
            match value {
                redis::Value::Nil => results.push(wit::RedisResult::Nil),
                redis::Value::Int(value) => results.push(wit::RedisResult::Int64(value)),
                redis::Value::BulkString(bytes) => results.push(wit::RedisResult::Binary(bytes)),
                redis::Value::SimpleString(text) => results.push(wit::RedisResult::Status(text)),
                redis::Value::Okay => results.push(wit::RedisResult::Status("OK".into())),
                redis::Value::Boolean(value) => results.push(wit::RedisResult::Int64(value.into())),
                redis::Value::Array(values) | redis::Value::Set(values) => {
                    for value in values {
                        flatten(value, results)?;
                    }
                }
                redis::Value::Map(pairs) => {
                    for (key, value) in pairs {
                        flatten(key, results)?;
                        flatten(value, results)?;
                    }
                }
                other => return Err(format!("no place for a {other:?} in the result").into()),
            }
            Ok(())
        }
        let mut results = Vec::new();
        flatten(value, &mut results)?;
        Ok(Self(results))
    }
}

impl Guest {
    async fn redis<T: FromRedisValue>(
        &mut self,
        connection: &Resource<wit::Connection>,
        command: Cmd,
        again: bool,
    ) -> Result<T, wit::Error> {
        let address = match self.table.get(connection) {
            Ok(connection) => connection.address.clone(),
            Err(_) => return Err(wit::Error::Other("the connection is not open".into())),
        };
        let shared = Arc::clone(&self.program.shared);
        shared
            .redis
            .call(&address, &command, again)
            .await
            .map_err(error)
    }
}

impl wit::Host for Guest {}

impl wit::HostConnection for Guest {
    async fn open(&mut self, address: String) -> Result<Resource<wit::Connection>, wit::Error> {
        let url = url::Url::parse(&address).map_err(|_| wit::Error::InvalidAddress)?;
        let host = url.host_str().ok_or(wit::Error::InvalidAddress)?;
        if !self.program.hosts.allows(url.scheme(), host, url.port()) {
            tracing::warn!(
                component = self.program.id,
                "refused a call to redis at {host}: not in allowed_outbound_hosts"
            );
            return Err(wit::Error::InvalidAddress);
        }
        let shared = Arc::clone(&self.program.shared);
        shared.redis.connect(&address).await.map_err(error)?;
        self.table
            .push(Connection { address })
            .map_err(|_| wit::Error::TooManyConnections)
    }

    async fn publish(
        &mut self,
        this: Resource<wit::Connection>,
        channel: String,
        payload: Vec<u8>,
    ) -> Result<(), wit::Error> {
        let mut command = redis::cmd("PUBLISH");
        command.arg(channel).arg(payload);
        self.redis::<i64>(&this, command, true).await.map(drop)
    }

    async fn get(
        &mut self,
        this: Resource<wit::Connection>,
        key: String,
    ) -> Result<Option<Vec<u8>>, wit::Error> {
        let mut command = redis::cmd("GET");
        command.arg(key);
        self.redis(&this, command, true).await
    }

    async fn set(
        &mut self,
        this: Resource<wit::Connection>,
        key: String,
        value: Vec<u8>,
    ) -> Result<(), wit::Error> {
        let mut command = redis::cmd("SET");
        command.arg(key).arg(value);
        self.redis(&this, command, true).await
    }

    async fn incr(
        &mut self,
        this: Resource<wit::Connection>,
        key: String,
    ) -> Result<i64, wit::Error> {
        let mut command = redis::cmd("INCR");
        command.arg(key);
        self.redis(&this, command, false).await
    }

    async fn del(
        &mut self,
        this: Resource<wit::Connection>,
        keys: Vec<String>,
    ) -> Result<u32, wit::Error> {
        let mut command = redis::cmd("DEL");
        command.arg(keys);
        self.redis(&this, command, false).await
    }

    async fn sadd(
        &mut self,
        this: Resource<wit::Connection>,
        key: String,
        values: Vec<String>,
    ) -> Result<u32, wit::Error> {
        let mut command = redis::cmd("SADD");
        command.arg(key).arg(values);
        self.redis(&this, command, false).await
    }

    async fn smembers(
        &mut self,
        this: Resource<wit::Connection>,
        key: String,
    ) -> Result<Vec<String>, wit::Error> {
        let mut command = redis::cmd("SMEMBERS");
        command.arg(key);
        self.redis(&this, command, true).await
    }

    async fn srem(
        &mut self,
        this: Resource<wit::Connection>,
        key: String,
        values: Vec<String>,
    ) -> Result<u32, wit::Error> {
        let mut command = redis::cmd("SREM");
        command.arg(key).arg(values);
        self.redis(&this, command, false).await
    }

    async fn execute(
        &mut self,
        this: Resource<wit::Connection>,
        name: String,
        arguments: Vec<wit::RedisParameter>,
    ) -> Result<Vec<wit::RedisResult>, wit::Error> {
        let mut command = redis::cmd(&name);
        for argument in arguments {
            match argument {
                wit::RedisParameter::Int64(value) => command.arg(value),
                wit::RedisParameter::Binary(value) => command.arg(value),
            };
        }
        self.redis::<Results>(&this, command, false)
            .await
            .map(|results| results.0)
    }

    async fn drop(&mut self, this: Resource<wit::Connection>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
