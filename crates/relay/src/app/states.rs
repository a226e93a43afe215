//! The memory of states on their way to clients that join. One limit holds over all sockets, so that a crowd that joins
//! cannot fill the memory.

use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The unit in which states are counted, in bytes.
const UNIT: usize = 1024;

/// The memory that states may take.
pub(crate) struct States {
    free: Arc<Semaphore>,
    units: u32,
}

/// A state that is counted as long as any part of it is in use.
struct Counted {
    state: Bytes,
    _units: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.state
    }
}

impl States {
    /// Allows `bytes` for all states together.
    pub(crate) fn new(bytes: usize) -> Self {
        let units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1);
        let units = units.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Self {
            free: Arc::new(Semaphore::new(units as usize)),
            units,
        }
    }

    /// Counts a state until the last of its slices is dropped. `None` if others hold the memory for longer than
    /// `patience`. A state that is larger than the limit waits until it is the only one.
    pub(crate) async fn count(&self, state: Bytes, patience: Duration) -> Option<Bytes> {
        let units = u32::try_from(state.len().div_ceil(UNIT)).unwrap_or(u32::MAX);
        let units = Arc::clone(&self.free).acquire_many_owned(units.min(self.units));
        let _units = timeout(patience, units).await.ok()?.ok()?;
        Some(Bytes::from_owner(Counted { state, _units }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[tokio::test]
    async fn a_state_counts_until_its_last_slice_is_gone() {
        let states = States::new(10 * UNIT);
        let state = |units: usize| Bytes::from(vec![7; units * UNIT]);
        let first = states.count(state(6), NOW).await.unwrap();
        assert_eq!(first, state(6));
        assert!(states.count(state(5), NOW).await.is_none());
        let second = states.count(state(4), NOW).await.unwrap();
        assert!(states.count(Bytes::from_static(b"x"), NOW).await.is_none());
        let slice = first.slice(5..6);
        drop(first);
        assert!(states.count(state(5), NOW).await.is_none());
        drop(slice);
        assert!(states.count(state(5), NOW).await.is_some());
        // What is larger than the limit has it all.
        assert!(states.count(state(11), NOW).await.is_none());
        drop(second);
        let all = states.count(state(11), NOW).await.unwrap();
        assert!(states.count(state(1), NOW).await.is_none());
        drop(all);
    }

    #[tokio::test]
    async fn a_state_that_finds_no_memory_waits_for_it() {
        let states = States::new(UNIT);
        let first = states.count(Bytes::from_static(b"a"), NOW).await;
        let wait = states.count(Bytes::from_static(b"b"), Duration::from_secs(5));
        let (second, ()) = tokio::join!(wait, async { drop(first) });
        assert_eq!(second.unwrap(), "b");
    }
}
