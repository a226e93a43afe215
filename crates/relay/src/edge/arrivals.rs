//! The places of connections: those that are new, and those that were let in.
//!
//! A connection is new until the app has named its client: with the answer to a request, or to an upgrade. New
//! connections of one address are bounded, and so are all new ones together, so that a reserve is left for those that
//! were let in. A connection beyond its address's share waits briefly, because clients of one office may come all at
//! once; it reads nothing meanwhile.
//!
//! Behind a trusted proxy the address of a connection is the proxy's, and one connection carries requests of many
//! clients. So there only the bound of all new connections holds for the connection itself; the share of an address is
//! taken for each upgrade, once its head has named the client, and until the client is let in.

use crate::edge::address::network;
use crate::edge::shares::{Share, Shares};
use crate::settings::Settings;
use parking_lot::Mutex;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The number of connections for plain requests, beyond those of WebSockets and of requests that wait.
const PLAIN_CONNECTIONS: usize = 1024;

/// The part of the connections that may be new: one in this many.
const NEW_SHARE: usize = 4;

/// The number of connections that may wait for a place at once.
const WAITING: usize = 1024;

/// The time that a connection waits for a place. A crowd behind one address, such as an office after a restart, takes
/// seconds to be let in.
const PATIENCE: Duration = Duration::from_secs(5);

/// The places of all connections.
pub(crate) struct Arrivals {
    slots: Arc<Semaphore>,
    new: Arc<Semaphore>,
    addresses: Shares<IpAddr>,
    waiting: Semaphore,
    patience: Duration,
    trust_forwarded: bool,
}

/// The number of connections that the settings ask for.
pub(crate) fn wanted(settings: &Settings) -> usize {
    settings.max_connections + settings.max_waiters + PLAIN_CONNECTIONS
}

impl Arrivals {
    /// Makes places for this many connections.
    pub(crate) fn new(settings: &Settings, connections: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(connections)),
            new: Arc::new(Semaphore::new(connections.div_ceil(NEW_SHARE))),
            addresses: Shares::new(settings.connections_per_address),
            waiting: Semaphore::new(WAITING),
            patience: PATIENCE,
            trust_forwarded: settings.trust_forwarded,
        }
    }

    /// Takes the slot of a connection that was accepted; `None` if the relay holds as many as it may.
    pub(crate) fn slot(&self) -> Option<OwnedSemaphorePermit> {
        self.slots.clone().try_acquire_owned().ok()
    }

    /// Takes the place of a new connection; `None` if none becomes free in good time.
    pub(crate) async fn arrive(&self, slot: OwnedSemaphorePermit, peer: IpAddr) -> Option<Arrival> {
        let key = (!self.trust_forwarded).then(|| network(peer));
        let new = match self.try_enter(key) {
            Some(new) => new,
            None => {
                let _turn = self.waiting.try_acquire().ok()?;
                timeout(self.patience, self.enter(key)).await.ok()??
            }
        };
        Some(Arrival {
            _slot: slot,
            new: Mutex::new(Some(new)),
        })
    }

    fn try_enter(&self, key: Option<IpAddr>) -> Option<New> {
        let address = match key {
            Some(key) => Some(self.addresses.try_take(key)?),
            None => None,
        };
        let place = self.new.clone().try_acquire_owned().ok()?;
        Some(New {
            _address: address,
            _place: place,
        })
    }

    async fn enter(&self, key: Option<IpAddr>) -> Option<New> {
        let address = match key {
            Some(key) => Some(self.addresses.take(key).await),
            None => None,
        };
        // The semaphore is never closed.
        let place = self.new.clone().acquire_owned().await.ok()?;
        Some(New {
            _address: address,
            _place: place,
        })
    }

    /// Takes the share of a client that a trusted proxy has named, for as long as it is not let in.
    ///
    /// # Errors
    /// If the address has as many as it may.
    pub(crate) fn named(&self, client: IpAddr) -> Result<Option<Share<IpAddr>>, Full> {
        if !self.trust_forwarded {
            return Ok(None);
        }
        self.addresses
            .try_take(network(client))
            .map(Some)
            .ok_or(Full)
    }
}

/// The error that an address has as many new connections as it may.
pub(crate) struct Full;

/// The place of one connection.
pub(crate) struct Arrival {
    _slot: OwnedSemaphorePermit,
    new: Mutex<Option<New>>,
}

struct New {
    _address: Option<Share<IpAddr>>,
    _place: OwnedSemaphorePermit,
}

impl Arrival {
    /// Notes that the app has named the client, so the connection is no longer new.
    pub(crate) fn let_in(&self) {
        self.new.lock().take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(per_address: usize, connections: usize) -> Arrivals {
        let settings = Settings {
            connections_per_address: per_address,
            ..Settings::default()
        };
        Arrivals {
            patience: Duration::from_millis(20),
            ..Arrivals::new(&settings, connections)
        }
    }

    async fn arrive(arrivals: &Arrivals, last: u8) -> Option<Arrival> {
        let slot = arrivals.slot()?;
        arrivals.arrive(slot, IpAddr::from([10, 0, 0, last])).await
    }

    #[tokio::test]
    async fn one_address_does_not_keep_others_out() {
        let arrivals = arrivals(2, 40);
        let first = arrive(&arrivals, 1).await.unwrap();
        let _second = arrive(&arrivals, 1).await.unwrap();
        let begun = tokio::time::Instant::now();
        assert!(arrive(&arrivals, 1).await.is_none());
        assert!(begun.elapsed() >= arrivals.patience);
        assert!(arrive(&arrivals, 2).await.is_some());
        // A connection that was let in does not count any more.
        first.let_in();
        assert!(arrive(&arrivals, 1).await.is_some());
    }

    #[tokio::test]
    async fn a_reserve_is_left_for_clients_that_were_let_in() {
        let arrivals = arrivals(8, 12);
        let mut held = Vec::new();
        for last in 0..3 {
            held.push(arrive(&arrivals, last).await.unwrap());
        }
        assert!(arrive(&arrivals, 9).await.is_none());
        for arrival in &held {
            arrival.let_in();
        }
        assert!(arrive(&arrivals, 9).await.is_some());
    }

    #[tokio::test]
    async fn behind_a_proxy_the_named_client_counts() {
        let mut arrivals = arrivals(1, 40);
        arrivals.trust_forwarded = true;
        let _first = arrive(&arrivals, 1).await.unwrap();
        let _second = arrive(&arrivals, 1).await.unwrap();
        let client = IpAddr::from([6, 6, 6, 6]);
        let named = arrivals.named(client);
        assert!(matches!(named, Ok(Some(_))));
        assert!(arrivals.named(client).is_err());
        assert!(arrivals.named(IpAddr::from([7, 7, 7, 7])).is_ok());
    }
}
