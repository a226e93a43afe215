//! The calls that a guest makes: `fermyon:spin/redis@2.0.0`, as much of it as the components use. The linker refuses a
//! component that calls more, by the name of the call.

use std::sync::Arc;

use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};

use super::PORT;
use super::shared::Connections;
use crate::outbound_networking::allowed_hosts::AllowedHosts;
use wit::fermyon::spin::redis;

mod wit {
    #![allow(missing_docs, unreachable_pub)]

    wasmtime::component::bindgen!({
        inline: r#"
            package fermyon:spin@2.0.0;

            interface redis {
                variant error { invalid-address, too-many-connections, type-error, other(string) }
                type payload = list<u8>;
                resource connection {
                    open: static func(address: string) -> result<connection, error>;
                    publish: func(channel: string, payload: payload) -> result<_, error>;
                }
            }

            world calls { import redis; }
        "#,
        imports: { default: async },
        require_store_data_send: true,
        with: { "fermyon:spin/redis.connection": crate::redis::guest::Connection },
    });
}

/// The servers that one component may call.
pub(crate) struct Grant {
    /// The component's id.
    pub(crate) component: String,
    /// The component's `allowed_outbound_hosts`.
    pub(crate) hosts: Arc<AllowedHosts>,
    /// The connections of the app.
    pub(crate) connections: Arc<Connections>,
}

/// The calls of one instance, and its open connections.
pub(crate) struct Calls {
    grant: Arc<Grant>,
    open: ResourceTable,
}

/// An open connection of a guest. It holds only the address, because all guests share the connection itself.
#[allow(unreachable_pub)] // The bindings re-export it.
pub struct Connection {
    address: String,
}

/// Adds the calls to a linker; `calls` finds those of an instance.
pub(crate) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    calls: fn(&mut T) -> &mut Calls,
) -> wasmtime::Result<()> {
    redis::add_to_linker::<T, HasSelf<Calls>>(linker, calls)
}

fn other(error: impl std::fmt::Display) -> redis::Error {
    redis::Error::Other(error.to_string())
}

impl Calls {
    /// The calls of a new instance.
    pub(crate) fn new(grant: &Arc<Grant>) -> Self {
        Self {
            grant: Arc::clone(grant),
            open: ResourceTable::new(),
        }
    }
}

impl redis::Host for Calls {}

impl redis::HostConnection for Calls {
    async fn open(&mut self, address: String) -> Result<Resource<Connection>, redis::Error> {
        let grant = Arc::clone(&self.grant);
        let url = url::Url::parse(&address).map_err(|_| redis::Error::InvalidAddress)?;
        let host = url.host_str().ok_or(redis::Error::InvalidAddress)?;
        // Spin has no default port for `rediss`, so on Spin its address must name one.
        let port = url.port().or(Some(PORT));
        if !grant.hosts.allows(url.scheme(), host, port) {
            tracing::warn!(
                component = grant.component,
                "refused a call to redis at {host}: not in allowed_outbound_hosts"
            );
            return Err(redis::Error::InvalidAddress);
        }
        grant.connections.connect(&address).await.map_err(other)?;
        self.open
            .push(Connection { address })
            .map_err(|_| redis::Error::TooManyConnections)
    }

    async fn publish(
        &mut self,
        this: Resource<Connection>,
        channel: String,
        payload: Vec<u8>,
    ) -> Result<(), redis::Error> {
        let address = match self.open.get(&this) {
            Ok(connection) => connection.address.clone(),
            Err(_) => return Err(other("the connection is not open")),
        };
        let connections = Arc::clone(&self.grant.connections);
        connections
            .publish(&address, &channel, &payload)
            .await
            .map_err(other)
    }

    async fn drop(&mut self, this: Resource<Connection>) -> wasmtime::Result<()> {
        self.open.delete(this)?;
        Ok(())
    }
}
