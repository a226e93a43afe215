//! How a socket joins a room, and how a room that missed something catches up.
//!
//! Joining: subscribe, enter, read the state, then whatever came since. The room is subscribed
//! before the state is read, so nothing falls between. Everybody who joins a room at one time
//! shares one read.

use crate::Relay;
use crate::app::backoff::Backoff;
use crate::app::client::AppError;
use crate::room::room::{CatchUp, Room};
use crate::room::rooms;
use crate::socket::frame::Frame;
use crate::socket::raw;
use crate::socket::socket::{Close, Socket};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use http::StatusCode;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long a join waits for Redis to confirm the room's subscription.
const SUBSCRIBE_PATIENCE: Duration = Duration::from_secs(1);

/// A state on which the app fails this often, and for so long, closes the sockets that want it. A
/// burst of errors is shorter.
const FAILURES: u32 = 3;
const FAILING: Duration = Duration::from_secs(5);

/// A state as the app told it, ready to be sent to any number of sockets.
pub(crate) struct Snapshot {
    rev: u64,
    version: Bytes,
    frames: Vec<Frame>,
    read: Instant,
}

type Reading = Shared<BoxFuture<'static, Result<Arc<Snapshot>, AppError>>>;

/// The reads of one room's state that are under way or just done: one for those who know nothing,
/// and one for each version that somebody joins with.
#[derive(Default)]
pub(crate) struct Reads(Mutex<HashMap<Option<Vec<u8>>, Reading>>);

impl Reads {
    fn lock(&self) -> MutexGuard<'_, HashMap<Option<Vec<u8>>, Reading>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Brings a socket that has entered the room up to date, and lets it follow.
pub(crate) async fn join(
    relay: Arc<Relay>,
    room: Arc<Room>,
    socket: Arc<Socket>,
    version: Option<Vec<u8>>,
) {
    match try_join(&relay, &room, &socket, version).await {
        Ok(()) => relay.metrics.joins_total.add(1),
        Err(close) => socket.close(close),
    }
}

async fn try_join(
    relay: &Arc<Relay>,
    room: &Arc<Room>,
    socket: &Arc<Socket>,
    version: Option<Vec<u8>>,
) -> Result<(), Close> {
    if relay.pubsub.is_connected() {
        // Without the confirmation the comparison of heads finds what is missed.
        let mut subscribed = room.subscribed.subscribe();
        let _ = timeout(SUBSCRIBE_PATIENCE, subscribed.wait_for(|done| *done)).await;
    }
    let snapshot = persist(relay, socket, version.is_some(), || {
        read_state(relay, room, version.clone())
    })
    .await?;
    let events = socket.wants.events;
    if events {
        socket.push_state([&raw::joined(snapshot.rev, &snapshot.version)]);
    }
    socket.push_state(&snapshot.frames);
    socket.flush();
    let mut rev = snapshot.rev;
    drop(snapshot);
    loop {
        match room.catch_up(socket.id, rev) {
            CatchUp::Follows(fill) => {
                if events {
                    socket.push_state([&raw::synced()]);
                    socket.follows();
                    relay.rooms.tell_peers(&room.project, false);
                }
                socket.flush();
                if fill {
                    spawn_fill(relay, room, relay.fill_wait());
                }
                return Ok(());
            }
            CatchUp::Left => return Ok(()),
            CatchUp::TooFarBack => {
                let missed = persist(relay, socket, false, || {
                    relay.app.updates(&room.project, rev).boxed()
                })
                .await?;
                let frames: Vec<Frame> = missed.blobs.into_iter().map(Frame::from).collect();
                socket.push_state(&frames);
                socket.flush();
                // The app may be behind what this relay has seen; then it catches up soon.
                if missed.rev <= rev {
                    sleep(relay.settings.gap_wait).await;
                }
                rev = rev.max(missed.rev);
            }
        }
        if socket.progress().close.is_some() {
            return Ok(());
        }
    }
}

/// Asks until there is an answer, the app was away for too long, or nobody wants it any more.
async fn persist<T, F>(
    relay: &Relay,
    socket: &Socket,
    versioned: bool,
    ask: impl Fn() -> F,
) -> Result<T, Close>
where
    F: Future<Output = Result<T, AppError>>,
{
    let start = Instant::now();
    let mut backoff = Backoff::app();
    let mut failures = 0;
    loop {
        let error = match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        match error {
            AppError::Refused(StatusCode::BAD_REQUEST) if versioned => {
                socket.refuse("invalid_version", "version is no Loro version vector", None);
                return Err(Close {
                    code: 1008,
                    reason: "version is no Loro version vector",
                });
            }
            AppError::Status(StatusCode::INTERNAL_SERVER_ERROR) => failures += 1,
            _ => {}
        }
        if failures >= FAILURES && start.elapsed() >= FAILING {
            tracing::error!(%error, "a room's state cannot be read");
            return Err(Close::INTERNAL);
        }
        if start.elapsed() >= relay.settings.app_patience {
            tracing::warn!(%error, "a join was given up");
            return Err(Close::TRY_AGAIN_LATER);
        }
        let progress = socket.progress();
        if progress.broken || progress.close.is_some() {
            return Err(Close::TRY_AGAIN_LATER);
        }
        sleep(backoff.next()).await;
    }
}

/// Reads the state, or shares a read that is under way or was done a moment ago.
fn read_state(relay: &Arc<Relay>, room: &Arc<Room>, version: Option<Vec<u8>>) -> Reading {
    let mut reads = room.reads.lock();
    if let Some(reading) = reads.get(&version) {
        let usable = match reading.peek() {
            None => true,
            Some(Ok(snapshot)) => {
                snapshot.read.elapsed() < relay.settings.state_retention
                    && room.covers(snapshot.rev)
            }
            Some(Err(_)) => false,
        };
        if usable {
            return reading.clone();
        }
    }
    relay.metrics.state_reads_total.add(1);
    let reading = {
        let relay = relay.clone();
        let project = room.project.clone();
        let version = version.clone();
        async move {
            let state = relay.app.state(&project, version.as_deref()).await?;
            Ok(Arc::new(Snapshot {
                rev: state.rev,
                version: state.version,
                frames: state.blobs.into_iter().map(Frame::binary).collect(),
                read: Instant::now(),
            }))
        }
        .boxed()
        .shared()
    };
    reads.insert(version.clone(), reading.clone());
    // Drives the read, whoever leaves meanwhile, and lets go of it in time.
    let retention = relay.settings.state_retention;
    let room = Arc::downgrade(room);
    let driven = reading.clone();
    tokio::spawn(async move {
        if driven.clone().await.is_ok() {
            sleep(retention).await;
        }
        if let Some(room) = room.upgrade() {
            let mut reads = room.reads.lock();
            if reads.get(&version).is_some_and(|kept| kept.ptr_eq(&driven)) {
                reads.remove(&version);
            }
        }
    });
    reading
}

/// Fetches what the room misses, in a task of its own. Only for whoever was told to do so, see
/// [`crate::room::room::Effects::fill`]. What is missing may be on its way, so first it waits a little.
pub(crate) fn spawn_fill(relay: &Arc<Relay>, room: &Arc<Room>, wait: Duration) {
    let relay = relay.clone();
    let room = room.clone();
    tokio::spawn(async move {
        let mut backoff = Backoff::app();
        let mut wait = wait;
        loop {
            sleep(wait).await;
            let known = room.known();
            let Some(after) = room.missing_after() else {
                return;
            };
            relay.metrics.gap_fetches_total.add(1);
            wait = match relay.app.updates(&room.project, after).await {
                Ok(state) => {
                    let effects = room.fill(after, known, state);
                    rooms::act(&relay, &room, effects).await;
                    backoff = Backoff::app();
                    relay.settings.gap_wait
                }
                Err(error) => {
                    tracing::warn!(project = %room.project, %error, "missing updates could not be fetched");
                    backoff.next()
                }
            };
        }
    });
}
