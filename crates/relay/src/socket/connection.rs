//! A WebSocket and its task, which reads frames, takes updates to the committer, writes what the kernel did not take at
//! once, and keeps the connection alive or drops it.
//!
//! tungstenite reads from a [`Pipe`], and writes its own replies (pongs, closes) through it into the queue that
//! everything else goes through, so that there is one order and one writer.

mod ending;

use crate::app::submission::Submission;
use crate::room::grant::Grant;
use crate::room::join;
use crate::room::reads::{self, Version};
use crate::room::room::Room;
use crate::socket::close::Close;
use crate::socket::frame::{Frame, PING};
use crate::socket::opening::{self, Opening};
use crate::socket::pipe::Pipe;
use crate::socket::raw::{self, Announced};
use crate::socket::shared::Shared;
use crate::socket::socket::Socket;
use bytes::Bytes;
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketContext};
use tokio_tungstenite::tungstenite::{Error, Message};

/// The number of messages that are read before other tasks get a turn.
const MESSAGES_PER_TURN: usize = 64;

/// The size of a payload, in bytes, beyond which tungstenite must not reuse its buffer, because it would keep it.
const LARGE: usize = 16 * 1024;

/// A WebSocket. It owns the reading half of the stream and the state of the protocol. The writing half and its queue
/// are in the [`Socket`] that it shares with its room and the committer.
pub(crate) struct Connection {
    shared: Arc<Shared>,
    project: Arc<str>,
    socket: Arc<Socket>,
    stream: OwnedReadHalf,
    context: WebSocketContext,
    phase: Phase,
    /// The number of binary frames so far.
    frames: u64,
    /// The bytes of a message that has arrived in part.
    partial: usize,
    last_received: Instant,
    /// The number of bytes that were written when the kernel last accepted some, and that time.
    written: (u64, Instant),
    /// The time at which the next ping is due.
    next_ping: Instant,
    /// The latest time at which the answer to the upgrade goes out; `None` after that.
    opens_at: Option<Instant>,
    /// The room that the client joins when its version has come, and the time until which it may come.
    joins: Option<(Arc<Room>, Instant)>,
    /// A large payload, kept during the next read so that tungstenite takes a new buffer.
    kept: Option<Bytes>,
}

#[derive(Clone, Copy)]
enum Phase {
    Open,
    /// The closing handshake is under way: frames are read and ignored.
    Closing {
        until: Instant,
    },
    /// The bytes that come are no longer those of a WebSocket. They are still read, because an unread byte would make the
    /// kernel reset the connection before the client sees the close frame.
    Failed {
        until: Instant,
        discarded: usize,
    },
}

/// The ways in which a connection goes on.
enum Step {
    /// The connection has nothing to do until an event.
    Wait,
    /// The connection has more to do, after other tasks had a turn.
    Again,
    /// The connection has ended.
    Gone,
}

impl Connection {
    /// A connection whose opening handshake is done, except that the answer to it is yet to be written.
    pub(crate) fn new(
        shared: Arc<Shared>,
        project: Arc<str>,
        stream: TcpStream,
        opening: Opening,
        wants_events: bool,
        grant: Grant,
    ) -> Self {
        let (read, write) = stream.into_split();
        let now = Instant::now();
        let opens_at = opening.answer_by(now);
        let config = opening.config(shared.settings.max_body);
        let socket = Socket::new(
            shared.next_socket_id(),
            wants_events,
            grant,
            write,
            shared.settings.max_socket_queue,
            opening.answer.into(),
        );
        Self {
            next_ping: now + shared.settings.ping_interval,
            shared,
            project,
            socket: Arc::new(socket),
            stream: read,
            context: WebSocketContext::from_partially_read(
                opening.early,
                Role::Server,
                Some(config),
            ),
            phase: Phase::Open,
            frames: 0,
            partial: 0,
            last_received: now,
            written: (0, now),
            opens_at: Some(opens_at),
            joins: None,
            kept: None,
        }
    }

    /// Joins the room and serves the connection until it ends.
    pub(crate) async fn run(mut self, version: Announced) {
        let shared = self.shared.clone();
        let (metrics, rooms) = (&shared.metrics, &shared.rooms);
        metrics.connections.add(1);
        metrics.connections_total.add(1);
        let room = rooms.enter(&self.project, self.socket.clone());
        if shared.draining.is_cancelled() {
            self.socket.close(Close::DRAIN);
        } else {
            match version {
                Announced::Here(version) => self.join(room.clone(), version),
                Announced::InFrame => {
                    let until = Instant::now() + shared.settings.version_timeout;
                    self.joins = Some((room.clone(), until));
                }
            }
        }
        self.serve().await;
        self.socket.finish();
        metrics.partial_bytes.sub(self.partial);
        rooms.leave(&room, self.socket.id);
        metrics.connections.sub(1);
    }

    /// Joins in a task of its own, so that the memory that joining takes is free after it.
    fn join(&self, room: Arc<Room>, version: Version) {
        let (rooms, socket) = (self.shared.rooms.clone(), self.socket.clone());
        tokio::spawn(join::join(rooms, room, socket, version));
    }

    async fn serve(&mut self) {
        let shared = self.shared.clone();
        let mut timer = pin!(sleep(Duration::ZERO));
        loop {
            let step = if self.socket.progress().large {
                // The semaphore is never closed.
                let _turn = shared.large_writes.acquire().await;
                self.step()
            } else {
                self.step()
            };
            match step {
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
        if let Some(at) = self.opens_at
            && (Instant::now() >= at || progress.close.is_some())
        {
            self.open();
        }
        if progress.broken {
            return match self.phase {
                // The relay has sent its FIN and waits for the client's.
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
        match (step, self.socket.flush_some()) {
            (Step::Wait, true) => Step::Again,
            (Step::Wait, false) => self.check_time(),
            (step, _) => step,
        }
    }

    /// Lets the answer to the upgrade out.
    fn open(&mut self) {
        self.opens_at = None;
        self.socket.open();
    }

    /// Reads messages until there are no more, or other tasks must get a turn.
    fn receive(&mut self) -> Step {
        for _ in 0..MESSAGES_PER_TURN {
            if !self.may_read() {
                return Step::Wait;
            }
            let mut pipe = Pipe::new(&self.stream, &self.socket);
            let message = self.context.read(&mut pipe);
            let read = pipe.read;
            self.kept = None;
            if self.is_too_much(read, message.is_ok()) {
                return self.end_for(Close::TRY_AGAIN_LATER);
            }
            match message {
                Ok(message) => {
                    self.last_received = Instant::now();
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

    /// Counts the bytes of messages that are not complete yet, over all connections, and returns whether they are more
    /// than the limit.
    fn is_too_much(&mut self, read: usize, is_complete: bool) -> bool {
        let partial = &self.shared.metrics.partial_bytes;
        partial.add(read);
        self.partial += read;
        if is_complete {
            partial.sub(std::mem::take(&mut self.partial));
            return false;
        }
        self.partial > LARGE && partial.get() > self.shared.settings.max_partial as u64
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Binary(payload) => match self.joins.take() {
                None => self.submit(payload),
                Some((room, _)) => {
                    let messages = opening::for_messages(self.shared.settings.max_body);
                    self.context.set_config(|config| *config = messages);
                    self.join(room, reads::version(payload));
                }
            },
            Message::Text(text) if text.as_str() == "ping" => {
                self.socket.push([&raw::pong()]);
            }
            Message::Text(_) => self.socket.refuse(
                "unexpected_text",
                "an update is a binary frame; the only text frame is \"ping\"",
                None,
            ),
            // tungstenite itself answers pings and closes.
            _ => {}
        }
    }

    fn submit(&mut self, payload: Bytes) {
        self.frames += 1;
        self.shared.metrics.frames_in_total.add(1);
        if payload.len() > LARGE {
            self.kept = Some(payload.clone());
        }
        if !self.socket.grant.may_write() {
            self.shared.metrics.updates_refused_total.add(1);
            let message = "you may read this project, but not change it";
            self.socket.refuse("read_only", message, Some(self.frames));
            return;
        }
        let submission = Submission::new(
            self.project.clone(),
            self.socket.clone(),
            self.frames,
            self.shared.queue.next_serial(),
            Frame::binary(payload),
        );
        if self.shared.queue.submit(submission).is_err() {
            self.socket.close(Close::TRY_AGAIN_LATER);
        }
    }

    /// Returns whether to read. While the committer has its share of this socket, or the relay drains, nothing is read,
    /// so that TCP itself holds the client back.
    fn may_read(&self) -> bool {
        if !matches!(self.phase, Phase::Open) {
            return true;
        }
        let settings = &self.shared.settings;
        let (updates, bytes) = self.socket.pending();
        !self.shared.draining.is_cancelled()
            && updates < settings.max_socket_updates
            && bytes < settings.max_socket_commit
            && (updates == 0 || !self.shared.queue.is_congested())
    }

    /// Computes when to check the time again.
    fn next_check(&self) -> Instant {
        let check = match self.phase {
            Phase::Open => self.next_ping,
            Phase::Closing { until } | Phase::Failed { until, .. } => until,
        };
        let joins_by = self.joins.as_ref().map(|(_, until)| *until);
        let checks = [self.opens_at, joins_by];
        checks.into_iter().flatten().fold(check, Instant::min)
    }

    /// Pings, and ends a connection that has been silent or stuck for too long.
    fn check_time(&mut self) -> Step {
        let now = Instant::now();
        match self.phase {
            Phase::Open => {}
            Phase::Closing { until } | Phase::Failed { until, .. } if now >= until => {
                return Step::Gone;
            }
            _ => return Step::Wait,
        }
        if self.joins.take_if(|(_, until)| now >= *until).is_some() {
            self.socket.close(Close::NO_VERSION);
        }
        if now < self.next_ping {
            return Step::Wait;
        }
        let settings = &self.shared.settings;
        self.next_ping = now + settings.ping_interval;
        let progress = self.socket.progress();
        if progress.written != self.written.0 || !progress.blocked {
            self.written = (progress.written, now);
        }
        if !self.may_read() {
            // The client's pongs are not read either.
            self.last_received = now;
        }
        if now - self.written.1 >= settings.write_timeout
            || now - self.last_received >= settings.idle_timeout
        {
            self.shared.metrics.closed_dead_total.add(1);
            return Step::Gone;
        }
        if !progress.blocked {
            self.socket.push_control(Bytes::from_static(PING));
            self.socket.flush();
        }
        Step::Wait
    }
}
