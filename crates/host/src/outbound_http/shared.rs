//! What the app shares: the clients of the network, and the application itself as a server.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use http::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use wasmtime_wasi_http::WasiBody;

use super::connector::Connector;
use crate::outbound_networking::blocked_networks::{Blocked, BlockedNetworks};

/// A client of the network, with a pool of connections.
pub(crate) type NetworkClient = Client<Connector, WasiBody>;

/// A response on its way.
pub(crate) type Answer<'a> = Pin<Box<dyn Future<Output = Response<WasiBody>> + Send + 'a>>;

/// The application as a server.
pub(crate) trait Application: Send + Sync {
    /// Answers a request of one of the application's own components; `client` is the address that the request comes from.
    fn answer_own(
        self: Arc<Self>,
        request: Request<WasiBody>,
        client: SocketAddr,
    ) -> Answer<'static>;
}

/// The places that requests of guests go to.
pub(crate) struct Destinations {
    /// For hosts that a component's `allowed_outbound_hosts` names.
    pub(crate) named: NetworkClient,
    /// For hosts that only a wildcard allows.
    pub(crate) any: NetworkClient,
    /// The application's own address.
    pub(crate) address: SocketAddr,
    application: OnceLock<Weak<dyn Application>>,
}

impl Destinations {
    /// Clients that do not reach blocked networks, and an application at `address`.
    pub(crate) fn new(blocked: Blocked, address: SocketAddr) -> Self {
        Self {
            named: client(blocked.by_name),
            any: client(blocked.by_wildcard),
            address,
            application: OnceLock::new(),
        }
    }

    /// Gives the components their own application to call, once it is there.
    pub(crate) fn set_application(&self, application: Weak<dyn Application>) {
        self.application.get_or_init(|| application);
    }

    /// The application. A call to it stays in this process, so it is answered even while the host stops and its
    /// instances finish their work.
    pub(crate) fn application(&self) -> Option<Arc<dyn Application>> {
        self.application.get().and_then(Weak::upgrade)
    }
}

fn client(blocked: BlockedNetworks) -> NetworkClient {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(16)
        .build(Connector::new(blocked))
}
