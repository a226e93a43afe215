//! The part that the whole app shares: the clients of the network, and the application itself as a server.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
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
    /// The client for hosts that a component's `allowed_outbound_hosts` names.
    pub(crate) named: NetworkClient,
    /// The client for hosts that only a wildcard allows.
    pub(crate) any: NetworkClient,
    /// The application's own address.
    pub(crate) address: SocketAddr,
    /// Counts requests to the network, if another host does.
    pub(crate) count: Option<Hourly>,
    application: OnceLock<Weak<dyn Application>>,
}

/// Counts events within an hour.
#[derive(Debug)]
pub(crate) struct Hourly {
    most: u32,
    hour: Mutex<(Instant, u32)>,
}

/// The time for which requests are counted.
const HOUR: Duration = Duration::from_secs(3600);

impl Hourly {
    /// Starts a count with the limit `most`.
    pub(crate) fn new(most: u32) -> Self {
        Self {
            most,
            hour: Mutex::new((Instant::now(), 0)),
        }
    }

    /// Counts one more event. The first one beyond the limit is logged, and so is the count of an hour, at the first
    /// event after it.
    pub(crate) fn count(&self, now: Instant) {
        let mut hour = self.hour.lock();
        let (began, count) = &mut *hour;
        if now.saturating_duration_since(*began) >= HOUR {
            tracing::info!(
                count,
                most = self.most,
                "the app sent this many requests to other hosts in an hour"
            );
            (*began, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        if *count == self.most.saturating_add(1) {
            tracing::warn!(
                most = self.most,
                "the app sends more requests to other hosts in an hour than its host allows"
            );
        }
    }
}

impl Destinations {
    /// Makes clients that do not reach blocked networks, for an application at `address`. Requests to the network are
    /// counted if another host allows only `most_an_hour`.
    pub(crate) fn new(blocked: Blocked, address: SocketAddr, most_an_hour: Option<u32>) -> Self {
        Self {
            count: most_an_hour.map(Hourly::new),
            named: client(blocked.by_name),
            any: client(blocked.by_wildcard),
            address,
            application: OnceLock::new(),
        }
    }

    /// Sets the application that the components call as their own, once it is there.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_has_its_own_count() {
        let hourly = Hourly::new(2);
        let start = hourly.hour.lock().0;
        for expected in 1..=3 {
            hourly.count(start);
            assert_eq!(hourly.hour.lock().1, expected);
        }
        hourly.count(start + HOUR);
        assert_eq!(*hourly.hour.lock(), (start + HOUR, 1));
    }
}
