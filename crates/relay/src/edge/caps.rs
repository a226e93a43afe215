//! The caps: how many requests may be under way in all, of strangers, of one address, and of one user. A stranger is a
//! client whose principal the app has not named lately. The relay's own requests to the app do not count.

use crate::edge::problem::too_busy;
use crate::edge::shares::{Share, Shares};
use problem::Problem;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The time that a request waits for its place. Most requests take milliseconds, so a longer wait helps none.
const PATIENCE: Duration = Duration::from_secs(5);

/// The client that a request counts for, beside its address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    /// A client without a credential.
    Anonymous,
    /// A client whose credential the app has not confirmed. All such clients of one address count together, so that a
    /// client gains nothing by writing its credential in many ways.
    Unknown(IpAddr),
    /// A principal that the app has named.
    Known(String),
    /// A principal without a cap.
    Exempt,
}

impl Caller {
    /// Returns whether the app has not let the client in.
    pub(crate) fn is_stranger(&self) -> bool {
        matches!(self, Self::Anonymous | Self::Unknown(_))
    }

    /// Returns whether the client has a share of its own, beside that of its address.
    fn is_capped(&self) -> bool {
        matches!(self, Self::Unknown(_) | Self::Known(_))
    }
}

/// The places of requests that are under way.
pub(crate) struct Caps {
    all: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    addresses: Shares<IpAddr>,
    callers: Shares<Caller>,
    patience: Duration,
}

/// The place of one request. Dropping it gives the place back.
pub(crate) struct Place {
    _address: Share<IpAddr>,
    _caller: Option<Share<Caller>>,
    _stranger: Option<OwnedSemaphorePermit>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Caps {
    /// Makes caps of this many requests in all, of strangers, of one address, and of one caller.
    pub(crate) fn new(
        all: usize,
        of_strangers: usize,
        of_address: usize,
        of_caller: usize,
    ) -> Self {
        Self {
            all: Arc::new(Semaphore::new(all)),
            strangers: Arc::new(Semaphore::new(of_strangers)),
            addresses: Shares::new(of_address),
            callers: Shares::new(of_caller),
            patience: PATIENCE,
        }
    }

    /// Takes a place for a request of this caller from this network.
    ///
    /// # Errors
    /// 503 if no place becomes free in good time.
    pub(crate) async fn take(&self, network: IpAddr, caller: Caller) -> Result<Place, Problem> {
        let take = async {
            let is_stranger = caller.is_stranger();
            // The client's own shares come first, so that a request that waits for them holds no place of others.
            let address = self.addresses.take(network).await;
            let caller = if caller.is_capped() {
                Some(self.callers.take(caller).await)
            } else {
                None
            };
            // The semaphores are never closed.
            let stranger = if is_stranger {
                self.strangers.clone().acquire_owned().await.ok()
            } else {
                None
            };
            Place {
                _address: address,
                _caller: caller,
                _stranger: stranger,
                _place: self.all.clone().acquire_owned().await.ok(),
            }
        };
        timeout(self.patience, take).await.map_err(|_| too_busy())
    }

    /// Takes a place, if one is free.
    ///
    /// # Errors
    /// 503 if none is.
    pub(crate) fn try_take(&self, network: IpAddr, caller: Caller) -> Result<Place, Problem> {
        let free = |places: &Arc<Semaphore>| places.clone().try_acquire_owned().ok();
        let is_stranger = caller.is_stranger();
        let take = || {
            Some(Place {
                _address: self.addresses.try_take(network)?,
                _caller: if caller.is_capped() {
                    Some(self.callers.try_take(caller)?)
                } else {
                    None
                },
                _stranger: if is_stranger {
                    Some(free(&self.strangers)?)
                } else {
                    None
                },
                _place: Some(free(&self.all)?),
            })
        };
        take().ok_or_else(too_busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn quick(all: usize, of_strangers: usize, of_address: usize, of_caller: usize) -> Caps {
        Caps {
            patience: Duration::from_millis(20),
            ..Caps::new(all, of_strangers, of_address, of_caller)
        }
    }

    fn known(name: &str) -> Caller {
        Caller::Known(name.to_owned())
    }

    #[tokio::test]
    async fn each_caller_has_a_share_and_waits_briefly_beyond_it() {
        let caps = quick(3, 3, 2, 1);
        let first = caps.take(HERE, known("ann")).await.ok().unwrap();
        let begun = tokio::time::Instant::now();
        let refused = caps.take(HERE, known("ann")).await.err().unwrap();
        assert!(refused.status() == 503 && begun.elapsed() >= caps.patience);
        let second = caps.take(HERE, known("ben")).await.ok().unwrap();
        let refused = caps.take(HERE, Caller::Anonymous).await.err().unwrap();
        assert_eq!(refused.status(), 503);
        assert!(caps.try_take(HERE, Caller::Anonymous).is_err());
        // Another address isn't concerned, until all places are taken.
        let _third = caps.take(THERE, Caller::Anonymous).await.ok().unwrap();
        let mut fourth = Box::pin(caps.take(THERE, Caller::Anonymous));
        assert!(fourth.as_mut().now_or_never().is_none());
        drop(first);
        assert!(fourth.await.is_ok());
        drop(second);
    }

    #[tokio::test]
    async fn strangers_leave_places_for_clients_that_were_let_in() {
        let caps = quick(4, 2, 4, 4);
        let held = [
            caps.take(HERE, Caller::Anonymous).await.ok().unwrap(),
            caps.take(THERE, Caller::Unknown(THERE)).await.ok().unwrap(),
        ];
        assert!(caps.take(HERE, Caller::Unknown(HERE)).await.is_err());
        assert!(caps.try_take(HERE, Caller::Anonymous).is_err());
        assert!(caps.try_take(HERE, known("ann")).is_ok());
        assert!(caps.take(HERE, Caller::Exempt).await.is_ok());
        drop(held);
        assert!(caps.take(HERE, Caller::Anonymous).await.is_ok());
    }
}
