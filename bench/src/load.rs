//! The open-loop load: clients in rooms, some of which write at a steady rate, however far the
//! server falls behind.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::client::Dialect;
use crate::connection::{JoinOptions, Socket};
use crate::stats::{Samples, micros};

/// The time in which the clients may still receive after the last update was sent.
const DRAIN: Duration = Duration::from_secs(10);

/// A writer that is further behind its schedule than this was held up, so its latency counts from
/// the scheduled time. A smaller delay is the timer's coarseness, and the latency counts from the
/// actual time.
const LATE: Duration = Duration::from_millis(5);

/// The number of connections that are opened at a time.
pub(crate) const CONNECT_AT_ONCE: usize = 32;

/// The load of one run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The rooms.
    pub rooms: Vec<Room>,
    /// The updates that each writer sends a second.
    pub rate: f64,
    /// The warm-up: updates that are sent in this time are delivered and counted, but not measured.
    pub warm_up: Duration,
}

/// A room of a [`Plan`].
#[derive(Debug, Clone)]
pub(crate) struct Room {
    /// The room's id.
    pub name: String,
    /// The number of clients in it, including the writers.
    pub clients: usize,
    /// The updates of each writer, in order.
    pub writers: Vec<Vec<Bytes>>,
}

/// The result of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The times from sending to receipt by each other client in the room.
    pub latencies: Samples,
    /// The number of receipts.
    pub delivered: u64,
    /// The number of receipts that there should have been.
    pub expected: u64,
    /// The number of binary frames that no writer had sent in this form.
    pub unknown: u64,
    /// The number of clients whose connection ended too early.
    pub lost_clients: u64,
    /// The time from the first sending to the last receipt, in seconds.
    pub seconds: f64,
}

/// The updates of a run, each with the time of its sending and its fingerprint.
struct Journal {
    start: Instant,
    /// The time of sending of each update, in nanoseconds after `start`.
    sent: Vec<AtomicU64>,
    /// The update that a frame carries, by the frame's fingerprint.
    known: HashMap<u64, u32>,
    /// The moment from which on updates are measured, by the time of their sending.
    measured_from: Duration,
}

/// The updates that one client received.
#[derive(Default)]
struct Receipts {
    micros: Vec<u32>,
    seen: Vec<bool>,
    delivered: u64,
    unknown: u64,
    lost: bool,
}

/// The receipts of one client, and the number that it waits for.
struct Waiting {
    expected: u64,
    receipts: Arc<Mutex<Receipts>>,
}

/// The frames to send, by room, by writer, and in order.
type Frames = Vec<Vec<Vec<Bytes>>>;

/// The clients of a run, each of which has a reader and perhaps a writer.
#[derive(Default)]
struct Clients {
    waiting: Vec<Waiting>,
    readers: JoinSet<SplitStream<Socket>>,
    writers: JoinSet<Result<()>>,
}

/// Computes a 64-bit hash over the whole frame, by which it is recognized.
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = bytes.len() as u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash.rotate_left(23) ^ u64::from_le_bytes(word)).wrapping_mul(ODD);
    }
    hash ^ (hash >> 32)
}

/// Joins a client to its room, and waits longer than usual because the server may be busy with
/// the other clients.
///
/// # Errors
/// If the server refuses the client, or sends no state within 30 s.
pub(crate) async fn join_patiently(
    dialect: Dialect,
    address: SocketAddr,
    room: &str,
    options: JoinOptions,
) -> Result<Socket> {
    let join = dialect.join(address, room, options);
    let joined = tokio::time::timeout(Duration::from_secs(30), join)
        .await
        .context("no state within 30 s")?
        .with_context(|| format!("join {room}"))?;
    Ok(joined.socket)
}

/// Connects all clients, sends all updates, and waits until they have arrived.
///
/// # Errors
/// If a client cannot join, or an update does not fit into a frame.
pub(crate) async fn run(dialect: Dialect, address: SocketAddr, plan: &Plan) -> Result<Outcome> {
    let (frames, known) = encode(dialect, plan)?;
    let sockets = connect(dialect, address, plan).await?;
    let journal = Arc::new(Journal {
        // The start is a moment later, so that every client is ready.
        start: Instant::now() + Duration::from_millis(300),
        sent: (0..known.len()).map(|_| AtomicU64::new(0)).collect(),
        known,
        measured_from: plan.warm_up,
    });
    let clients = start_clients(plan, sockets, frames, &journal);
    Ok(clients.finish(journal.start).await)
}

/// Encodes every update as a frame, and numbers them in that order.
fn encode(dialect: Dialect, plan: &Plan) -> Result<(Frames, HashMap<u64, u32>)> {
    let mut frames = Frames::new();
    let mut known = HashMap::new();
    for room in &plan.rooms {
        let mut of_room = Vec::new();
        for writer in &room.writers {
            let mut of_writer = Vec::new();
            for update in writer {
                let frame = dialect.frame(&room.name, update)?;
                let number = u32::try_from(known.len())?;
                known.insert(fingerprint(&frame), number);
                of_writer.push(frame);
            }
            of_room.push(of_writer);
        }
        frames.push(of_room);
    }
    Ok((frames, known))
}

/// Starts a reader for each client, and a writer for each client that writes.
fn start_clients(
    plan: &Plan,
    mut sockets: Vec<Socket>,
    frames: Frames,
    journal: &Arc<Journal>,
) -> Clients {
    let mut clients = Clients::default();
    let interval = Duration::from_secs_f64(1.0 / plan.rate);
    let writer_count: usize = plan.rooms.iter().map(|room| room.writers.len()).sum();
    let (mut first, mut writer_number) = (0_usize, 0_usize);
    for (room, frames) in plan.rooms.iter().zip(frames) {
        let in_room: usize = frames.iter().map(Vec::len).sum();
        let mut frames = frames.into_iter();
        for _ in 0..room.clients {
            let Some(socket) = sockets.pop() else { break };
            let (sink, stream) = socket.split();
            let own = frames.next();
            let expected = (in_room - own.as_ref().map_or(0, Vec::len)) as u64;
            clients.start_reader(stream, expected, journal);
            if let Some(own) = own {
                let phase = interval.mul_f64(writer_number as f64 / writer_count as f64);
                let count = own.len();
                let journal = Arc::clone(journal);
                let writer = write(sink, own, first, journal, phase, interval);
                clients.writers.spawn(writer);
                first += count;
                writer_number += 1;
            } else {
                // This client never sends; its stream keeps the connection open.
                drop(sink);
            }
        }
    }
    clients
}

impl Clients {
    fn start_reader(&mut self, stream: SplitStream<Socket>, expected: u64, journal: &Arc<Journal>) {
        let receipts = Arc::new(Mutex::new(Receipts {
            seen: vec![false; journal.sent.len()],
            ..Receipts::default()
        }));
        self.waiting.push(Waiting {
            expected,
            receipts: Arc::clone(&receipts),
        });
        self.readers
            .spawn(read(stream, Arc::clone(journal), receipts, expected));
    }

    /// Waits until every update is sent and received, for at most [`DRAIN`] after the last one was
    /// sent.
    async fn finish(mut self, start: Instant) -> Outcome {
        while let Some(writer) = self.writers.join_next().await {
            // A writer fails if its server goes away; the missing receipts show that, too.
            if let Ok(Err(error)) = writer {
                eprintln!("  a writer: {error:#}");
            }
        }
        // A client that has received everything stays connected until all others have, because a
        // leaving client would make work for the server.
        let mut done = Vec::new();
        let all_read = async {
            while let Some(stream) = self.readers.join_next().await {
                done.push(stream);
            }
        };
        let _ = tokio::time::timeout(DRAIN, all_read).await;
        let seconds = (Instant::now() - start).as_secs_f64();
        self.readers.abort_all();
        while self.readers.join_next().await.is_some() {}
        gather(self.waiting, seconds)
    }
}

async fn connect(dialect: Dialect, address: SocketAddr, plan: &Plan) -> Result<Vec<Socket>> {
    let rooms: Vec<String> = plan
        .rooms
        .iter()
        .rev()
        .flat_map(|room| std::iter::repeat_n(room.name.clone(), room.clients))
        .collect();
    futures_util::stream::iter(rooms)
        .map(|room| async move {
            join_patiently(dialect, address, &room, JoinOptions::default()).await
        })
        .buffered(CONNECT_AT_ONCE)
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect()
}

async fn write(
    mut sink: SplitSink<Socket, Message>,
    frames: Vec<Bytes>,
    first: usize,
    journal: Arc<Journal>,
    phase: Duration,
    interval: Duration,
) -> Result<()> {
    for (number, frame) in frames.into_iter().enumerate() {
        let due = journal.start + phase + interval.mul_f64(number as f64);
        tokio::time::sleep_until(due).await;
        let now = Instant::now();
        let counted_from = if now - due > LATE { due } else { now };
        let nanos = (counted_from - journal.start).as_nanos();
        journal.sent[first + number].store(u64::try_from(nanos)?, Ordering::Relaxed);
        sink.send(Message::Binary(frame)).await?;
    }
    Ok(())
}

async fn read(
    mut stream: SplitStream<Socket>,
    journal: Arc<Journal>,
    receipts: Arc<Mutex<Receipts>>,
    expected: u64,
) -> SplitStream<Socket> {
    if expected == 0 {
        return stream;
    }
    while let Some(message) = stream.next().await {
        let bytes = match message {
            Ok(Message::Binary(bytes)) => bytes,
            Ok(Message::Close(_)) | Err(_) => break,
            Ok(_) => continue,
        };
        let now = journal.start.elapsed();
        // No other task locks the receipts before this task has ended.
        let mut noted = receipts.lock();
        if noted.note(&journal, &bytes, now) == expected {
            return stream;
        }
    }
    let mut noted = receipts.lock();
    noted.lost = noted.delivered < expected;
    drop(noted);
    stream
}

impl Receipts {
    /// Records a frame, and returns the number of different updates received so far.
    fn note(&mut self, journal: &Journal, frame: &[u8], now: Duration) -> u64 {
        let Some(&number) = journal.known.get(&fingerprint(frame)) else {
            self.unknown += 1;
            return self.delivered;
        };
        let number = number as usize;
        // A second copy is not a second delivery.
        if !std::mem::replace(&mut self.seen[number], true) {
            self.delivered += 1;
            let sent = Duration::from_nanos(journal.sent[number].load(Ordering::Relaxed));
            if sent >= journal.measured_from {
                self.micros.push(micros(now.saturating_sub(sent)));
            }
        }
        self.delivered
    }
}

fn gather(waiting: Vec<Waiting>, seconds: f64) -> Outcome {
    let mut latencies = Vec::new();
    let (mut delivered, mut expected, mut unknown, mut lost_clients) = (0, 0, 0, 0);
    for client in waiting {
        let mut receipts = client.receipts.lock();
        latencies.append(&mut receipts.micros);
        delivered += receipts.delivered;
        expected += client.expected;
        unknown += receipts.unknown;
        lost_clients += u64::from(receipts.lost);
    }
    Outcome {
        latencies: Samples::new(latencies),
        delivered,
        expected,
        unknown,
        lost_clients,
        seconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_tell_frames_apart() {
        let frames: [&[u8]; 6] = [b"", b"\0", b"\0\0", b"12345678", b"123456789", b"923456781"];
        for (a, one) in frames.iter().enumerate() {
            for (b, other) in frames.iter().enumerate() {
                assert_eq!(
                    fingerprint(one) == fingerprint(other),
                    a == b,
                    "{one:?} {other:?}"
                );
            }
        }
    }

    #[test]
    fn a_receipt_counts_once_and_only_if_known() {
        let journal = Journal {
            start: Instant::now(),
            sent: vec![AtomicU64::new(1_000_000), AtomicU64::new(2_000_000_000)],
            known: HashMap::from([(fingerprint(b"early"), 0), (fingerprint(b"later"), 1)]),
            measured_from: Duration::from_secs(1),
        };
        let mut receipts = Receipts {
            seen: vec![false; 2],
            ..Receipts::default()
        };
        assert_eq!(
            receipts.note(&journal, b"early", Duration::from_millis(3)),
            1
        );
        assert_eq!(
            receipts.note(&journal, b"later", Duration::from_millis(2005)),
            2
        );
        assert_eq!(
            receipts.note(&journal, b"later", Duration::from_millis(2009)),
            2
        );
        assert_eq!(
            receipts.note(&journal, b"other", Duration::from_millis(2009)),
            2
        );
        assert_eq!(receipts.micros, [5000], "the warm-up is not measured");
        assert_eq!(receipts.unknown, 1);
    }
}
