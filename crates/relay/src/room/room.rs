//! A room: its sockets, and what each of them gets.
//!
//! Nothing here waits or does I/O: every method takes the lock, settles what follows from its arguments, and returns
//! the duties of its caller.
//!
//! Invariant: for a socket that is `at` a rev, everything up to it was queued, in the order of revs, and nothing twice.
//! A socket that joins has no such rev, and is given no update before its state.

use crate::room::crowd::Crowd;
use crate::room::effects::{Effects, Fetch};
use crate::room::log::{Log, Recent};
use crate::room::peers::Peers;
use crate::room::reads::Reads;
use crate::room::stored::Stored;
use crate::socket::close::Close;
use crate::socket::frame::Outbound;
use crate::socket::socket::Socket;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::watch;

/// A room. It exists while it has sockets.
pub(crate) struct Room {
    pub(crate) project: Arc<str>,
    /// The reads of the room's state that are under way or were just done.
    pub(crate) reads: Reads,
    /// The clients that join with a version.
    pub(crate) crowd: Crowd,
    /// The other relays in this room.
    pub(crate) peers: Mutex<Peers>,
    /// Says whether Redis has confirmed the subscription to the room's channel.
    pub(crate) subscribed: watch::Sender<bool>,
    /// Says whether a task asks which updates of its sockets wait.
    pub(crate) is_watched: AtomicBool,
    /// The newest `access_rev` of the project that the relay knows of.
    access_rev: AtomicU64,
    inner: Mutex<Inner>,
}

struct Inner {
    log: Log,
    members: Vec<Member>,
}

struct Member {
    socket: Arc<Socket>,
    /// The rev up to which everything was queued for it; `None` while it joins.
    at: Option<u64>,
}

/// The room that a socket has left.
pub(crate) struct Left {
    /// The number of sockets that are still there.
    pub(crate) size: usize,
    /// Says whether anything was stored since the room exists.
    pub(crate) has_changed: bool,
}

/// The result of [`Room::catch_up`].
pub(crate) enum CatchUp {
    /// The socket follows the room now.
    Follows(Effects),
    /// The recent updates do not reach back that far.
    TooFarBack,
    /// The socket has left.
    Left,
}

impl Room {
    /// An empty room.
    pub(crate) fn new(project: Arc<str>, keep: Recent) -> Self {
        Self {
            project,
            reads: Reads::default(),
            crowd: Crowd::default(),
            peers: Mutex::default(),
            subscribed: watch::Sender::new(false),
            is_watched: AtomicBool::new(false),
            access_rev: AtomicU64::new(0),
            inner: Mutex::new(Inner {
                log: Log::new(keep),
                members: Vec::new(),
            }),
        }
    }

    /// Adds a socket, which joins.
    pub(crate) fn enter(&self, socket: Arc<Socket>) {
        // The verdict on the socket is as new as the project's `access_rev` that it brings, so there is nothing to
        // check again.
        let access_rev = socket.grant.access_rev();
        self.access_rev.fetch_max(access_rev, Ordering::Relaxed);
        let member = Member { socket, at: None };
        self.inner.lock().members.push(member);
    }

    /// Removes a socket.
    pub(crate) fn leave(&self, id: u64) -> Left {
        let mut inner = self.inner.lock();
        inner.members.retain(|member| member.socket.id != id);
        Left {
            size: inner.members.len(),
            has_changed: inner.log.has_changed(),
        }
    }

    /// The number of sockets.
    pub(crate) fn size(&self) -> usize {
        self.inner.lock().members.len()
    }

    /// Returns all sockets.
    pub(crate) fn sockets(&self) -> Vec<Arc<Socket>> {
        let inner = self.inner.lock();
        let members = inner.members.iter();
        members.map(|member| member.socket.clone()).collect()
    }

    /// The newest `access_rev` of the project that the relay knows of.
    pub(crate) fn access_rev(&self) -> u64 {
        self.access_rev.load(Ordering::Relaxed)
    }

    /// The newest rev that was delivered; `None` before the first state was read.
    pub(crate) fn head(&self) -> Option<u64> {
        self.inner.lock().log.head()
    }

    /// The newest rev that the relay knows of.
    pub(crate) fn known(&self) -> u64 {
        self.inner.lock().log.known()
    }

    /// Returns whether a socket that has everything up to `rev` can be brought up to date from memory, by a few updates.
    pub(crate) fn covers(&self, rev: u64) -> bool {
        self.inner.lock().log.covers(rev)
    }

    /// Notes that the project has reached this `access_rev`.
    pub(crate) fn note_access(&self, access_rev: u64) -> Effects {
        let before = self.access_rev.fetch_max(access_rev, Ordering::Relaxed);
        Effects {
            recheck: before < access_rev,
            ..Effects::default()
        }
    }

    /// Notes that the log has reached this rev. `fetch` says when its updates are fetched if they are missing.
    pub(crate) fn note(&self, rev: u64, fetch: Fetch) -> Effects {
        let mut inner = self.inner.lock();
        inner.log.note(rev);
        Effects {
            fetch: inner.log.start_fetching().then_some(fetch),
            ..Effects::default()
        }
    }

    /// Takes the app's answer `rev` to the question which rev the log has, asked when `head` was delivered.
    pub(crate) fn compare(&self, head: u64, rev: u64) -> Effects {
        let mut inner = self.inner.lock();
        if inner.log.compare(head, rev) {
            tracing::error!(project = %self.project, head, rev, "the log was set back: closing the room's sockets");
            return Effects {
                close: Some(Close::INTERNAL),
                ..Effects::default()
            };
        }
        Effects {
            fetch: inner.log.start_fetching().then_some(Fetch::IfLate),
            ..Effects::default()
        }
    }

    /// Gives updates to the sockets in the order of revs, and holds those before which one is missing.
    pub(crate) fn apply(&self, updates: Vec<Stored>) -> Effects {
        self.inner.lock().apply(updates)
    }

    /// The rev after which updates are missing that a socket needs. After `None` the caller fetches no more.
    pub(crate) fn missing_after(&self) -> Option<u64> {
        let mut inner = self.inner.lock();
        let is_wanted = !inner.members.is_empty();
        inner.log.missing_after(is_wanted)
    }

    /// Takes everything that the log had after the delivered head. `known` is what [`known`](Self::known) was before it
    /// was read.
    pub(crate) fn fill(&self, known: u64, updates: Vec<Stored>) -> Effects {
        let mut inner = self.inner.lock();
        let effects = inner.apply(updates);
        inner.log.was_read(known);
        effects
    }

    /// Queues what came after `rev` for a joining socket, for which everything up to that rev was queued before. From
    /// then on the socket follows the room.
    pub(crate) fn catch_up(&self, id: u64, rev: u64) -> CatchUp {
        let mut inner = self.inner.lock();
        let Inner { log, members } = &mut *inner;
        log.begin(rev);
        let head = log.head().unwrap_or(rev);
        let Some(recent) = log.since(rev) else {
            return CatchUp::TooFarBack;
        };
        let Some(member) = members.iter_mut().find(|member| member.socket.id == id) else {
            return CatchUp::Left;
        };
        member
            .socket
            .push_state(recent.filter(|update| update.is_news_to(id, rev)));
        member.at = Some(head.max(rev));
        log.note(rev);
        CatchUp::Follows(Effects {
            fetch: log.start_fetching().then_some(Fetch::IfLate),
            ..Effects::default()
        })
    }
}

impl Inner {
    fn apply(&mut self, updates: Vec<Stored>) -> Effects {
        let next = self.log.apply(updates);
        let mut effects = self.give(&next);
        effects.fetch = self.log.start_fetching().then_some(Fetch::IfLate);
        effects
    }

    fn give(&mut self, next: &[Stored]) -> Effects {
        let mut effects = Effects::default();
        if next.is_empty() {
            return effects;
        }
        let head = self.log.head().unwrap_or(0);
        effects.flush.reserve(self.members.len());
        for Member { socket, at } in &mut self.members {
            let Some(at) = at else { continue };
            let (id, rev) = (socket.id, *at);
            let mut updates = next
                .iter()
                .filter(|update| update.is_news_to(id, rev))
                .inspect(|update| effects.frames += update.frames().len())
                .peekable();
            if updates.peek().is_some() {
                socket.push(updates);
                effects.flush.push(socket.clone());
            }
            *at = rev.max(head);
        }
        effects
    }
}
