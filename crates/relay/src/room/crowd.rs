//! A crowd: clients that join a room at about the same time, each with a version of its own, as after a restart of the
//! relay. One read of what is new since the version that they have in common serves many of them, because a client may
//! import an update again. So the app need not merge once for each.
//!
//! The first clients read at once, each for itself; those that come meanwhile are grouped for the next reads. The
//! surplus that a client gets is bounded: by its bytes, or by what the client lacks. Earlier reads show how many bytes
//! operations take; before the first one, the surplus is bounded in operations.

use crate::room::counters::Counters;
use crate::room::reads::{Read, Reading};
use crate::room::stored::Snapshot;
use parking_lot::Mutex;
use std::sync::{Arc, Weak};
use tokio::sync::{Semaphore, oneshot};

/// The reads for clients with a version that are under way at once in one room.
const TURNS: usize = 4;

/// The bytes that a client gets at most beyond those that it lacks, unless it lacks as much. So a client gets at most
/// this, or twice what it lacks.
const SURPLUS_BYTES: u64 = 256 * 1024;

/// The same in operations, before a read has shown how many bytes they take.
const SURPLUS: u64 = 16 * 1024;

/// The most clients that one read serves.
const GROUP: usize = 256;

/// The most reads that are kept for clients that come a little later.
const RECENT: usize = 8;

/// The number of times that a client reads together with others. If it would get too much each time, it then reads alone.
const TRIES: usize = 3;

/// The clients of one room that join with a version.
pub(crate) struct Crowd {
    turns: Semaphore,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    waiting: Vec<Waiting>,
    /// The number of clients so far.
    count: u64,
    /// The last reads, each with the version since which it reads. They are weak, because the room's
    /// [`Reads`](crate::room::reads::Reads) keep a read for as long as it is of use.
    recent: Vec<(Counters, Weak<Snapshot>)>,
    scale: Option<Scale>,
}

struct Waiting {
    id: u64,
    counters: Counters,
    /// The client's way to its result. If the sender is dropped, the client tries again.
    sender: oneshot::Sender<Read>,
}

struct Group {
    common: Counters,
    others: Vec<Waiting>,
}

/// The facts that the last read has shown about its room.
#[derive(Debug, Clone, Copy)]
struct Scale {
    /// The operations that the room had.
    reached: u64,
    /// The operations that were read, and their bytes.
    operations: u64,
    bytes: u64,
}

impl Scale {
    /// Takes a read since a version that has `since` operations. `None` if it does not show how many bytes operations
    /// take.
    fn of(read: &Snapshot, reached: &Counters, since: u64) -> Option<Self> {
        let reached = reached.total();
        let operations = reached.saturating_sub(since);
        (operations > 0 && !read.is_whole()).then_some(Self {
            reached,
            operations,
            bytes: read.bytes() as u64,
        })
    }

    /// Returns whether a client that has `has` operations of the room may get all those since a version of `since`
    /// operations.
    fn serves(self, has: u64, since: u64) -> bool {
        let surplus = has.saturating_sub(since);
        let lacking = self.reached.saturating_sub(has);
        let bytes = u128::from(surplus) * u128::from(self.bytes) / u128::from(self.operations);
        surplus <= lacking || bytes <= u128::from(SURPLUS_BYTES)
    }
}

impl Default for Crowd {
    fn default() -> Self {
        Self {
            turns: Semaphore::new(TURNS),
            inner: Mutex::default(),
        }
    }
}

impl Crowd {
    /// Reads what a client of this version lacks, and maybe a little more. `begin` begins the read since a version, and
    /// `is_usable` returns whether a read that was done is still of use.
    ///
    /// # Errors
    /// If the read fails.
    pub(crate) async fn read(
        &self,
        version: &[u8],
        is_usable: impl Fn(&Snapshot) -> bool,
        begin: impl Fn(Vec<u8>) -> Reading,
    ) -> Read {
        if let Some(counters) = Counters::read(version) {
            for _ in 0..TRIES {
                if let Some(known) = self.recent(&counters, &is_usable) {
                    return Ok(known);
                }
                if let Some(read) = self.together(&counters, &begin).await {
                    return read;
                }
            }
        }
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await;
        begin(version.to_vec()).await
    }

    /// Reads for a client and others, or waits for the read of another client; `None` if the client would get too much.
    async fn together(
        &self,
        counters: &Counters,
        begin: impl Fn(Vec<u8>) -> Reading,
    ) -> Option<Read> {
        let (id, receiver) = self.wait(counters.clone());
        tokio::pin!(receiver);
        let turn = tokio::select! {
            biased;
            read = &mut receiver => return read.ok(),
            turn = self.turns.acquire() => turn,
        };
        let Some(group) = self.group(id) else {
            // Another's read is under way for this client.
            drop(turn);
            return receiver.await.ok();
        };
        let read = begin(group.common.encode()).await;
        drop(turn);
        if let Ok(snapshot) = &read {
            self.keep(&group.common, snapshot);
        }
        // An error is for all of them.
        let is_for = |client: &Counters| match &read {
            Ok(snapshot) => serves(snapshot, &group.common, client),
            Err(_) => true,
        };
        for other in group.others {
            if is_for(&other.counters) {
                // A client that has left needs no answer.
                let _ = other.sender.send(read.clone());
            }
        }
        is_for(counters).then_some(read)
    }

    /// Keeps a read for clients that come a little later.
    fn keep(&self, since: &Counters, snapshot: &Arc<Snapshot>) {
        let mut inner = self.inner.lock();
        let reached = Counters::read(&snapshot.version);
        let scale = reached.and_then(|reached| Scale::of(snapshot, &reached, since.total()));
        inner.scale = scale.or(inner.scale);
        inner.recent.retain(|(_, read)| read.strong_count() > 0);
        if inner.recent.len() == RECENT {
            inner.recent.remove(0);
        }
        let read = (since.clone(), Arc::downgrade(snapshot));
        inner.recent.push(read);
    }

    /// A read that was done a moment ago and serves a client of this version.
    fn recent(
        &self,
        counters: &Counters,
        is_usable: impl Fn(&Snapshot) -> bool,
    ) -> Option<Arc<Snapshot>> {
        let inner = self.inner.lock();
        inner.recent.iter().rev().find_map(|(since, read)| {
            let read = read.upgrade().filter(|read| is_usable(read))?;
            let is_since_less = since.common(counters) == *since;
            (is_since_less && serves(&read, since, counters)).then_some(read)
        })
    }

    fn wait(&self, counters: Counters) -> (u64, oneshot::Receiver<Read>) {
        let (sender, receiver) = oneshot::channel();
        let mut inner = self.inner.lock();
        inner.count += 1;
        let id = inner.count;
        inner.waiting.push(Waiting {
            id,
            counters,
            sender,
        });
        (id, receiver)
    }

    /// Takes the client `id`, and those that wait and can share its read; `None` if another has taken it.
    fn group(&self, id: u64) -> Option<Group> {
        let mut inner = self.inner.lock();
        let at = inner.waiting.iter().position(|waiting| waiting.id == id)?;
        let own = inner.waiting.swap_remove(at).counters;
        let scale = inner.scale;
        let mut most = own.total();
        let mut common = own;
        let mut others = Vec::new();
        let mut left = Vec::new();
        for waiting in inner.waiting.drain(..) {
            if others.len() + 1 == GROUP || waiting.sender.is_closed() {
                left.push(waiting);
                continue;
            }
            let with = common.common(&waiting.counters);
            let largest = most.max(waiting.counters.total());
            // The client that lacks the least gets the largest surplus.
            let is_bounded = match scale {
                Some(scale) => scale.serves(largest, with.total()),
                None => largest.saturating_sub(with.total()) <= SURPLUS,
            };
            if is_bounded {
                common = with;
                most = largest;
                others.push(waiting);
            } else {
                left.push(waiting);
            }
        }
        left.retain(|waiting| !waiting.sender.is_closed());
        inner.waiting = left;
        Some(Group { common, others })
    }
}

/// Returns whether a read since a version serves a client of this version: it is small, or all would get the same, or the
/// client gets little that it has already.
fn serves(snapshot: &Snapshot, since: &Counters, client: &Counters) -> bool {
    let is_small = snapshot.bytes() as u64 <= SURPLUS_BYTES;
    if is_small || snapshot.is_whole() || since == client {
        return true;
    }
    let Some(reached) = Counters::read(&snapshot.version) else {
        return false;
    };
    // What the client has not sent yet is not in the room.
    let has = reached.common(client).total();
    let scale = Scale::of(snapshot, &reached, since.total());
    scale.is_none_or(|scale| scale.serves(has, since.total()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::counters::tests::counters;
    use crate::socket::frame::Outbound;
    use bytes::Bytes;
    use futures_util::FutureExt;
    use futures_util::future::join_all;

    /// The writer of all that clients lack.
    const WRITER: u64 = 7;

    /// An app that answers with `bytes` bytes for each operation, keeps its answers, and remembers since which versions it
    /// has read.
    struct Reader {
        reached: u32,
        bytes: usize,
        reads: Mutex<Vec<Counters>>,
        kept: Mutex<Vec<Reading>>,
    }

    impl Reader {
        fn new(reached: u32, bytes: usize) -> Self {
            Self {
                reached,
                bytes,
                reads: Mutex::default(),
                kept: Mutex::default(),
            }
        }

        /// Answers a moment later with the version since which it reads, and as many bytes as that takes.
        fn begin(&self, version: Vec<u8>) -> Reading {
            let since = Counters::read(&version).unwrap();
            let reached = counters(&[(WRITER, self.reached)]);
            let lacking = reached.total() - since.common(&reached).total();
            let lacking = usize::try_from(lacking).unwrap() * self.bytes;
            self.reads.lock().push(since);
            let state = wire::StateOf {
                rev: 1,
                version: reached.encode().into(),
                blobs: vec![version.into(), Bytes::from(vec![0; lacking])],
                revs: None,
            };
            let reading = async {
                tokio::task::yield_now().await;
                Ok(Arc::new(Snapshot::read(state)))
            }
            .boxed()
            .shared();
            self.kept.lock().push(reading.clone());
            reading
        }

        fn reads(&self) -> usize {
            self.reads.lock().len()
        }
    }

    /// Joins with all versions at once, and returns the version since which each client was answered.
    async fn join(crowd: &Crowd, reader: &Reader, versions: &[Counters]) -> Vec<Counters> {
        let reads = versions.iter().map(|version| async move {
            let version = version.encode();
            let read = crowd.read(&version, |_| true, |since| reader.begin(since));
            let read = read.await.unwrap();
            Counters::read(read.frames()[0].payload()).unwrap()
        });
        join_all(reads).await
    }

    #[tokio::test]
    async fn a_thousand_versions_take_a_few_reads() {
        let versions: Vec<Counters> = (0..1000)
            .map(|n| counters(&[(WRITER, 50_000 - n), (1000 + u64::from(n), 3)]))
            .collect();
        let (crowd, reader) = (Crowd::default(), Reader::new(50_001, 10));
        let since = join(&crowd, &reader, &versions).await;
        for (version, since) in versions.iter().zip(since) {
            assert_eq!(since.common(version), since, "it lacks nothing");
            assert!(version.total() - since.total() <= SURPLUS);
        }
        assert!(
            reader.reads() <= TURNS + 1000 / GROUP + 1,
            "{}",
            reader.reads()
        );
        assert!(crowd.inner.lock().waiting.is_empty());
        // A client that comes a moment later needs no read.
        let before = reader.reads();
        join(&crowd, &reader, &[counters(&[(WRITER, 49_990), (5, 2)])]).await;
        assert_eq!(reader.reads(), before);
    }

    /// Checks clients that are each some KiB to a few MiB behind, or, letter by letter, millions of operations.
    #[tokio::test]
    async fn a_thousand_versions_that_lack_much_take_a_few_reads() {
        for (each, bytes) in [(1, 4000), (4000, 1)] {
            let reached = 2000 * each;
            let versions: Vec<Counters> = (1..=1000)
                // In no order.
                .map(|n| counters(&[(WRITER, reached - (n * 387 % 1009) * each)]))
                .collect();
            let (crowd, reader) = (Crowd::default(), Reader::new(reached, bytes));
            let since = join(&crowd, &reader, &versions).await;
            for (version, since) in versions.iter().zip(since) {
                assert_eq!(since.common(version), since, "it lacks nothing");
                let surplus = (version.total() - since.total()) * bytes as u64;
                let lacking = (u64::from(reached) - version.total()) * bytes as u64;
                assert!(
                    surplus <= SURPLUS_BYTES.max(lacking),
                    "{surplus}, {lacking}"
                );
            }
            assert!(reader.reads() <= 40, "{}", reader.reads());
            assert!(crowd.inner.lock().waiting.is_empty());
        }
    }

    #[tokio::test]
    async fn versions_that_are_far_apart_share_nothing() {
        // Each lacks three times what the one before it lacks.
        let reached = 100_000_000;
        let far = |n: u32| counters(&[(WRITER, reached - 300_000 * 3_u32.pow(n))]);
        // Those that come while others read are grouped.
        let versions: Vec<Counters> = (0..5).chain(0..5).map(far).collect();
        let (crowd, reader) = (Crowd::default(), Reader::new(reached, 1));
        assert_eq!(join(&crowd, &reader, &versions).await, versions);
    }

    #[tokio::test]
    async fn a_read_that_no_client_keeps_is_not_kept() {
        let (crowd, reader) = (Crowd::default(), Reader::new(1000, 10));
        for n in 0..20 {
            join(&crowd, &reader, &[counters(&[(WRITER, 100 - n)])]).await;
            assert!(crowd.inner.lock().recent.len() <= RECENT);
        }
        reader.kept.lock().clear();
        let before = reader.reads();
        join(&crowd, &reader, &[counters(&[(WRITER, 100)])]).await;
        assert_eq!(reader.reads(), before + 1);
        assert_eq!(crowd.inner.lock().recent.len(), 1);
    }
}
