//! The shares: how much of something one key, such as an address, may hold at once.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The shares of all keys. A key is kept only while it holds something or waits for it, so memory is bounded by what
/// is held.
pub(crate) struct Shares<K> {
    /// The most places of one key.
    most: usize,
    keys: Arc<Keys<K>>,
}

type Keys<K> = Mutex<HashMap<K, Arc<Semaphore>>>;

impl<K: Eq + Hash + Clone> Shares<K> {
    /// Makes shares of this many places for each key.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            keys: Arc::default(),
        }
    }

    /// Takes a place of a key, and waits until one is free. Callers that wait get theirs in their order.
    pub(crate) async fn take(&self, key: K) -> Share<K> {
        let semaphore = self.semaphore(&key);
        // It exists before the wait, because a caller may stop waiting.
        let mut share = self.share(key);
        // The semaphore is never closed.
        share.permit = semaphore.acquire_owned().await.ok();
        share
    }

    /// Takes a place of a key, if one is free.
    pub(crate) fn try_take(&self, key: K) -> Option<Share<K>> {
        let semaphore = self.semaphore(&key);
        let mut share = self.share(key);
        share.permit = Some(semaphore.try_acquire_owned().ok()?);
        Some(share)
    }

    fn semaphore(&self, key: &K) -> Arc<Semaphore> {
        let mut keys = self.keys.lock();
        let semaphore = keys
            .entry(key.clone())
            .or_insert_with(|| Arc::new(Semaphore::new(self.most)));
        semaphore.clone()
    }

    fn share(&self, key: K) -> Share<K> {
        Share {
            key,
            permit: None,
            keys: self.keys.clone(),
        }
    }
}

/// A place of one key. Dropping it gives the place back.
pub(crate) struct Share<K: Eq + Hash> {
    key: K,
    /// The permit; `None` while the caller waits for it.
    permit: Option<OwnedSemaphorePermit>,
    keys: Arc<Keys<K>>,
}

impl<K: Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        self.permit = None;
        let mut keys = self.keys.lock();
        if keys
            .get(&self.key)
            .is_some_and(|semaphore| Arc::strong_count(semaphore) == 1)
        {
            keys.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn a_key_holds_its_share_and_takes_nothing_of_others() {
        let shares = Shares::new(2);
        let first = shares.take("a").await;
        let _second = shares.try_take("a").unwrap();
        assert!(shares.try_take("a").is_none());
        let other = shares.try_take("b");
        assert!(other.is_some());
        let mut third = Box::pin(shares.take("a"));
        assert!(third.as_mut().now_or_never().is_none());
        drop(first);
        let _third = third.await;
        drop(other);
        assert_eq!(
            shares.keys.lock().len(),
            1,
            "a key that holds nothing is forgotten"
        );
    }

    #[tokio::test]
    async fn a_caller_that_stops_waiting_leaves_nothing_behind() {
        let shares = Shares::new(1);
        let held = shares.try_take("a");
        let mut waiting = Box::pin(shares.take("a"));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(held);
        drop(waiting);
        assert!(shares.keys.lock().is_empty());
    }
}
