//! The memory of states on their way to clients that join. One limit holds over all sockets, so that a crowd that joins
//! cannot fill the memory; and each room has a share, so that clients that read one room's states slowly keep no other
//! room's clients out. Reads that wait get their memory in their order.

use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

/// The largest state of a room, in bytes.
pub(crate) const MAX_STATE: usize = 512 * 1024 * 1024;

/// The unit in which states are counted, in bytes.
const UNIT: usize = 1024;

/// The part of the memory, and of the reads at once, that one room may have: one in this many.
const ROOM_PART: usize = 4;

/// The reads that are under way at once, and the memory of their answers.
pub(crate) struct States {
    reads: usize,
    turns: Semaphore,
    free: Arc<Semaphore>,
    units: u32,
    rooms: Mutex<Rooms>,
}

#[derive(Default)]
struct Rooms {
    shares: HashMap<String, Weak<Share>>,
    /// The number of shares at which those that are not in use are dropped.
    tidy_at: usize,
}

/// The share of one room. It exists while the room reads states, or any is on its way.
struct Share {
    turns: Semaphore,
    free: Arc<Semaphore>,
    units: u32,
}

/// A state that is counted as long as any part of it is in use.
struct Counted {
    state: Bytes,
    _units: OwnedSemaphorePermit,
    _of_room: OwnedSemaphorePermit,
    _room: Arc<Share>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.state
    }
}

impl States {
    /// Allows `reads` at once, and `bytes` for all states together.
    pub(crate) fn new(reads: usize, bytes: usize) -> Self {
        let units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1);
        let units = units.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Self {
            reads,
            turns: Semaphore::new(reads),
            free: Arc::new(Semaphore::new(units as usize)),
            units,
            rooms: Mutex::default(),
        }
    }

    /// Reads a state of a room, and counts it until the last of its slices is dropped. `None` if others hold the memory
    /// for longer than `patience`. A state that is larger than the limit waits until it is the only one.
    ///
    /// # Errors
    /// If the read fails.
    pub(crate) async fn read<E>(
        &self,
        project: &str,
        patience: Duration,
        read: impl Future<Output = Result<Bytes, E>>,
    ) -> Result<Option<Bytes>, E> {
        let room = self.room(project);
        // The semaphores are never closed.
        let _of_room = room.turns.acquire().await.ok();
        let turn = self.turns.acquire().await.ok();
        let state = read.await?;
        Ok(self.count(room.clone(), turn, state, patience).await)
    }

    /// Counts a state. While it waits for the memory of all rooms, it holds its turn, so that few states wait. While it
    /// waits for the memory of its own room, it does not, so that it holds up no other room.
    async fn count<'a>(
        &'a self,
        room: Arc<Share>,
        mut turn: Option<SemaphorePermit<'a>>,
        state: Bytes,
        patience: Duration,
    ) -> Option<Bytes> {
        let end = Instant::now() + patience;
        let units = u32::try_from(state.len().div_ceil(UNIT)).unwrap_or(u32::MAX);
        let of_room = room
            .free
            .clone()
            .try_acquire_many_owned(units.min(room.units));
        let _of_room = match of_room {
            Ok(units) => units,
            Err(_) => {
                turn = None;
                let of_room = room.free.clone().acquire_many_owned(units.min(room.units));
                timeout_at(end, of_room).await.ok()?.ok()?
            }
        };
        let _turn = match turn {
            Some(turn) => turn,
            None => timeout_at(end, self.turns.acquire()).await.ok()?.ok()?,
        };
        let all = Arc::clone(&self.free).acquire_many_owned(units.min(self.units));
        let _units = timeout_at(end, all).await.ok()?.ok()?;
        Some(Bytes::from_owner(Counted {
            state,
            _units,
            _of_room,
            _room: room,
        }))
    }

    fn room(&self, project: &str) -> Arc<Share> {
        let mut rooms = self.rooms.lock();
        if let Some(share) = rooms.shares.get(project).and_then(Weak::upgrade) {
            return share;
        }
        if rooms.shares.len() >= rooms.tidy_at {
            rooms.shares.retain(|_, share| share.strong_count() > 0);
            rooms.tidy_at = (rooms.shares.len() * 2).max(64);
        }
        let units = (self.units / ROOM_PART as u32).max(1);
        let share = Arc::new(Share {
            turns: Semaphore::new((self.reads / ROOM_PART).max(1)),
            free: Arc::new(Semaphore::new(units as usize)),
            units,
        });
        rooms
            .shares
            .insert(project.to_owned(), Arc::downgrade(&share));
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::convert::Infallible;

    const NOW: Duration = Duration::ZERO;
    const LATER: Duration = Duration::from_secs(5);

    fn state(units: usize) -> Bytes {
        Bytes::from(vec![7; units * UNIT])
    }

    /// Reads a state of a room, of this many units.
    async fn read(states: &States, room: &str, units: usize, patience: Duration) -> Option<Bytes> {
        let read = async { Ok::<_, Infallible>(state(units)) };
        states.read(room, patience, read).await.unwrap()
    }

    #[tokio::test]
    async fn a_state_counts_until_its_last_slice_is_gone() {
        let states = States::new(16, 12 * UNIT);
        let mut held = Vec::new();
        for room in ["a", "b", "c"] {
            held.push(read(&states, room, 3, NOW).await.unwrap());
        }
        assert!(read(&states, "d", 4, NOW).await.is_none());
        let fourth = read(&states, "d", 3, NOW).await.unwrap();
        assert!(read(&states, "e", 1, NOW).await.is_none());
        let slice = fourth.slice(5..6);
        drop(fourth);
        assert!(read(&states, "e", 1, NOW).await.is_none());
        drop(slice);
        assert!(read(&states, "e", 3, NOW).await.is_some());
        // What is larger than the limit has it all.
        assert!(read(&states, "e", 13, NOW).await.is_none());
        held.clear();
        let all = read(&states, "e", 13, NOW).await.unwrap();
        assert_eq!(all, state(13));
        assert!(read(&states, "a", 1, NOW).await.is_none());
        drop(all);
        assert!(read(&states, "a", 1, NOW).await.is_some());
        assert_eq!(states.turns.available_permits(), 16);
    }

    #[tokio::test]
    async fn one_room_takes_its_share_and_reads_that_wait_are_served_in_their_order() {
        let states = States::new(4, 16 * UNIT);
        let first = read(&states, "slow", 4, NOW).await.unwrap();
        // Each of these has read its state, or waits to; none holds up another room.
        let mut second = Box::pin(read(&states, "slow", 2, LATER));
        let mut third = Box::pin(read(&states, "slow", 1, LATER));
        for waiting in [&mut second, &mut third] {
            assert!(waiting.as_mut().now_or_never().is_none());
        }
        for room in ["a", "b", "a"] {
            assert!(read(&states, room, 4, NOW).await.is_some(), "{room}");
        }
        assert!(third.as_mut().now_or_never().is_none());
        drop(first);
        assert!(third.as_mut().now_or_never().is_none(), "it came later");
        assert_eq!(second.await.unwrap(), state(2));
        assert_eq!(third.await.unwrap(), state(1));
    }

    #[tokio::test]
    async fn a_room_that_is_gone_leaves_nothing_behind() {
        let states = States::new(4, 16 * UNIT);
        for room in 0..1000 {
            assert!(read(&states, &room.to_string(), 1, NOW).await.is_some());
        }
        assert!(states.rooms.lock().shares.len() <= 64);
    }
}
