//! The part that the whole app shares: one multiplexed connection to each server, for all guests.
//!
//! A call has a time limit, and a broken connection is replaced.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, RedisError};

use crate::outbound_networking::blocked_networks::BlockedNetworks;

/// The time that connecting, and any one call, may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The connections to Redis servers, by address.
pub(crate) struct Connections {
    open: Mutex<HashMap<String, MultiplexedConnection>>,
    blocked: BlockedNetworks,
    /// The operator's own server, which may be in a blocked network.
    own: String,
}

impl Connections {
    /// Starts without connections. Servers in `blocked` networks are refused, except `own`.
    pub(crate) fn new(blocked: BlockedNetworks, own: String) -> Self {
        Self {
            open: Mutex::default(),
            blocked,
            own,
        }
    }

    /// Connects to the server at `address`, unless a connection is open already.
    pub(crate) async fn connect(&self, address: &str) -> Result<MultiplexedConnection, RedisError> {
        if let Some(connection) = self.open.lock().get(address) {
            return Ok(connection.clone());
        }
        let client = redis::Client::open(address)?;
        if self.own != address
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
        let mut open = self.open.lock();
        open.insert(address.to_owned(), connection.clone());
        Ok(connection)
    }

    /// Publishes a message, once more over a new connection if the shared one turns out to be broken.
    pub(crate) async fn publish(
        &self,
        address: &str,
        channel: &str,
        payload: &[u8],
    ) -> Result<(), RedisError> {
        let mut command = redis::cmd("PUBLISH");
        command.arg(channel).arg(payload);
        let mut connection = self.connect(address).await?;
        match command.query_async::<i64>(&mut connection).await {
            Err(error) if is_broken(&error) => {
                self.open.lock().remove(address);
                let mut connection = self.connect(address).await?;
                command.query_async::<i64>(&mut connection).await.map(drop)
            }
            result => result.map(drop),
        }
    }
}

fn is_broken(error: &RedisError) -> bool {
    error.is_connection_dropped() || error.is_unrecoverable_error() || error.is_io_error()
}

/// Checks at the start that a server answers.
///
/// # Errors
/// If the address is malformed, or if the server does not answer in time.
pub(crate) async fn check(url: &str) -> Result<()> {
    // Neither the address nor the error is shown, because an address that cannot be read may hold a password anywhere.
    let client = redis::Client::open(url).map_err(|_| {
        anyhow!(
            "the address of Redis cannot be read: it is redis://USER:PASSWORD@HOST:PORT, with special characters of the \
             user and the password percent-encoded (`#` is %23, `/` is %2F)"
        )
    })?;
    let shown = without_password(url);
    let ping = async {
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd("PING").query_async::<()>(&mut connection).await
    };
    match tokio::time::timeout(TIMEOUT, ping).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => bail!("redis {shown} cannot be reached: {error}"),
        Err(_) => bail!("redis {shown} cannot be reached: no answer in {TIMEOUT:?}"),
    }
}

/// A server's URL as a log may show it.
pub(crate) fn without_password(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(mut url) if url.password().is_some() => {
            if url.set_password(Some("***")).is_ok() {
                url.to_string()
            } else {
                "redis".to_owned()
            }
        }
        _ => url.to_owned(),
    }
}
