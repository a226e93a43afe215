//! The half of a WebSocket that other tasks hold: rooms broadcast into its queue, and the committer reports what became
//! of its updates.

use crate::room::grant::Grant;
use crate::socket::close::Close;
use crate::socket::frame::{Frame, Outbound};
use crate::socket::raw;
use crate::socket::waits::Waits;
use bytes::{Buf, Bytes};
use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

/// The number of frames that go out in one `writev`.
#[cfg(not(target_arch = "wasm32"))]
const FRAMES_PER_WRITE: usize = 64;

/// The number of bytes that go out before other tasks get a turn. A thousand states that go out at once would otherwise
/// hold up every edit for as long as they take.
const BYTES_PER_TURN: usize = 64 * 1024;

/// A queue that needed more room than this gives it back when it is empty.
const KEPT_CAPACITY: usize = 32;

/// The value for a client that got no number of sockets yet, because it does not have its state.
const NOT_YET: u64 = u64::MAX;

/// A WebSocket, as all tasks except its own see it.
///
/// Invariants: the queue holds whole frames; its bytes beyond the state that is being sent never exceed the limit (the
/// socket is closed instead, and its queue freed); after a close was asked for, only the socket's own task queues
/// anything.
pub(crate) struct Socket {
    /// An id that is unique in this relay.
    pub(crate) id: u64,
    /// Says whether the client asked for text frames that report what happens in the room (`?events=1`).
    pub(crate) wants_events: bool,
    /// The client's credentials and current permissions.
    pub(crate) grant: Grant,
    /// Wakes the socket's own task, because its queue has changed or it may read again.
    pub(crate) changed: Notify,
    /// The stored updates of the socket that may wait for others.
    pub(crate) waits: Mutex<Waits>,
    queue: Mutex<Queue>,
    queue_limit: usize,
    /// The number of updates that the committer has not decided yet.
    pending_updates: AtomicUsize,
    /// The bytes of those updates.
    pending_bytes: AtomicUsize,
    /// The number of sockets in the room that was last sent to the client, or [`NOT_YET`].
    peers: AtomicU64,
    /// The number of quarantined updates of which the client was last notified.
    quarantined: AtomicU64,
    /// Says whether an update of the socket was refused because its peer id is in use twice.
    is_duplicate: AtomicBool,
}

#[derive(Default)]
struct Queue {
    /// The writing half; `None` after the connection failed, or after the last byte was written.
    stream: Option<OwnedWriteHalf>,
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// The part of `bytes` that belongs to a state or a catch-up, which the limit does not count. It is queued before
    /// any update, so the first bytes that are written belong to it.
    exempt: usize,
    /// The kernel takes no more bytes at the moment. The socket's own task waits until it does.
    blocked: bool,
    /// A frame, or the answer to the upgrade, is written in part. Its rest must come before anything else.
    within_frame: bool,
    /// The queue is held back, so that the answer to the upgrade goes out with the first frames.
    held: bool,
    close: Option<Close>,
    written: u64,
}

struct Piece {
    bytes: Bytes,
    ends_frame: bool,
}

impl Socket {
    /// A socket whose queue may hold `queue_limit` bytes. The first piece in it is the `answer` to the upgrade, which
    /// waits until the socket [opens](Self::open).
    pub(crate) fn new(
        id: u64,
        wants_events: bool,
        grant: Grant,
        stream: OwnedWriteHalf,
        queue_limit: usize,
        answer: Bytes,
    ) -> Self {
        let mut queue = Queue {
            stream: Some(stream),
            ..Queue::default()
        };
        if !answer.is_empty() {
            queue.bytes = answer.len();
            queue.exempt = answer.len();
            queue.within_frame = true;
            queue.held = true;
            queue.pieces.push_back(Piece {
                bytes: answer,
                ends_frame: true,
            });
        }
        Self {
            id,
            wants_events,
            grant,
            changed: Notify::new(),
            waits: Mutex::default(),
            queue: Mutex::new(queue),
            queue_limit,
            pending_updates: AtomicUsize::new(0),
            pending_bytes: AtomicUsize::new(0),
            peers: AtomicU64::new(NOT_YET),
            quarantined: AtomicU64::new(0),
            is_duplicate: AtomicBool::new(false),
        }
    }

    /// Queues items, which leave with the next [`flush`](Self::flush). If they are too many, the socket is closed with
    /// [`Close::TOO_SLOW`].
    pub(crate) fn push<'a, T: Outbound + 'a>(&self, items: impl IntoIterator<Item = &'a T>) {
        let mut queue = self.queue.lock();
        if queue.close.is_some() {
            return;
        }
        for frame in items.into_iter().flat_map(Outbound::frames) {
            queue.push(frame);
        }
        if queue.bytes - queue.exempt > self.queue_limit {
            queue.close(Close::TOO_SLOW);
            self.changed.notify_one();
        }
    }

    /// Queues a state, or what the socket missed, however large it is.
    pub(crate) fn push_state<'a, T: Outbound + 'a>(&self, items: impl IntoIterator<Item = &'a T>) {
        let mut queue = self.queue.lock();
        if queue.close.is_some() {
            return;
        }
        for frame in items.into_iter().flat_map(Outbound::frames) {
            queue.push(frame);
            queue.exempt += frame.len();
        }
    }

    /// Queues whole frames of the protocol itself, such as a pong or a close.
    pub(crate) fn push_control(&self, bytes: Bytes) {
        let mut queue = self.queue.lock();
        queue.bytes += bytes.len();
        queue.pieces.push_back(Piece {
            bytes,
            ends_frame: true,
        });
        // A client may ping and never read.
        if queue.close.is_none() && queue.bytes - queue.exempt > self.queue_limit {
            queue.close(Close::TOO_SLOW);
            self.changed.notify_one();
        }
    }

    /// Writes what is queued, if that is little. Any task may call this; the socket's own task writes what is left.
    pub(crate) fn flush(&self) {
        self.flush_little(self.queue.lock());
    }

    /// Writes from the queue as much as the kernel takes without waiting, but no more than others can wait for. Returns
    /// whether there is more that it may take. Only the socket's own task calls this.
    pub(crate) fn flush_some(&self) -> bool {
        self.write(self.queue.lock())
    }

    /// Lets the answer to the upgrade out, and with it what is queued. From now on the socket writes what it is given.
    pub(crate) fn open(&self) {
        let mut queue = self.queue.lock();
        queue.held = false;
        self.flush_little(queue);
    }

    fn flush_little(&self, queue: MutexGuard<'_, Queue>) {
        if queue.is_large() {
            if queue.may_write() {
                self.changed.notify_one();
            }
        } else {
            self.write(queue);
        }
    }

    fn write(&self, mut queue: MutexGuard<'_, Queue>) -> bool {
        if !queue.may_write() || queue.pieces.is_empty() {
            return false;
        }
        queue.write();
        let is_more = !queue.blocked && !queue.pieces.is_empty();
        if queue.blocked || queue.stream.is_none() || is_more {
            self.changed.notify_one();
        }
        is_more
    }

    /// Notes that the kernel takes bytes again, so the next flush writes. Only the socket's own task calls this.
    pub(crate) fn unblock(&self) {
        self.queue.lock().blocked = false;
    }

    /// Asks the socket's own task to close the connection after what is queued was written.
    pub(crate) fn close(&self, close: Close) {
        self.queue.lock().close.get_or_insert(close);
        self.changed.notify_one();
    }

    /// The state of the queue.
    pub(crate) fn progress(&self) -> Progress {
        let queue = self.queue.lock();
        Progress {
            blocked: queue.blocked,
            empty: queue.pieces.is_empty(),
            large: queue.is_large() && queue.may_write(),
            broken: queue.stream.is_none(),
            close: queue.close,
            written: queue.written,
        }
    }

    /// Sends a FIN and writes nothing more.
    pub(crate) fn finish(&self) {
        self.queue.lock().fail();
    }

    /// Notes that the committer took an update of this many bytes.
    pub(crate) fn submitted(&self, bytes: usize) {
        self.pending_updates.fetch_add(1, Ordering::Relaxed);
        self.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes that the committer has decided updates of this socket.
    pub(crate) fn decided(&self, updates: usize, bytes: usize) {
        self.pending_updates.fetch_sub(updates, Ordering::Relaxed);
        self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Returns how many updates of this socket the committer has not decided, and their bytes.
    pub(crate) fn pending(&self) -> (usize, usize) {
        (
            self.pending_updates.load(Ordering::Relaxed),
            self.pending_bytes.load(Ordering::Relaxed),
        )
    }

    /// Notes that the client has its state, and from now on gets the number of sockets in the room.
    pub(crate) fn follows(&self) {
        self.peers.store(0, Ordering::Relaxed);
    }

    /// Returns whether the client has its state and does not know this number of peers. If so, records it as sent.
    pub(crate) fn is_news(&self, peers: u64) -> bool {
        let known = self.peers.load(Ordering::Relaxed);
        if known == NOT_YET || known == peers {
            return false;
        }
        self.peers.store(peers, Ordering::Relaxed);
        true
    }

    /// Returns whether more updates are in quarantine than the client was last notified of, and records this number.
    pub(crate) fn is_quarantine_news(&self, updates: u64) -> bool {
        self.quarantined.swap(updates, Ordering::Relaxed) < updates
    }

    /// Notes that an update was refused because its peer id is in use twice. No later one is sent to the app.
    pub(crate) fn set_duplicate(&self) {
        self.is_duplicate.store(true, Ordering::Relaxed);
    }

    /// Returns whether an update was refused because its peer id is in use twice.
    pub(crate) fn is_duplicate(&self) -> bool {
        self.is_duplicate.load(Ordering::Relaxed)
    }

    /// Queues the event that one of the client's frames was refused.
    pub(crate) fn refuse(&self, code: &str, message: &str, frame: Option<u64>) {
        self.push([&raw::error(code, message, frame)]);
    }
}

/// The state of a socket's queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    /// The kernel takes no more bytes at the moment.
    pub(crate) blocked: bool,
    /// The queue is empty.
    pub(crate) empty: bool,
    /// The queue has more than goes out in one turn, and may go out.
    pub(crate) large: bool,
    /// The connection has failed or was finished, so nothing can be written any more.
    pub(crate) broken: bool,
    /// The reason why the socket must be closed.
    pub(crate) close: Option<Close>,
    /// The number of bytes written so far.
    pub(crate) written: u64,
}

impl Queue {
    fn is_large(&self) -> bool {
        self.bytes > BYTES_PER_TURN
    }

    /// Returns whether the kernel may take more, and the answer to the upgrade need not wait.
    fn may_write(&self) -> bool {
        !self.blocked && !self.held
    }

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
        let end = self.written + BYTES_PER_TURN as u64;
        while let Some(stream) = self.stream.as_ref()
            && !self.pieces.is_empty()
            && self.written < end
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

    /// Frees the queue, except for the rest of a frame that is written in part: a close frame must come after it.
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

    /// Writes nothing more. Dropping the write half sends a FIN.
    fn fail(&mut self) {
        self.stream = None;
        self.pieces = VecDeque::new();
        self.bytes = 0;
        self.exempt = 0;
        self.blocked = false;
    }
}

/// Writes from the front of the queue as much as the kernel takes at once.
#[cfg(not(target_arch = "wasm32"))]
fn write_front(stream: &OwnedWriteHalf, pieces: &VecDeque<Piece>) -> io::Result<usize> {
    // A broadcast is almost always one piece, and a plain write costs the kernel less.
    if let (Some(only), 1) = (pieces.front(), pieces.len()) {
        return stream.try_write(beginning(&only.bytes, BYTES_PER_TURN));
    }
    let mut slices = [io::IoSlice::new(&[]); FRAMES_PER_WRITE];
    let (mut count, mut room) = (0, BYTES_PER_TURN);
    for (slice, piece) in slices.iter_mut().zip(pieces) {
        let bytes = beginning(&piece.bytes, room);
        *slice = io::IoSlice::new(bytes);
        count += 1;
        room -= bytes.len();
        if room == 0 {
            break;
        }
    }
    stream.try_write_vectored(&slices[..count])
}

/// The first bytes, `most` of them at most.
fn beginning(bytes: &[u8], most: usize) -> &[u8] {
    &bytes[..bytes.len().min(most)]
}

/// Writes from the front of the queue as much as the kernel takes at once. Pieces are copied together, because the
/// `writev` of Rust 1.95's libc for WASI waits until the kernel takes more, its `write` does not, and without
/// TCP_NODELAY a second small write waits for the acknowledgement of the first.
#[cfg(target_arch = "wasm32")]
fn write_front(stream: &OwnedWriteHalf, pieces: &VecDeque<Piece>) -> io::Result<usize> {
    let Some(first) = pieces.front() else {
        return Ok(0);
    };
    if pieces.len() == 1 || first.bytes.len() >= BYTES_PER_TURN {
        return stream.try_write(beginning(&first.bytes, BYTES_PER_TURN));
    }
    let mut together = Vec::with_capacity(BYTES_PER_TURN);
    for piece in pieces {
        let room = BYTES_PER_TURN - together.len();
        together.extend_from_slice(beginning(&piece.bytes, room));
        if together.len() == BYTES_PER_TURN {
            break;
        }
    }
    stream.try_write(&together)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpStream};
    use wire::AccessCheck;

    struct State(Frame);

    impl State {
        fn new(bytes: usize) -> Self {
            Self(Frame::binary(vec![7; bytes].into()))
        }
    }

    impl Outbound for State {
        fn frames(&self) -> &[Frame] {
            std::slice::from_ref(&self.0)
        }
    }

    /// A socket, its reading half and its client.
    async fn socket() -> (Socket, tokio::net::tcp::OwnedReadHalf, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await;
        let (read, write) = listener.accept().await.unwrap().0.into_split();
        let grant = Grant::new(AccessCheck::default(), true, None, 1);
        let socket = Socket::new(1, false, grant, write, usize::MAX, Bytes::new());
        (socket, read, client.unwrap())
    }

    #[tokio::test]
    async fn what_is_little_goes_out_at_once() {
        let (socket, _read, _client) = socket().await;
        socket.push([&State::new(BYTES_PER_TURN / 2)]);
        assert!(!socket.progress().large);
        socket.flush();
        assert!(socket.progress().empty);
    }

    #[tokio::test]
    async fn only_its_own_task_writes_what_is_much_and_a_turn_is_bounded() {
        let (socket, _read, _client) = socket().await;
        socket.push_state([&State::new(3 * BYTES_PER_TURN)]);
        for other in [Socket::flush, Socket::open] {
            other(&socket);
            assert_eq!(socket.progress().written, 0);
            // It wakes the socket's own task.
            socket.changed.notified().await;
        }
        assert!(socket.progress().large);
        assert!(socket.flush_some(), "there is more");
        let written = usize::try_from(socket.progress().written).unwrap();
        assert!((1..=2 * BYTES_PER_TURN).contains(&written), "{written}");
    }
}
