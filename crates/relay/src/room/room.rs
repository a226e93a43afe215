//! One room: its sockets, and the order in which they see its updates.
//!
//! Nothing here waits or does I/O: every method takes the lock, settles what follows from what it
//! was told, and says what its caller has to do.
//!
//! Invariants, for every room:
//! - `head` is the rev up to which everything was given to the sockets that follow the room; it
//!   only grows. Revs are dense, so an update beyond `head + 1` is held until the gap is filled.
//! - A socket that is `at` a rev was queued everything up to it, in the order of revs, and nothing
//!   twice; one that joins is `at` nothing, and is given nothing before its state is.
//! - The recent updates cover everything beyond `floor` up to `head`.

use crate::room::join::Reads;
use crate::room::peers::Peers;
use crate::socket::frame::Frame;
use crate::socket::socket::{Close, Socket};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The comparisons in a row that must find the log shorter than what was already delivered, before
/// the relay believes that it was set back.
const SET_BACK_AFTER: u8 = 3;

/// The most updates that follow on a state that was read before; for more it is read again.
const FEW_UPDATES: u64 = 128;

/// What was stored as one rev, or, fetched from the app, as several.
#[derive(Debug, Clone)]
pub(crate) struct Update {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Almost always one.
    pub(crate) frames: Vec<Frame>,
    /// The [`Socket::id`] that it came from, which must not get it back; 0 where it came from
    /// elsewhere.
    pub(crate) sender: u64,
}

impl Update {
    fn bytes(&self) -> usize {
        self.frames.iter().map(Frame::len).sum()
    }
}

/// How many recent updates a room keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recent {
    pub(crate) updates: usize,
    pub(crate) bytes: usize,
}

/// A room. It exists while it has sockets.
pub(crate) struct Room {
    pub(crate) project: Arc<str>,
    /// Reads of its state that are under way or just done.
    pub(crate) reads: Reads,
    /// Who else is here.
    pub(crate) peers: Mutex<Peers>,
    /// Whether Redis has confirmed the subscription to the room's channel.
    pub(crate) subscribed: watch::Sender<bool>,
    /// The newest count, that anybody told of, of changes of who may do what here.
    access_rev: AtomicU64,
    log: Mutex<Log>,
}

struct Log {
    keep: Recent,
    head: Option<u64>,
    /// The newest rev that anybody told of.
    known: u64,
    recent: VecDeque<Update>,
    recent_bytes: usize,
    /// Everything beyond this rev is in `recent`.
    floor: u64,
    /// What came too early, by its first rev. Bounded like `recent`; what does not fit is fetched.
    held: BTreeMap<u64, Update>,
    held_bytes: usize,
    members: Vec<Member>,
    /// Somebody is fetching what is missing.
    filling: bool,
    /// Anything was stored since the room exists.
    changed: bool,
    set_back: u8,
}

struct Member {
    socket: Arc<Socket>,
    /// None while it joins.
    at: Option<u64>,
}

/// What the caller of [`Room::apply`] has to do.
#[must_use]
#[derive(Default)]
pub(crate) struct Effects {
    /// These sockets have something new in their queues.
    pub(crate) flush: Vec<Arc<Socket>>,
    /// How many frames that were, over all sockets.
    pub(crate) frames: usize,
    /// Something is missing, and the caller is the one to see to it.
    pub(crate) fill: bool,
}

/// What comes of [`Room::catch_up`].
pub(crate) enum CatchUp {
    /// The socket follows the room now. True: something is missing, see [`Effects::fill`].
    Follows(bool),
    /// The recent updates do not reach back that far.
    TooFarBack,
    /// The socket has left.
    Left,
}

impl Room {
    pub(crate) fn new(project: Arc<str>, keep: Recent) -> Self {
        Self {
            project,
            reads: Reads::default(),
            peers: Mutex::default(),
            subscribed: watch::Sender::new(false),
            access_rev: AtomicU64::new(0),
            log: Mutex::new(Log {
                keep,
                head: None,
                known: 0,
                recent: VecDeque::new(),
                recent_bytes: 0,
                floor: 0,
                held: BTreeMap::new(),
                held_bytes: 0,
                members: Vec::new(),
                filling: false,
                changed: false,
                set_back: 0,
            }),
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A socket comes in, and joins.
    pub(crate) fn enter(&self, socket: Arc<Socket>) {
        self.log().members.push(Member { socket, at: None });
    }

    /// A socket leaves. Returns how many are left, and whether anything was stored meanwhile.
    pub(crate) fn leave(&self, id: u64) -> (usize, bool) {
        let mut log = self.log();
        log.members.retain(|member| member.socket.id != id);
        (log.members.len(), log.changed)
    }

    /// The newest count of changes of who may do what here.
    pub(crate) fn access_rev(&self) -> u64 {
        self.access_rev.load(Ordering::Relaxed)
    }

    /// Somebody tells of such a count. Returns whether it is news.
    pub(crate) fn note_access(&self, access_rev: u64) -> bool {
        self.access_rev.fetch_max(access_rev, Ordering::Relaxed) < access_rev
    }

    /// How many sockets are here.
    pub(crate) fn size(&self) -> usize {
        self.log().members.len()
    }

    /// All sockets.
    pub(crate) fn sockets(&self) -> Vec<Arc<Socket>> {
        let log = self.log();
        log.members
            .iter()
            .map(|member| member.socket.clone())
            .collect()
    }

    /// The newest rev that was delivered; None before the first state was read.
    pub(crate) fn head(&self) -> Option<u64> {
        self.log().head
    }

    /// Whether a socket that has everything up to `rev` can be brought up to date from memory, with
    /// nothing newer known of and with not more than a few updates, for a client imports a state
    /// far quicker than what made it.
    pub(crate) fn covers(&self, rev: u64) -> bool {
        let log = self.log();
        match log.head {
            Some(head) => {
                log.floor <= rev && log.known <= head && head.saturating_sub(rev) <= FEW_UPDATES
            }
            // Nobody follows the room yet: whoever read the state is about to.
            None => log.known <= rev,
        }
    }

    /// Updates were stored: gives them to the sockets, in order, or holds them where one before
    /// them is missing. Those that were already delivered are skipped.
    pub(crate) fn apply(&self, updates: impl IntoIterator<Item = Update>) -> Effects {
        self.log().apply(updates)
    }

    /// Somebody tells of a rev. Returns whether the caller is to fetch what is missing.
    pub(crate) fn note(&self, rev: u64) -> bool {
        let mut log = self.log();
        log.known = log.known.max(rev);
        log.start_filling()
    }

    /// The app's own idea of the room's head, for what `head` was when it was asked. Returns
    /// whether the caller is to fetch what is missing.
    pub(crate) fn compare(&self, head: u64, rev: u64) -> bool {
        {
            let mut log = self.log();
            log.set_back = if rev < head { log.set_back + 1 } else { 0 };
            if log.set_back >= SET_BACK_AFTER {
                tracing::error!(project = %self.project, head, rev, "the log was set back: closing the room's sockets");
                for member in &log.members {
                    member.socket.close(Close::INTERNAL);
                }
                return false;
            }
        }
        self.note(rev)
    }

    /// The rev after which something is missing, if so. Otherwise nobody is filling any longer.
    pub(crate) fn missing_after(&self) -> Option<u64> {
        let mut log = self.log();
        if !log.has_gap() || log.members.is_empty() {
            log.filling = false;
            return None;
        }
        log.head
    }

    /// What was missing after `after` arrived.
    pub(crate) fn fill(&self, after: u64, known: u64, state: wire::State) -> Effects {
        let mut log = self.log();
        let effects = log.apply(fetched(after, state));
        // The log tells all up to its rev; a rev beyond it that somebody told of was wrong, unless
        // they told just now.
        if log.known == known {
            let held = log.held.values().map(|update| update.last).max();
            log.known = log.head.unwrap_or(0).max(held.unwrap_or(0));
        }
        effects
    }

    /// The newest rev that anybody told of.
    pub(crate) fn known(&self) -> u64 {
        self.log().known
    }

    /// A joining socket was queued everything up to `rev`: queues what came since, and from here
    /// on it follows the room.
    pub(crate) fn catch_up(&self, id: u64, rev: u64) -> CatchUp {
        let mut log = self.log();
        if log.head.is_none() {
            log.head = Some(rev);
            log.floor = rev;
            // Held updates may follow right on.
            let held = std::mem::take(&mut log.held);
            log.held_bytes = 0;
            // Nobody follows the room yet, so there is nothing to flush.
            let _ = log.apply(held.into_values());
        }
        let Some(head) = log.head else {
            return CatchUp::Left;
        };
        if rev < log.floor {
            return CatchUp::TooFarBack;
        }
        let Log {
            recent, members, ..
        } = &mut *log;
        let Some(member) = members.iter_mut().find(|member| member.socket.id == id) else {
            return CatchUp::Left;
        };
        member.socket.push_state(
            recent
                .iter()
                .filter(|update| update.last > rev && update.sender != id)
                .flat_map(|update| &update.frames),
        );
        member.at = Some(head.max(rev));
        log.known = log.known.max(rev);
        CatchUp::Follows(log.start_filling())
    }
}

/// What the app told when asked for everything after a rev. Each blob tells all up to its own rev; one
/// with no higher rev than those before it belongs to the last of them.
fn fetched(after: u64, state: wire::State) -> Vec<Update> {
    let wire::State {
        rev, blobs, revs, ..
    } = state;
    let mut told = after;
    let mut updates: Vec<Update> = Vec::new();
    // An app of an earlier release does not tell which blob reaches which rev: they are one piece.
    let revs = revs.unwrap_or_else(|| vec![rev; blobs.len()]);
    for (rev, blob) in revs.into_iter().zip(blobs.into_iter().map(Frame::from)) {
        if rev > told {
            updates.push(Update {
                first: told + 1,
                last: rev,
                frames: vec![blob],
                sender: 0,
            });
            told = rev;
        } else if let Some(last) = updates.last_mut() {
            last.frames.push(blob);
        }
    }
    if rev > told {
        // What was stored as these revs is in quarantine.
        updates.push(Update {
            first: told + 1,
            last: rev,
            frames: Vec::new(),
            sender: 0,
        });
    }
    updates
}

impl Log {
    fn apply(&mut self, updates: impl IntoIterator<Item = Update>) -> Effects {
        let mut next: Vec<Update> = Vec::new();
        for update in updates {
            self.known = self.known.max(update.last);
            self.changed = true;
            let Some(head) = self.head else {
                self.hold(update);
                continue;
            };
            if update.last <= head {
                continue;
            }
            if update.first > head + 1 {
                self.hold(update);
                continue;
            }
            self.advance(update, &mut next);
            while let Some(entry) = self.held.first_entry()
                && Some(*entry.key()) <= self.head.map(|head| head + 1)
            {
                let update = entry.remove();
                self.held_bytes -= update.bytes();
                if Some(update.last) > self.head {
                    self.advance(update, &mut next);
                }
            }
        }
        let (flush, frames) = self.give(&next);
        Effects {
            flush,
            frames,
            fill: self.start_filling(),
        }
    }

    fn hold(&mut self, update: Update) {
        let bytes = update.bytes();
        if self.held.len() < self.keep.updates && self.held_bytes + bytes <= self.keep.bytes {
            self.held_bytes += bytes;
            if let Some(replaced) = self.held.insert(update.first, update) {
                self.held_bytes -= replaced.bytes();
            }
        }
    }

    fn advance(&mut self, update: Update, next: &mut Vec<Update>) {
        self.head = Some(update.last);
        next.push(update.clone());
        self.recent_bytes += update.bytes();
        self.recent.push_back(update);
        while self.recent.len() > self.keep.updates || self.recent_bytes > self.keep.bytes {
            let Some(oldest) = self.recent.pop_front() else {
                break;
            };
            self.recent_bytes -= oldest.bytes();
            self.floor = oldest.last;
        }
    }

    fn give(&mut self, next: &[Update]) -> (Vec<Arc<Socket>>, usize) {
        let mut flush = Vec::new();
        let mut given = 0;
        if next.is_empty() {
            return (flush, given);
        }
        flush.reserve(self.members.len());
        for Member { socket, at } in &mut self.members {
            let Some(at) = at else { continue };
            let mut frames = next
                .iter()
                .filter(|update| update.last > *at && update.sender != socket.id)
                .flat_map(|update| &update.frames)
                .inspect(|_| given += 1)
                .peekable();
            if frames.peek().is_some() {
                socket.push(frames);
                flush.push(socket.clone());
            }
            *at = (*at).max(self.head.unwrap_or(0));
        }
        (flush, given)
    }

    fn has_gap(&self) -> bool {
        self.head.is_some_and(|head| self.known > head)
    }

    fn start_filling(&mut self) -> bool {
        let start = !self.filling && self.has_gap();
        self.filling |= start;
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The spans of what was fetched, each with the blobs in it.
    fn spans(after: u64, rev: u64, blobs: &[u8], revs: Option<&[u64]>) -> Vec<(u64, u64, Vec<u8>)> {
        let state = wire::State {
            rev,
            version: Vec::new().into(),
            blobs: blobs.iter().map(|blob| vec![*blob].into()).collect(),
            revs: revs.map(<[u64]>::to_vec),
        };
        fetched(after, state)
            .into_iter()
            .map(|update| {
                let blobs = update
                    .frames
                    .iter()
                    .flat_map(|frame| frame.payload().to_vec());
                (update.first, update.last, blobs.collect())
            })
            .collect()
    }

    #[test]
    fn what_was_fetched_has_the_revs_that_the_app_told() {
        for (what, found, expected) in [
            (
                "the log alone",
                spans(2, 4, b"ab", Some(&[3, 4])),
                vec![(3, 3, b"a".to_vec()), (4, 4, b"b".to_vec())],
            ),
            ("nothing", spans(4, 4, b"", Some(&[])), vec![]),
            (
                "a snapshot of as many revs as there are blobs, and an update that waits for others",
                spans(2, 5, b"spa", Some(&[4, 1, 5])),
                vec![(3, 4, b"sp".to_vec()), (5, 5, b"a".to_vec())],
            ),
            (
                "quarantined updates, in between and last",
                spans(2, 6, b"ab", Some(&[3, 5])),
                vec![(3, 3, b"a".to_vec()), (4, 5, b"b".to_vec()), (6, 6, vec![])],
            ),
            (
                "an app of an earlier release",
                spans(2, 4, b"ab", None),
                vec![(3, 4, b"ab".to_vec())],
            ),
        ] {
            assert_eq!(found, expected, "{what}");
        }
    }
}
