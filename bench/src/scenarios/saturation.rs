//! The rate of ten writers in one room, each of which sends as fast as its updates are acknowledged.
//!
//! The official server of this version acknowledges nothing, so its updates count once an observer
//! in the room has received them. Our server is measured in the same way, and also by its
//! reports that an update is on disk.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use super::sides::{Bench, Pair, Side};
use crate::client_raw::{self, Event};
use crate::connection::{JoinOptions, Socket};
use crate::load::{fingerprint, join_patiently};
use crate::servers::Server;
use crate::stats::median;
use crate::table::Row;
use crate::updates;

const ROOM: &str = "saturation";
const WRITERS: usize = 10;

/// The event that lets a writer send its next update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acknowledged {
    /// Another client has received the update.
    Seen,
    /// The server reports that the update is on disk. Only our server does.
    Saved,
}

/// Counts acknowledgements, and lets the writers continue.
struct Progress {
    /// The free places in each writer's window.
    windows: Vec<Semaphore>,
    acknowledged: AtomicU64,
    /// The time from the start to the newest acknowledgement, in nanoseconds.
    last: AtomicU64,
    start: Instant,
    end: Instant,
}

impl Progress {
    fn acknowledge(&self, writer: usize, count: u64) {
        if Instant::now() <= self.end {
            self.acknowledged.fetch_add(count, Ordering::Relaxed);
            let nanos = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.last.fetch_max(nanos, Ordering::Relaxed);
        }
        self.windows[writer].add_permits(usize::try_from(count).unwrap_or(0));
    }

    /// Returns the acknowledged updates a second.
    fn rate(&self) -> f64 {
        let seconds = Duration::from_nanos(self.last.load(Ordering::Relaxed)).as_secs_f64();
        self.acknowledged.load(Ordering::Relaxed) as f64 / seconds.max(1e-9)
    }
}

pub(super) async fn run(bench: &Bench) -> Result<Vec<Row>> {
    let (seconds, each, repetitions) = if bench.quick {
        (1, 500, 1)
    } else {
        (5, 4000, 2)
    };
    let updates = series(each)?;
    let mut rows = Vec::new();
    for window in [1, 16] {
        let mut seen = Pair::<Vec<f64>>::default();
        let mut saved = Vec::new();
        for repetition in 0..repetitions {
            for side in Side::alternating(repetition) {
                let mut kinds = vec![Acknowledged::Seen];
                if side == Side::Ours {
                    kinds.push(Acknowledged::Saved);
                }
                for kind in kinds {
                    let length = Duration::from_secs(seconds);
                    match once(bench, side, &updates, window, kind, length).await {
                        Ok(rate) => {
                            eprintln!("  {}: window {window}, {kind:?}: {rate:.0}/s", side.name());
                            match kind {
                                Acknowledged::Seen => seen.side(side).push(rate),
                                Acknowledged::Saved => saved.push(rate),
                            }
                        }
                        Err(error) => eprintln!("  {} failed: {error:#}", side.name()),
                    }
                }
            }
        }
        rows.push(Row::new(
            "saturation",
            format!("window {window}, updates/s seen by another"),
            median(&seen.ours),
            median(&seen.theirs),
        ));
        rows.push(Row::new(
            "saturation",
            format!("window {window}, updates/s said to be saved"),
            median(&saved),
            "has no acks",
        ));
    }
    Ok(rows)
}

/// The updates of each writer.
///
/// # Errors
/// If Loro cannot make them.
pub(super) fn series(each: usize) -> Result<Vec<Vec<Bytes>>> {
    updates::apart(WRITERS, each, 1)
}

async fn once(
    bench: &Bench,
    side: Side,
    updates: &[Vec<Bytes>],
    window: usize,
    kind: Acknowledged,
    length: Duration,
) -> Result<f64> {
    let server = side.start(bench, ROOM)?;
    let rate = rate(&server, side, updates, window, kind, length).await?;
    server.kill()?;
    Ok(rate)
}

/// Measures the updates of ten writers that a server, which knows no rooms yet, acknowledges in a second.
///
/// # Errors
/// If a client cannot join.
pub(super) async fn rate(
    server: &Server,
    side: Side,
    updates: &[Vec<Bytes>],
    window: usize,
    kind: Acknowledged,
    length: Duration,
) -> Result<f64> {
    let options = JoinOptions {
        events: kind == Acknowledged::Saved,
        ..JoinOptions::default()
    };
    let join = || join_patiently(side.dialect(), server.address, ROOM, options);
    let mut writer_of = HashMap::new();
    let mut all_frames = Vec::new();
    for (writer, updates) in updates.iter().enumerate() {
        let frames = updates
            .iter()
            .map(|update| side.dialect().frame(ROOM, update))
            .collect::<Result<Vec<_>>>()?;
        writer_of.extend(frames.iter().map(|frame| (fingerprint(frame), writer)));
        all_frames.push(frames);
    }
    let observer = join().await?;
    let mut sockets = Vec::new();
    for _ in 0..WRITERS {
        sockets.push(join().await?);
    }

    let start = Instant::now();
    let progress = Arc::new(Progress {
        windows: (0..WRITERS).map(|_| Semaphore::new(window)).collect(),
        acknowledged: AtomicU64::new(0),
        last: AtomicU64::new(0),
        start,
        end: start + length,
    });
    let mut tasks = JoinSet::new();
    let seen_by = (kind == Acknowledged::Seen).then(|| Arc::clone(&progress));
    tasks.spawn(observe(observer, writer_of, seen_by));
    for (writer, (socket, frames)) in sockets.into_iter().zip(all_frames).enumerate() {
        let (mut sink, mut stream) = socket.split();
        let own = Arc::clone(&progress);
        tasks.spawn(async move {
            let mut saved = 0;
            while let Some(Ok(message)) = stream.next().await {
                if let Message::Text(text) = message
                    && let Event::Saved { frames } = client_raw::event(&text)
                {
                    own.acknowledge(writer, frames - saved);
                    saved = frames;
                }
            }
        });
        let own = Arc::clone(&progress);
        tasks.spawn(async move {
            for frame in frames {
                let Ok(permit) = own.windows[writer].acquire().await else {
                    return;
                };
                permit.forget();
                if sink.send(Message::Binary(frame)).await.is_err() {
                    return;
                }
            }
        });
    }
    tokio::time::sleep_until(progress.end).await;
    tasks.shutdown().await;
    Ok(progress.rate())
}

/// Receives as another client in the room, and acknowledges what it receives if `progress` is
/// given.
async fn observe(
    mut socket: Socket,
    writer_of: HashMap<u64, usize>,
    progress: Option<Arc<Progress>>,
) {
    while let Some(Ok(message)) = socket.next().await {
        if let (Message::Binary(frame), Some(progress)) = (message, &progress)
            && let Some(&writer) = writer_of.get(&fingerprint(&frame))
        {
            progress.acknowledge(writer, 1);
        }
    }
}
