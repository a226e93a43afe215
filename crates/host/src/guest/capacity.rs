//! Capacity: how many instances may run at one time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::limits::Limits;

/// The places of all instances, with the limits of each.
pub(crate) struct Capacity {
    /// What one instance may use.
    pub(crate) limits: Limits,
    places: Arc<Semaphore>,
}

/// The error that no instance ended in time.
#[derive(Debug, thiserror::Error)]
#[error("all instances are busy")]
pub(crate) struct Busy;

impl Capacity {
    /// As many free places as `limits` allows.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            places: Arc::new(Semaphore::new(limits.instances as usize)),
        }
    }

    /// Takes a place, which is free again when the permit is dropped.
    ///
    /// # Errors
    /// If no place becomes free within the time that the limits allow.
    pub(crate) async fn place(&self) -> Result<OwnedSemaphorePermit, Busy> {
        let places = Arc::clone(&self.places);
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            return Ok(place);
        }
        tokio::time::timeout(self.limits.queue, places.acquire_owned())
            .await
            .map_err(|_| Busy)?
            .map_err(|_| Busy)
    }

    /// Waits until no instance runs. It takes no place, because an instance that finishes its work may need another
    /// one.
    pub(crate) async fn idle(&self) {
        while self.places.available_permits() < self.limits.instances as usize {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
