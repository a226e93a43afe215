//! One WebSocket and its task: reads frames, takes updates to the committer, writes what the
//! kernel would not take at once, and keeps the connection alive or lets it go.
//!
//! tungstenite reads, and writes its own replies (pongs, closes) through a [`Pipe`] into the same
//! queue that everything else goes through, so that there is one order and one writer.

use crate::Relay;
use crate::app::committer::Submission;
use crate::room::access::Pass;
use crate::room::join;
use crate::room::room::Room;
use crate::socket::frame::{Frame, PING};
use crate::socket::socket::{Close, Socket, Wants};
use bytes::Bytes;
use std::io::{self, ErrorKind, Read, Write};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{
    CloseFrame, Role, WebSocketConfig, WebSocketContext,
};
use tokio_tungstenite::tungstenite::{Error, Message, error::ProtocolError};

/// What an idle connection keeps to read into.
const READ_BUFFER: usize = 2 * 1024;

/// Messages that are read before others get a turn.
const MESSAGES_PER_TURN: usize = 64;

/// A payload that is larger keeps tungstenite from reusing, and keeping, its buffer.
const LARGE: usize = 16 * 1024;

/// What a client may go on sending after it was told that the connection is failed.
const DISCARDED: usize = 64 * 1024 * 1024;

/// One WebSocket. Owns the reading half of the stream, and the protocol's state; the writing half
/// and its queue are in the [`Socket`] that it shares with its room and the committer.
pub(crate) struct Connection {
    relay: Arc<Relay>,
    project: Arc<str>,
    socket: Arc<Socket>,
    stream: OwnedReadHalf,
    context: WebSocketContext,
    phase: Phase,
    /// Binary frames so far.
    frames: u64,
    /// Bytes of a message that has arrived in part.
    partial: usize,
    last_heard: Instant,
    /// What was written when the kernel last took something.
    written: (u64, Instant),
    /// When the next ping is due.
    next_ping: Instant,
    /// A large payload, kept over the next read so that tungstenite takes a new buffer.
    kept: Option<Bytes>,
}

#[derive(Clone, Copy)]
enum Phase {
    Open,
    /// The closing handshake is under way: frames are read, but mean nothing.
    Closing {
        until: Instant,
    },
    /// What comes is no WebSocket any more, but reading on lets the client see the close frame: an
    /// unread byte would make the kernel reset the connection.
    Failed {
        until: Instant,
        discarded: usize,
    },
}

/// Whether a connection goes on.
enum Step {
    /// There is nothing to do until something happens.
    Wait,
    /// There is more to do, after others had a turn.
    Again,
    /// It is over.
    Gone,
}

impl Connection {
    /// A connection whose opening handshake is done. `early` is what the client sent right after.
    pub(crate) fn new(
        relay: Arc<Relay>,
        project: Arc<str>,
        stream: TcpStream,
        early: Vec<u8>,
        wants: Wants,
        pass: Pass,
    ) -> Self {
        let (read, write) = stream.into_split();
        let socket = Socket::new(
            relay.next_socket_id(),
            wants,
            pass,
            write,
            relay.settings.max_socket_queue,
        );
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(usize::MAX)
            .max_message_size(Some(wire::MAX_UPDATE_BYTES))
            .max_frame_size(Some(wire::MAX_UPDATE_BYTES));
        let now = Instant::now();
        Self {
            next_ping: now + relay.settings.ping_interval,
            relay,
            project,
            socket: Arc::new(socket),
            stream: read,
            context: WebSocketContext::from_partially_read(early, Role::Server, Some(config)),
            phase: Phase::Open,
            frames: 0,
            partial: 0,
            last_heard: now,
            written: (0, now),
            kept: None,
        }
    }

    /// Joins the room and serves the connection until it ends.
    pub(crate) async fn run(mut self, version: Option<Vec<u8>>) {
        let relay = self.relay.clone();
        relay.metrics.connections.add(1);
        relay.metrics.connections_total.add(1);
        let room = relay
            .rooms
            .enter(&relay, &self.project, self.socket.clone());
        if relay.is_draining() {
            self.socket.close(Close::DRAIN);
        } else {
            self.begin_join(&room, version);
        }
        self.serve().await;
        self.socket.finish();
        relay.metrics.partial_bytes.sub(self.partial);
        relay.rooms.leave(&relay, &room, self.socket.id);
        relay.metrics.connections.sub(1);
    }

    /// Joins in a task of its own: what it needs is gone once it is done.
    fn begin_join(&self, room: &Arc<Room>, version: Option<Vec<u8>>) {
        tokio::spawn(join::join(
            self.relay.clone(),
            room.clone(),
            self.socket.clone(),
            version,
        ));
    }

    async fn serve(&mut self) {
        let mut timer = pin!(sleep(Duration::ZERO));
        loop {
            match self.step() {
                Step::Gone => return,
                Step::Again => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Step::Wait => {}
            }
            let reading = self.may_read();
            let blocked = self.socket.progress().blocked;
            let interest = match (reading, blocked) {
                (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
                (true, false) => Some(Interest::READABLE),
                (false, true) => Some(Interest::WRITABLE),
                (false, false) => None,
            };
            let check = self.next_check();
            if timer.deadline() != check {
                timer.as_mut().reset(check);
            }
            tokio::select! {
                ready = self.stream.ready(interest.unwrap_or(Interest::READABLE)), if interest.is_some() => {
                    match ready {
                        Ok(ready) if ready.is_writable() => self.socket.unblock(),
                        Ok(_) => {}
                        Err(_) => return,
                    }
                }
                () = self.socket.changed.notified() => {}
                () = timer.as_mut() => {}
            }
        }
    }

    /// Does everything that can be done without waiting.
    fn step(&mut self) -> Step {
        let progress = self.socket.progress();
        if progress.broken {
            return match self.phase {
                // A FIN was sent; the client's is awaited.
                Phase::Failed { .. } => self.discard(),
                _ => Step::Gone,
            };
        }
        if let (Phase::Open, Some(close)) = (self.phase, progress.close) {
            self.close(close);
        }
        let step = match self.phase {
            Phase::Failed { .. } => self.discard(),
            _ => self.receive(),
        };
        self.socket.flush();
        match step {
            Step::Wait => self.check_time(),
            step => step,
        }
    }

    /// Reads messages until there are no more, or it is another's turn.
    fn receive(&mut self) -> Step {
        for _ in 0..MESSAGES_PER_TURN {
            if !self.may_read() {
                return Step::Wait;
            }
            let mut pipe = Pipe {
                stream: &self.stream,
                socket: &self.socket,
                read: 0,
            };
            let message = self.context.read(&mut pipe);
            let read = pipe.read;
            self.kept = None;
            if self.is_too_much(read, message.is_ok()) {
                return self.end_for(Close::TRY_AGAIN_LATER);
            }
            match message {
                Ok(message) => {
                    self.last_heard = Instant::now();
                    if matches!(self.phase, Phase::Open) {
                        self.handle(message);
                    }
                }
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    return Step::Wait;
                }
                Err(error) => return self.end(error),
            }
            if matches!(self.phase, Phase::Failed { .. }) {
                return Step::Again;
            }
        }
        Step::Again
    }

    /// Counts what has arrived of a message that is not whole yet, over all connections, and
    /// tells whether that is more than there may be.
    fn is_too_much(&mut self, read: usize, whole: bool) -> bool {
        let partial = &self.relay.metrics.partial_bytes;
        partial.add(read);
        self.partial += read;
        if whole {
            partial.sub(std::mem::take(&mut self.partial));
            return false;
        }
        self.partial > LARGE && partial.get() > self.relay.settings.max_partial as u64
    }

    /// Fails the connection in the middle of a message: nothing more of it is kept.
    fn end_for(&mut self, close: Close) -> Step {
        if matches!(self.phase, Phase::Open) {
            self.close(close);
            self.socket.close(close);
        }
        self.fail();
        Step::Again
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Binary(payload) => self.submit(payload),
            Message::Text(text) if text.as_str() == "ping" => {
                self.socket.push([&Frame::text("pong")]);
            }
            Message::Text(_) => self.socket.refuse(
                "unexpected_text",
                "updates are binary frames; the only text is \"ping\"",
                None,
            ),
            // tungstenite answers pings and closes itself.
            _ => {}
        }
    }

    fn submit(&mut self, payload: Bytes) {
        self.frames += 1;
        self.relay.metrics.frames_in_total.add(1);
        if payload.len() > LARGE {
            self.kept = Some(payload.clone());
        }
        if !self.socket.pass.may_write() {
            self.relay.metrics.updates_refused_total.add(1);
            let words = "you may read this project, but not change it";
            self.socket.refuse("read_only", words, Some(self.frames));
            return;
        }
        let submission = Submission {
            project: self.project.clone(),
            socket: self.socket.clone(),
            number: self.frames,
            frame: Frame::binary(payload),
        };
        if self
            .relay
            .committer
            .submit(&self.relay, submission)
            .is_err()
        {
            self.socket.close(Close::TRY_AGAIN_LATER);
        }
    }

    /// Whether to read: not while the committer has its share of this socket, nor while draining,
    /// so that the client is held back by TCP itself.
    fn may_read(&self) -> bool {
        if !matches!(self.phase, Phase::Open) {
            return true;
        }
        let settings = &self.relay.settings;
        let (updates, bytes) = self.socket.pending();
        !self.relay.is_draining()
            && updates < settings.max_socket_updates
            && bytes < settings.max_socket_commit
            && (updates == 0 || !self.relay.committer.is_congested(&self.relay))
    }

    /// Begins the closing handshake.
    fn close(&mut self, close: Close) {
        match close.code {
            4008 => self.relay.metrics.closed_slow_total.add(1),
            1013 => self.relay.metrics.closed_try_again_total.add(1),
            _ => {}
        }
        self.phase = Phase::Closing {
            until: Instant::now() + self.relay.settings.close_timeout,
        };
        self.send_close(close.into(), close.reason);
    }

    fn send_close(&mut self, code: CloseCode, reason: &'static str) {
        let mut pipe = Pipe {
            stream: &self.stream,
            socket: &self.socket,
            read: 0,
        };
        let frame = CloseFrame {
            code,
            reason: reason.into(),
        };
        // Queueing cannot fail; a context that is closed already has said so itself.
        let _ = self.context.close(&mut pipe, Some(frame));
    }

    /// The protocol is over, by a handshake or by a breach of it.
    fn end(&mut self, error: Error) -> Step {
        let (code, reason) = match error {
            Error::ConnectionClosed | Error::AlreadyClosed => {
                // The reply to the client's close may still be queued; nothing may follow it.
                self.socket.close(Close::NORMAL);
                self.fail();
                return Step::Again;
            }
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) | Error::Io(_) => {
                return Step::Gone;
            }
            Error::Capacity(_) => (CloseCode::Size, "a message is at most 16 MiB"),
            Error::Utf8(_) => (CloseCode::Invalid, "text must be UTF-8"),
            _ => (CloseCode::Protocol, "that is no WebSocket frame"),
        };
        if matches!(self.phase, Phase::Open) {
            self.send_close(code, reason);
            // Nothing is queued behind the close frame.
            self.socket.close(Close {
                code: code.into(),
                reason,
            });
        }
        self.fail();
        Step::Again
    }

    fn fail(&mut self) {
        let until = match self.phase {
            Phase::Open => Instant::now() + self.relay.settings.close_timeout,
            Phase::Closing { until } | Phase::Failed { until, .. } => until,
        };
        self.phase = Phase::Failed {
            until,
            discarded: 0,
        };
    }

    /// Sends a FIN once everything is written, and reads on until the client's.
    fn discard(&mut self) -> Step {
        let progress = self.socket.progress();
        if progress.empty && !progress.broken {
            self.socket.finish();
        }
        let Phase::Failed { discarded, until } = &mut self.phase else {
            return Step::Gone;
        };
        if Instant::now() >= *until {
            return Step::Gone;
        }
        let mut scrap = [0; 16 * 1024];
        for _ in 0..MESSAGES_PER_TURN {
            match self.stream.try_read(&mut scrap) {
                Ok(0) => return Step::Gone,
                Ok(read) => {
                    *discarded += read;
                    if *discarded > DISCARDED {
                        return Step::Gone;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Step::Wait,
                Err(_) => return Step::Gone,
            }
        }
        Step::Again
    }

    /// When to look at the clock again.
    fn next_check(&self) -> Instant {
        match self.phase {
            Phase::Open => self.next_ping,
            Phase::Closing { until } | Phase::Failed { until, .. } => until,
        }
    }

    /// Pings, and ends what has been silent or stuck for too long.
    fn check_time(&mut self) -> Step {
        let now = Instant::now();
        match self.phase {
            Phase::Open => {}
            Phase::Closing { until } | Phase::Failed { until, .. } if now >= until => {
                return Step::Gone;
            }
            _ => return Step::Wait,
        }
        if now < self.next_ping {
            return Step::Wait;
        }
        let settings = &self.relay.settings;
        self.next_ping = now + settings.ping_interval;
        let progress = self.socket.progress();
        if progress.written != self.written.0 || !progress.blocked {
            self.written = (progress.written, now);
        }
        if !self.may_read() {
            // Its pongs are not read either.
            self.last_heard = now;
        }
        if now - self.written.1 >= settings.write_timeout
            || now - self.last_heard >= settings.idle_timeout
        {
            self.relay.metrics.closed_dead_total.add(1);
            return Step::Gone;
        }
        if !progress.blocked {
            self.socket.push_control(Bytes::from_static(PING));
            self.socket.flush();
        }
        Step::Wait
    }
}

/// The stream as tungstenite sees it: reads come from the socket, writes go to the end of its
/// queue. tungstenite writes whole frames, at once.
struct Pipe<'a> {
    stream: &'a OwnedReadHalf,
    socket: &'a Socket,
    read: usize,
}

impl Read for Pipe<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.try_read(buffer)?;
        self.read += read;
        Ok(read)
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.push_control(Bytes::copy_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
