//! The half of a WebSocket that others hold: rooms broadcast into its outbox, the committer
//! tells it what became of its updates.

use crate::room::access::Pass;
use crate::socket::frame::Frame;
use crate::socket::raw;
use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// How many frames go out in one `writev`.
#[cfg(not(target_arch = "wasm32"))]
const FRAMES_PER_WRITE: usize = 64;

/// A queue that needed more room than this gives it back when it is empty.
const KEPT_CAPACITY: usize = 32;

const NOT_YET: u64 = u64::MAX;

/// Why the server closes a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Close {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
}

impl Close {
    pub(crate) const NORMAL: Self = Self {
        code: 1000,
        reason: "",
    };
    pub(crate) const DRAIN: Self = Self {
        code: 1001,
        reason: "the server is going down: connect again",
    };
    pub(crate) const INTERNAL: Self = Self {
        code: 1011,
        reason: "the server failed: join again",
    };
    pub(crate) const TRY_AGAIN_LATER: Self = Self {
        code: 1013,
        reason: "the app cannot store updates just now: try again later",
    };
    pub(crate) const TOO_SLOW: Self = Self {
        code: 4008,
        reason: "too slow to follow the room: join again",
    };
    pub(crate) const SIGNED_OUT: Self = Self {
        code: 4401,
        reason: "the session has ended: sign in",
    };
    pub(crate) const NO_ACCESS: Self = Self {
        code: 4403,
        reason: "no access to this project",
    };
    pub(crate) const NO_PROJECT: Self = Self {
        code: 4404,
        reason: "there is no such project",
    };
    pub(crate) const UNKNOWN: Self = Self {
        code: 1013,
        reason: "access cannot be checked just now: try again later",
    };
}

impl From<Close> for CloseCode {
    fn from(close: Close) -> Self {
        Self::from(close.code)
    }
}

/// What a client asked for when it connected.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wants {
    /// Text frames with what happens in the room (`?events=1`).
    pub(crate) events: bool,
}

/// One WebSocket, as everybody but its own task sees it.
///
/// Invariants: what is queued is whole frames; the bytes beyond the state being sent never exceed
/// the limit (the socket is closed instead, and its queue freed); after a close was asked for, only
/// the socket's own task queues anything.
pub(crate) struct Socket {
    /// Unique in this relay.
    pub(crate) id: u64,
    pub(crate) wants: Wants,
    /// By what its client is known.
    pub(crate) pass: Pass,
    /// The socket's own task is to look at its queue, or may read again.
    pub(crate) changed: Notify,
    queue: Mutex<Queue>,
    queue_limit: usize,
    /// Updates handed to the committer and not yet decided.
    pending_updates: AtomicUsize,
    /// Their bytes.
    pending_bytes: AtomicUsize,
    /// The count of peers that the client knows; [`NOT_YET`] before it has its state.
    peers: AtomicU64,
}

#[derive(Default)]
struct Queue {
    /// Gone once the connection failed, or everything was written that ever will be.
    stream: Option<OwnedWriteHalf>,
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// Of `bytes`, those of a state or a catch-up, which the limit does not count. They are
    /// queued before any update, so that what is written is theirs first.
    exempt: usize,
    /// The kernel took no more: the socket's own task waits until it does.
    blocked: bool,
    /// A frame is written in part: its rest must come before anything else.
    within_frame: bool,
    close: Option<Close>,
    written: u64,
}

struct Piece {
    bytes: Bytes,
    ends_frame: bool,
}

impl Socket {
    pub(crate) fn new(
        id: u64,
        wants: Wants,
        pass: Pass,
        stream: OwnedWriteHalf,
        queue_limit: usize,
    ) -> Self {
        Self {
            id,
            wants,
            pass,
            changed: Notify::new(),
            queue: Mutex::new(Queue {
                stream: Some(stream),
                ..Queue::default()
            }),
            queue_limit,
            pending_updates: AtomicUsize::new(0),
            pending_bytes: AtomicUsize::new(0),
            peers: AtomicU64::new(NOT_YET),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues frames, and closes the socket with [`Close::TOO_SLOW`] where they are too many.
    /// They leave with the next [`flush`](Self::flush).
    pub(crate) fn push<'a>(&self, frames: impl IntoIterator<Item = &'a Frame>) {
        let mut queue = self.queue();
        if queue.close.is_some() {
            return;
        }
        for frame in frames {
            queue.push(frame);
        }
        if queue.bytes - queue.exempt > self.queue_limit {
            queue.close(Close::TOO_SLOW);
            self.changed.notify_one();
        }
    }

    /// Queues a state, or what the socket missed, however large.
    pub(crate) fn push_state<'a>(&self, frames: impl IntoIterator<Item = &'a Frame>) {
        let mut queue = self.queue();
        if queue.close.is_some() {
            return;
        }
        for frame in frames {
            queue.push(frame);
            queue.exempt += frame.len();
        }
    }

    /// Queues bytes of the protocol itself (a pong, a close), which are whole frames.
    pub(crate) fn push_control(&self, bytes: Bytes) {
        let mut queue = self.queue();
        queue.bytes += bytes.len();
        queue.pieces.push_back(Piece {
            bytes,
            ends_frame: true,
        });
        // A client that pings and never reads.
        if queue.close.is_none() && queue.bytes - queue.exempt > self.queue_limit {
            queue.close(Close::TOO_SLOW);
            self.changed.notify_one();
        }
    }

    /// Writes what is queued, as far as the kernel takes it without waiting. Any task may call
    /// this; what stays is written by the socket's own task.
    pub(crate) fn flush(&self) {
        let mut queue = self.queue();
        if queue.blocked || queue.pieces.is_empty() {
            return;
        }
        queue.write();
        if queue.blocked || queue.stream.is_none() {
            self.changed.notify_one();
        }
    }

    /// The kernel takes bytes again: writes on. For the socket's own task.
    pub(crate) fn unblock(&self) {
        self.queue().write();
    }

    /// Asks the socket's own task to close with this code, once what is queued is written.
    pub(crate) fn close(&self, close: Close) {
        self.queue().close.get_or_insert(close);
        self.changed.notify_one();
    }

    /// The state of the queue, for the socket's own task.
    pub(crate) fn progress(&self) -> Progress {
        let queue = self.queue();
        Progress {
            blocked: queue.blocked,
            empty: queue.pieces.is_empty(),
            broken: queue.stream.is_none(),
            close: queue.close,
            written: queue.written,
        }
    }

    /// Sends a FIN: nothing will be written any more.
    pub(crate) fn finish(&self) {
        self.queue().fail();
    }

    /// The committer took an update of this many bytes.
    pub(crate) fn submitted(&self, bytes: usize) {
        self.pending_updates.fetch_add(1, Ordering::Relaxed);
        self.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The committer is done with updates of this socket.
    pub(crate) fn decided(&self, updates: usize, bytes: usize) {
        self.pending_updates.fetch_sub(updates, Ordering::Relaxed);
        self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// How many updates, and how many bytes, the committer has of this socket.
    pub(crate) fn pending(&self) -> (usize, usize) {
        (
            self.pending_updates.load(Ordering::Relaxed),
            self.pending_bytes.load(Ordering::Relaxed),
        )
    }

    /// The client has its state: from now on it hears how many there are in the room.
    pub(crate) fn follows(&self) {
        self.peers.store(0, Ordering::Relaxed);
    }

    /// Whether the client has yet to hear of this count.
    pub(crate) fn is_news(&self, peers: u64) -> bool {
        let known = self.peers.load(Ordering::Relaxed);
        if known == NOT_YET || known == peers {
            return false;
        }
        self.peers.store(peers, Ordering::Relaxed);
        true
    }

    /// Tells the client that one of its frames was refused.
    pub(crate) fn refuse(&self, code: &str, message: &str, frame: Option<u64>) {
        self.push([&raw::error(code, message, frame)]);
    }
}

/// See [`Socket::progress`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    pub(crate) blocked: bool,
    pub(crate) empty: bool,
    pub(crate) broken: bool,
    pub(crate) close: Option<Close>,
    pub(crate) written: u64,
}

impl Queue {
    fn push(&mut self, frame: &Frame) {
        if self.stream.is_none() {
            return;
        }
        self.bytes += frame.len();
        let whole = frame.rest.is_empty();
        self.pieces.push_back(Piece {
            bytes: frame.first.clone(),
            ends_frame: whole,
        });
        if !whole {
            self.pieces.push_back(Piece {
                bytes: frame.rest.clone(),
                ends_frame: true,
            });
        }
    }

    fn write(&mut self) {
        self.blocked = false;
        while let Some(stream) = self.stream.as_ref()
            && !self.pieces.is_empty()
        {
            match write_front(stream, &self.pieces) {
                Ok(0) => self.fail(),
                Ok(written) => self.written(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.fail(),
            }
        }
        if self.pieces.is_empty() && self.pieces.capacity() > KEPT_CAPACITY {
            self.pieces = VecDeque::new();
        }
    }

    fn written(&mut self, mut count: usize) {
        self.bytes -= count;
        self.exempt -= self.exempt.min(count);
        self.written += count as u64;
        while let Some(piece) = self.pieces.front_mut() {
            if count < piece.bytes.len() {
                self.within_frame |= count > 0;
                piece.bytes.advance(count);
                return;
            }
            count -= piece.bytes.len();
            self.within_frame = !piece.ends_frame;
            self.pieces.pop_front();
        }
    }

    /// Frees the queue but for the rest of a frame that is written in part, which a close frame
    /// has to come after.
    fn close(&mut self, close: Close) {
        self.close = Some(close);
        let kept = if self.within_frame {
            self.pieces
                .iter()
                .position(|piece| piece.ends_frame)
                .map_or(0, |last| last + 1)
        } else {
            0
        };
        self.pieces.truncate(kept);
        self.pieces.shrink_to_fit();
        self.bytes = self.pieces.iter().map(|piece| piece.bytes.len()).sum();
        self.exempt = 0;
    }

    /// Dropping the write half sends a FIN.
    fn fail(&mut self) {
        self.stream = None;
        self.pieces = VecDeque::new();
        self.bytes = 0;
        self.exempt = 0;
        self.blocked = false;
    }
}

/// Writes from the front of the queue, as much as the kernel takes at once.
#[cfg(not(target_arch = "wasm32"))]
fn write_front(stream: &OwnedWriteHalf, pieces: &VecDeque<Piece>) -> io::Result<usize> {
    // What is broadcast is one piece, almost always, and a plain write costs the kernel less.
    if let (Some(only), 1) = (pieces.front(), pieces.len()) {
        return stream.try_write(&only.bytes);
    }
    let mut slices = [io::IoSlice::new(&[]); FRAMES_PER_WRITE];
    let mut count = 0;
    for (slice, piece) in slices.iter_mut().zip(pieces) {
        *slice = io::IoSlice::new(&piece.bytes);
        count += 1;
    }
    stream.try_write_vectored(&slices[..count])
}

/// Writes from the front of the queue. Piece by piece, for the `writev` of Rust 1.95's libc for
/// WASI waits until the kernel takes more, where its `write` does not.
#[cfg(target_arch = "wasm32")]
fn write_front(stream: &OwnedWriteHalf, pieces: &VecDeque<Piece>) -> io::Result<usize> {
    pieces
        .front()
        .map_or(Ok(0), |piece| stream.try_write(&piece.bytes))
}
