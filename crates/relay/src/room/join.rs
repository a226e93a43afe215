//! The way of a socket into a room: subscribe, enter, read the state, then the updates that came since. The room is
//! subscribed before the state is read, so no update falls between.

use crate::app::backoff::Backoff;
use crate::app::error::AppError;
use crate::room::reads::{Read, Reading, Version};
use crate::room::room::{CatchUp, Room};
use crate::room::rooms::Rooms;
use crate::room::stored::{Snapshot, Stored};
use crate::socket::close::Close;
use crate::socket::raw;
use crate::socket::socket::Socket;
use futures_util::FutureExt;
use http::StatusCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// The time that a join waits for Redis to confirm the room's subscription.
const SUBSCRIBE_PATIENCE: Duration = Duration::from_secs(1);

/// The number of times that the app fails on a state, and the time over which it does, before the sockets that wait for
/// it are closed. A burst of errors is shorter.
const FAILURES: u32 = 3;
const FAILING: Duration = Duration::from_secs(5);

/// Brings a socket that has entered the room up to date, and lets it follow.
pub(crate) async fn join(
    rooms: Arc<Rooms>,
    room: Arc<Room>,
    socket: Arc<Socket>,
    version: Version,
) {
    let begun = Instant::now();
    match try_join(&rooms, &room, &socket, version).await {
        Ok(()) => {
            let took = begun.elapsed().as_secs_f64();
            rooms.metrics.histograms.join_seconds.observe(took);
            rooms.metrics.joins_total.add(1);
        }
        Err(close) => socket.close(close),
    }
}

async fn try_join(
    rooms: &Arc<Rooms>,
    room: &Arc<Room>,
    socket: &Arc<Socket>,
    version: Version,
) -> Result<(), Close> {
    if rooms.pubsub.is_connected() {
        // Without the confirmation, the comparison of heads finds what is missed.
        let mut subscribed = room.subscribed.subscribe();
        let _ = timeout(SUBSCRIBE_PATIENCE, subscribed.wait_for(|done| *done)).await;
    }
    let snapshot = persist(rooms, socket, version.is_some(), || {
        read_for(rooms, room, &version)
    })
    .await?;
    if socket.wants_events {
        socket.push_state([&raw::joined(snapshot.rev, &snapshot.version)]);
    }
    // It leaves together with what came since, in one write.
    socket.push_state([&*snapshot]);
    let rev = snapshot.rev;
    drop(snapshot);
    follow(rooms, room, socket, rev).await
}

/// Gives a socket that has everything up to `rev` what came since, from memory or from the app.
async fn follow(
    rooms: &Arc<Rooms>,
    room: &Arc<Room>,
    socket: &Arc<Socket>,
    mut rev: u64,
) -> Result<(), Close> {
    loop {
        match room.catch_up(socket.id, rev) {
            CatchUp::Follows(effects) => {
                if socket.wants_events {
                    socket.push_state([&raw::synced()]);
                    socket.follows();
                    rooms.mark_peers_changed(&room.project, false);
                }
                socket.open();
                rooms.act(room, effects).await;
                return Ok(());
            }
            CatchUp::Left => return Ok(()),
            CatchUp::TooFarBack => {
                socket.open();
                let missed = persist(rooms, socket, false, || {
                    rooms.app.updates(&room.project, rev)
                })
                .await?;
                let reached = missed.rev;
                socket.push_state(&Stored::read(rev, missed));
                // If the app is behind what this relay has seen, it catches up soon.
                if reached <= rev {
                    sleep(rooms.settings.gap_wait).await;
                }
                rev = rev.max(reached);
            }
        }
        if socket.progress().close.is_some() {
            return Ok(());
        }
    }
}

/// Asks until there is an answer, until the app was away for too long, or until the socket needs no answer any more.
async fn persist<T, F>(
    rooms: &Rooms,
    socket: &Socket,
    is_versioned: bool,
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
            AppError::Refused(StatusCode::BAD_REQUEST) if is_versioned => {
                let close = Close::BAD_VERSION;
                socket.refuse("invalid_version", close.reason, None);
                return Err(close);
            }
            AppError::Status(StatusCode::INTERNAL_SERVER_ERROR) => failures += 1,
            _ => {}
        }
        if failures >= FAILURES && start.elapsed() >= FAILING {
            tracing::error!(%error, "a room's state cannot be read");
            return Err(Close::INTERNAL);
        }
        if start.elapsed() >= rooms.settings.app_patience {
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

/// Reads what a client of this version lacks, or shares what others read.
async fn read_for(rooms: &Arc<Rooms>, room: &Arc<Room>, version: &Version) -> Read {
    let Some(version) = version else {
        return read_state(rooms, room, version).await;
    };
    let is_usable = |snapshot: &Snapshot| is_usable(rooms, room, snapshot);
    let begin = |since: Vec<u8>| read_state(rooms, room, &Some(since.into()));
    room.crowd.read(version, is_usable, begin).await
}

/// Returns whether a state that was read a moment ago still serves a client that joins.
fn is_usable(rooms: &Rooms, room: &Room, snapshot: &Snapshot) -> bool {
    snapshot.read_at.elapsed() < rooms.settings.state_retention && room.covers(snapshot.rev)
}

/// Reads the state, or shares a read that is under way or was done a moment ago.
fn read_state(rooms: &Arc<Rooms>, room: &Arc<Room>, version: &Version) -> Reading {
    let retention = rooms.settings.state_retention;
    let is_usable = |snapshot: &Snapshot| is_usable(rooms, room, snapshot);
    let (reading, is_new) = room.reads.share(version, is_usable, || {
        let rooms = rooms.clone();
        let project = room.project.clone();
        let version = version.clone();
        async move {
            let state = rooms.app.state(&project, version.as_deref()).await?;
            Ok(Arc::new(Snapshot::read(state)))
        }
        .boxed()
    });
    if is_new {
        rooms.metrics.state_reads_total.add(1);
        // This task drives the read even if the sockets that wait for it leave, and lets go of it in time.
        let (room, version, driven) = (Arc::downgrade(room), version.clone(), reading.clone());
        tokio::spawn(async move {
            if driven.clone().await.is_ok() {
                sleep(retention).await;
            }
            if let Some(room) = room.upgrade() {
                room.reads.forget(&version, &driven);
            }
        });
    }
    reading
}
