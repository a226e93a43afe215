//! The part that the whole app shares: one multiplexed connection to each server, for all guests.
//!
//! A call has a time limit, and a broken connection is replaced.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::io::AsyncDNSResolver;
use redis::{AsyncConnectionConfig, ConnectionAddr, ErrorKind, RedisError, RedisFuture};

use crate::outbound_networking::blocked_networks::BlockedNetworks;

/// The time that connecting, and any one call, may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The most connections that stay open. A guest may write the address of one server in many ways.
const MOST: usize = 64;

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
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT));
        if self.own != address {
            // An entry of a manifest means a host and a port, and a socket that is a file has neither.
            if let ConnectionAddr::Unix(_) = client.get_connection_info().addr() {
                return Err(refused("the server is not reached over TCP"));
            }
            config = config.set_dns_resolver(Resolver {
                blocked: self.blocked.clone(),
            });
        }
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let mut open = self.open.lock();
        if open.len() >= MOST {
            // A call that is under way holds its connection, and the next one opens another.
            open.retain(|address, _| *address == self.own);
        }
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

/// Resolves names to addresses that are not in a blocked network. The client connects to these, so a name cannot lead
/// elsewhere after the check.
struct Resolver {
    blocked: BlockedNetworks,
}

impl AsyncDNSResolver for Resolver {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        host: &'b str,
        port: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, port)).await?;
            let found: Vec<SocketAddr> = found.collect();
            let mut addresses = found.iter().map(SocketAddr::ip);
            if addresses.any(|address| self.blocked.blocks(address)) {
                return Err(refused("the server is in a blocked network"));
            }
            // The client panics if it gets no address.
            if found.is_empty() {
                return Err(refused("the server's name has no address"));
            }
            Ok(Box::new(found.into_iter()) as Box<dyn Iterator<Item = SocketAddr> + Send>)
        })
    }
}

fn refused(why: &'static str) -> RedisError {
    RedisError::from((ErrorKind::InvalidClientConfig, why))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::broker::Broker;

    fn connections(blocked: BlockedNetworks) -> Connections {
        Connections::new(blocked, "redis://127.0.0.1:1".into())
    }

    /// Starts a broker and answers its URL.
    async fn start() -> String {
        let broker = Broker::open().await.unwrap();
        let url = broker.url();
        tokio::spawn(broker.serve());
        url
    }

    #[tokio::test]
    async fn a_socket_that_is_a_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("redis.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let connections = connections(BlockedNetworks::default());
        for scheme in ["unix", "redis+unix", "valkey+unix"] {
            let address = format!("{scheme}://localhost{}", path.display());
            let refused = connections.connect(&address).await;
            let error = refused.err().unwrap().to_string();
            assert!(error.contains("not reached over TCP"), "{address}: {error}");
        }
    }

    #[tokio::test]
    async fn the_client_connects_to_the_addresses_that_were_checked() {
        let url = start().await;
        let port = url.rsplit_once(':').unwrap().1;
        let url = format!("redis://localhost:{port}");
        let open = connections(BlockedNetworks::default()).connect(&url).await;
        assert!(open.is_ok(), "{:?}", open.err());
        let networks = "block_networks = [\"127.0.0.0/8\", \"::1\"]";
        let networks = networks.parse::<toml::Table>().unwrap();
        let blocked = BlockedNetworks::parse(networks.into()).unwrap();
        let refused = connections(blocked).connect(&url).await;
        let error = refused.err().unwrap().to_string();
        assert!(error.contains("in a blocked network"), "{error}");
    }

    #[tokio::test]
    async fn the_connections_that_stay_open_are_bounded() {
        let url = start().await;
        let connections = Connections::new(BlockedNetworks::default(), url.clone());
        connections.connect(&url).await.unwrap();
        for database in 0..2 * MOST {
            let address = format!("{url}/{database}");
            connections.connect(&address).await.unwrap();
            let open = connections.open.lock();
            assert!(open.len() <= MOST && open.contains_key(&url), "{address}");
        }
    }
}
