//! Caps: how many requests are under way in all, of one address, and of one user or token. The relay's own requests to
//! the app do not count.

use crate::edge::credentials::Credential;
use crate::edge::problem::too_busy;
use crate::edge::shares::{Share, Shares};
use problem::Problem;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How long a request waits for its place. Most requests take milliseconds, so a longer wait helps none.
const PATIENCE: Duration = Duration::from_secs(5);

/// The places of requests that are under way.
pub(crate) struct Caps {
    all: Arc<Semaphore>,
    addresses: Shares<IpAddr>,
    principals: Shares<Credential>,
    patience: Duration,
}

/// The place of one request. Dropping it gives the place back.
pub(crate) struct Place {
    _address: Share<IpAddr>,
    _principal: Option<Share<Credential>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Caps {
    /// Caps of this many requests in all, of one address, and of one user or token.
    pub(crate) fn new(all: usize, of_address: usize, of_principal: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(all)),
            addresses: Shares::new(of_address),
            principals: Shares::new(of_principal),
            patience: PATIENCE,
        }
    }

    /// Takes a place for a request from this network; `credential` is `None` if it has none, or one without a cap.
    ///
    /// # Errors
    /// 503 if no place becomes free in good time.
    pub(crate) async fn take(
        &self,
        network: IpAddr,
        credential: Option<Credential>,
    ) -> Result<Place, Problem> {
        let take = async {
            // The caller's own shares come first, so that a request that waits for them holds no place of others.
            let address = self.addresses.take(network).await;
            let principal = match credential {
                Some(credential) => Some(self.principals.take(credential).await),
                None => None,
            };
            Place {
                _address: address,
                _principal: principal,
                // The semaphore is never closed.
                _place: self.all.clone().acquire_owned().await.ok(),
            }
        };
        timeout(self.patience, take).await.map_err(|_| too_busy())
    }

    /// Takes a place, if one is free.
    ///
    /// # Errors
    /// 503 if none is.
    pub(crate) fn try_take(
        &self,
        network: IpAddr,
        credential: Option<Credential>,
    ) -> Result<Place, Problem> {
        let principal =
            credential.map(|credential| self.principals.try_take(credential).ok_or_else(too_busy));
        Ok(Place {
            _address: self.addresses.try_take(network).ok_or_else(too_busy)?,
            _principal: principal.transpose()?,
            _place: Some(
                self.all
                    .clone()
                    .try_acquire_owned()
                    .map_err(|_| too_busy())?,
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn each_caller_has_a_share_and_waits_briefly_beyond_it() {
        let caps = Caps {
            patience: Duration::from_millis(20),
            ..Caps::new(3, 2, 1)
        };
        let credentials = crate::edge::credentials::Credentials::default();
        let of = |token: &str| {
            let query = format!("token={token}");
            credentials.of(&http::HeaderMap::new(), Some(&query))
        };
        let (here, there) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = caps.take(here, of("ann")).await.ok().unwrap();
        let begun = tokio::time::Instant::now();
        let refused = caps.take(here, of("ann")).await.err().unwrap();
        assert!(refused.status() == 503 && begun.elapsed() >= caps.patience);
        let second = caps.take(here, of("ben")).await.ok().unwrap();
        assert_eq!(caps.take(here, None).await.err().unwrap().status(), 503);
        assert!(caps.try_take(here, None).is_err());
        // Another address isn't concerned, until all places are taken.
        let _third = caps.take(there, None).await.ok().unwrap();
        let mut fourth = Box::pin(caps.take(there, None));
        assert!(fourth.as_mut().now_or_never().is_none());
        drop(first);
        assert!(fourth.await.is_ok());
        drop(second);
    }
}
