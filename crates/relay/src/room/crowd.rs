//! A crowd: clients that join a room at about the same time, each with a version of its own, as after a restart of the
//! relay. One read of what is new since the version that they have in common serves many of them, because a client may
//! import an update again. So the app need not merge once for each.
//!
//! The first clients read at once, each for itself; those that come meanwhile are grouped for the next reads. The
//! surplus that a client gets is bounded, in operations before a read and in bytes after it.

use crate::room::counters::Counters;
use crate::room::reads::{Read, Reading};
use crate::room::stored::Snapshot;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::{Semaphore, oneshot};

/// The reads for clients with a version that are under way at once in one room.
const TURNS: usize = 4;

/// The most operations that a client gets beyond those that it lacks.
const SURPLUS: u64 = 16 * 1024;

/// The largest answer that is shared by clients of different versions, in bytes.
const SHARED_BYTES: usize = 256 * 1024;

/// The most clients that one read serves.
const GROUP: usize = 256;

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
    /// The last read that can be shared, and the version since which it is.
    last: Option<(Counters, Reading)>,
}

struct Waiting {
    id: u64,
    counters: Counters,
    /// The client's way to its result. If the sender is dropped, the client reads for itself.
    tell: oneshot::Sender<Read>,
}

struct Group {
    common: Counters,
    /// The version of the client whose turn it is.
    own: Counters,
    others: Vec<Waiting>,
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
    /// `is_usable` tells whether a read that was done is still of use.
    ///
    /// # Errors
    /// If the read fails.
    pub(crate) async fn read(
        &self,
        version: &[u8],
        is_usable: impl Fn(&Snapshot) -> bool,
        begin: impl Fn(Vec<u8>) -> Reading,
    ) -> Read {
        let Some(counters) = Counters::read(version) else {
            return self.alone(version, begin).await;
        };
        if let Some(known) = self.last(&counters, is_usable) {
            return Ok(known);
        }
        let (id, told) = self.wait(counters);
        tokio::pin!(told);
        let turn = tokio::select! {
            biased;
            told = &mut told => return self.told(told, version, begin).await,
            turn = self.turns.acquire() => turn,
        };
        let Some(group) = self.group(id) else {
            // Another's read is under way for this client.
            drop(turn);
            return self.told(told.await, version, begin).await;
        };
        let reading = begin(group.common.encode());
        let read = reading.clone().await;
        drop(turn);
        let is_shared = is_shared(&read);
        for other in group.others {
            if is_shared || other.counters == group.common {
                // A client that has left needs no answer.
                let _ = other.tell.send(read.clone());
            }
        }
        if is_shared && read.is_ok() {
            self.inner.lock().last = Some((group.common.clone(), reading));
        }
        if is_shared || group.own == group.common {
            read
        } else {
            self.alone(version, begin).await
        }
    }

    /// Passes on the result of another client's read, or reads if there is none.
    async fn told(
        &self,
        told: Result<Read, oneshot::error::RecvError>,
        version: &[u8],
        begin: impl Fn(Vec<u8>) -> Reading,
    ) -> Read {
        match told {
            Ok(read) => read,
            Err(_) => self.alone(version, begin).await,
        }
    }

    async fn alone(&self, version: &[u8], begin: impl Fn(Vec<u8>) -> Reading) -> Read {
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await;
        begin(version.to_vec()).await
    }

    /// The result of the last shared read, if it serves a client of this version.
    fn last(
        &self,
        counters: &Counters,
        is_usable: impl Fn(&Snapshot) -> bool,
    ) -> Option<Arc<Snapshot>> {
        let mut inner = self.inner.lock();
        let (common, reading) = inner.last.as_ref()?;
        let Some(Ok(snapshot)) = reading.peek() else {
            return None;
        };
        if !is_usable(snapshot) {
            inner.last = None;
            return None;
        }
        let serves = common.common(counters) == *common
            && counters.total().saturating_sub(common.total()) <= SURPLUS;
        serves.then(|| snapshot.clone())
    }

    fn wait(&self, counters: Counters) -> (u64, oneshot::Receiver<Read>) {
        let (tell, told) = oneshot::channel();
        let mut inner = self.inner.lock();
        inner.count += 1;
        let id = inner.count;
        inner.waiting.push(Waiting { id, counters, tell });
        (id, told)
    }

    /// Takes the client `id`, and those that wait and can share its read; `None` if another has taken it.
    fn group(&self, id: u64) -> Option<Group> {
        let mut inner = self.inner.lock();
        let at = inner.waiting.iter().position(|waiting| waiting.id == id)?;
        let own = inner.waiting.swap_remove(at).counters;
        let mut common = own.clone();
        let mut most = own.total();
        let mut others = Vec::new();
        let mut left = Vec::new();
        for waiting in inner.waiting.drain(..) {
            if others.len() + 1 == GROUP || waiting.tell.is_closed() {
                left.push(waiting);
                continue;
            }
            let with = common.common(&waiting.counters);
            let largest = most.max(waiting.counters.total());
            if largest.saturating_sub(with.total()) <= SURPLUS {
                common = with;
                most = largest;
                others.push(waiting);
            } else {
                left.push(waiting);
            }
        }
        left.retain(|waiting| !waiting.tell.is_closed());
        inner.waiting = left;
        Some(Group {
            common,
            own,
            others,
        })
    }
}

/// Whether clients of different versions may share this: it is small, or all of them would get the same, or it is
/// an error.
fn is_shared(read: &Read) -> bool {
    match read {
        Ok(snapshot) => snapshot.is_whole() || snapshot.bytes() <= SHARED_BYTES,
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::counters::tests::counters;
    use bytes::Bytes;
    use futures_util::FutureExt;
    use futures_util::future::join_all;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// An app that answers with `bytes` bytes, and counts its reads.
    struct Reader {
        bytes: usize,
        reads: AtomicUsize,
    }

    impl Reader {
        fn new(bytes: usize) -> Self {
            let reads = AtomicUsize::new(0);
            Self { bytes, reads }
        }

        /// Answers a moment later with the version since which it reads.
        fn begin(&self, version: Vec<u8>) -> Reading {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let state = wire::StateOf {
                rev: 1,
                version: version.into(),
                blobs: vec![Bytes::from(vec![0; self.bytes])],
                revs: None,
            };
            async {
                tokio::task::yield_now().await;
                Ok(Arc::new(Snapshot::read(state)))
            }
            .boxed()
            .shared()
        }

        fn reads(&self) -> usize {
            self.reads.load(Ordering::Relaxed)
        }
    }

    /// Joins with all versions at once, and returns the version since which each client was answered.
    async fn join(crowd: &Crowd, reader: &Reader, versions: &[Counters]) -> Vec<Counters> {
        let reads = versions.iter().map(|version| async move {
            let version = version.encode();
            let read = crowd.read(&version, |_| true, |since| reader.begin(since));
            Counters::read(&read.await.unwrap().version).unwrap()
        });
        join_all(reads).await
    }

    #[tokio::test]
    async fn a_thousand_versions_take_a_few_reads() {
        let versions: Vec<Counters> = (0..1000)
            .map(|n| counters(&[(7, 50_000 - n), (1000 + u64::from(n), 3)]))
            .collect();
        let (crowd, reader) = (Crowd::default(), Reader::new(1000));
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
        join(&crowd, &reader, &[counters(&[(7, 49_990), (5, 2)])]).await;
        assert_eq!(reader.reads(), before);
    }

    #[tokio::test]
    async fn versions_that_are_far_apart_share_nothing() {
        let far = |n: u32| counters(&[(7, n * (SURPLUS as u32 + 1))]);
        let versions: Vec<Counters> = (0..20).map(far).collect();
        let (crowd, reader) = (Crowd::default(), Reader::new(1000));
        assert_eq!(join(&crowd, &reader, &versions).await, versions);
        assert_eq!(reader.reads(), 20);
    }

    #[tokio::test]
    async fn a_large_answer_is_for_its_version_alone() {
        let versions: Vec<Counters> = (0..20).map(|n| counters(&[(7, 100 + n)])).collect();
        let (crowd, reader) = (Crowd::default(), Reader::new(SHARED_BYTES + 1));
        assert_eq!(join(&crowd, &reader, &versions).await, versions);
        assert!(crowd.inner.lock().last.is_none());
    }
}
