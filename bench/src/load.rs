//! Open-loop load: clients in rooms, some of whom write at a steady rate, whatever the server
//! makes of it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Dialect, JoinOptions, Socket};
use crate::stats::{Samples, micros};

/// How long after the last update the clients may still receive.
const DRAIN: Duration = Duration::from_secs(10);

/// A writer that is later than this behind its schedule has been held up, and its latency counts
/// from when it should have sent. Below, it is the timer's coarseness, and counts from when it did.
const LATE: Duration = Duration::from_millis(5);

/// How many connections are opened at a time.
pub(crate) const CONNECT_AT_ONCE: usize = 32;

/// What is to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The rooms.
    pub rooms: Vec<Room>,
    /// Updates a second of each writer.
    pub rate: f64,
    /// Updates sent before this are delivered and counted, but their latency is not.
    pub warm_up: Duration,
}

/// A room of a [`Plan`].
#[derive(Debug, Clone)]
pub(crate) struct Room {
    /// Its id.
    pub name: String,
    /// How many are in it, the writers among them.
    pub clients: usize,
    /// The updates of each writer, in order.
    pub writers: Vec<Vec<Bytes>>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// From send to receipt by each other client in the room.
    pub latencies: Samples,
    /// How many receipts there were.
    pub delivered: u64,
    /// How many there should have been.
    pub expected: u64,
    /// Binary frames that no writer had sent like this.
    pub unknown: u64,
    /// Clients whose connection ended too early.
    pub lost_clients: u64,
    /// From the first send to the last receipt, in seconds.
    pub seconds: f64,
}

/// Every update of a run: when it was sent, and how it is recognized.
struct Journal {
    start: Instant,
    /// Nanoseconds after `start`, by update.
    sent: Vec<AtomicU64>,
    /// Which update a frame carries, by its fingerprint.
    known: HashMap<u64, u32>,
    /// Updates from this moment on are measured.
    measured_from: Duration,
}

/// What one client received.
#[derive(Default)]
struct Receipts {
    micros: Vec<u32>,
    seen: Vec<bool>,
    delivered: u64,
    unknown: u64,
    lost: bool,
}

/// One client's part: what it waits for.
struct Waiting {
    expected: u64,
    receipts: Arc<Mutex<Receipts>>,
}

/// Recognizes a frame: 64 bits over all of it.
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

/// Joins a client to its room, with patience for a server that is busy with the others.
///
/// # Errors
/// When it is refused, or not served within 30 s.
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

/// Connects everybody, sends everything, and waits until it has arrived.
///
/// # Errors
/// When a client cannot join, or an update does not fit into a frame.
pub(crate) async fn run(dialect: Dialect, address: SocketAddr, plan: &Plan) -> Result<Outcome> {
    let mut frames: Vec<Vec<Vec<Bytes>>> = Vec::new();
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
    let updates = known.len();

    let mut sockets = connect(dialect, address, plan).await?;
    let journal = Arc::new(Journal {
        // A moment, so that everybody is ready.
        start: Instant::now() + Duration::from_millis(300),
        sent: (0..updates).map(|_| AtomicU64::new(0)).collect(),
        known,
        measured_from: plan.warm_up,
    });

    let mut waiting = Vec::new();
    let mut readers = JoinSet::new();
    let mut writers = JoinSet::new();
    let writer_count: usize = plan.rooms.iter().map(|room| room.writers.len()).sum();
    let (mut first, mut writer_number) = (0_usize, 0_usize);
    for (room, frames) in plan.rooms.iter().zip(frames) {
        let in_room: usize = frames.iter().map(Vec::len).sum();
        let mut frames = frames.into_iter();
        for _ in 0..room.clients {
            let Some(socket) = sockets.pop() else { break };
            let (sink, stream) = socket.split();
            let own = frames.next();
            let receipts = Arc::new(Mutex::new(Receipts {
                seen: vec![false; updates],
                ..Receipts::default()
            }));
            let expected = (in_room - own.as_ref().map_or(0, Vec::len)) as u64;
            waiting.push(Waiting {
                expected,
                receipts: Arc::clone(&receipts),
            });
            readers.spawn(read(stream, Arc::clone(&journal), receipts, expected));
            if let Some(own) = own {
                let interval = Duration::from_secs_f64(1.0 / plan.rate);
                let phase = interval.mul_f64(writer_number as f64 / writer_count as f64);
                let count = own.len();
                writers.spawn(write(
                    sink,
                    own,
                    first,
                    Arc::clone(&journal),
                    phase,
                    interval,
                ));
                first += count;
                writer_number += 1;
            } else {
                // The sink goes; the stream keeps the connection.
                drop(sink);
            }
        }
    }

    while let Some(writer) = writers.join_next().await {
        // A writer whose server went away: the missing receipts tell.
        if let Ok(Err(error)) = writer {
            eprintln!("  a writer: {error:#}");
        }
    }
    // Who has it all stays connected until everybody has, for a leaving client is work too.
    let mut done = Vec::new();
    let all_read = async {
        while let Some(stream) = readers.join_next().await {
            done.push(stream);
        }
    };
    let _ = tokio::time::timeout(DRAIN, all_read).await;
    let seconds = (Instant::now() - journal.start).as_secs_f64();
    readers.abort_all();
    while readers.join_next().await.is_some() {}
    Ok(gather(waiting, seconds))
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
        // Nobody else locks it before this task has ended.
        let mut noted = receipts.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.note(&journal, &bytes, now) == expected {
            return stream;
        }
    }
    let mut noted = receipts.lock().unwrap_or_else(PoisonError::into_inner);
    noted.lost = noted.delivered < expected;
    drop(noted);
    stream
}

impl Receipts {
    /// Notes a frame, and returns how many different updates have come.
    fn note(&mut self, journal: &Journal, frame: &[u8], now: Duration) -> u64 {
        let Some(&number) = journal.known.get(&fingerprint(frame)) else {
            self.unknown += 1;
            return self.delivered;
        };
        let number = number as usize;
        // A second copy is no second delivery.
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
        let mut receipts = client
            .receipts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
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
