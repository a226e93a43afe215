//! The work that a relay does at intervals. Every function here goes on for as long as the relay runs.

use crate::app::client::App;
use crate::metrics::Metrics;
use crate::room::room::Room;
use crate::room::rooms::Rooms;
use crate::thrift::{Seen, Thrift};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};

/// The number of rooms that one comparison of heads asks about.
const HEADS_PER_REQUEST: usize = 1000;

/// The shortest time between two announcements of the number of sockets.
const PEERS_PAUSE: Duration = Duration::from_millis(250);

/// The interval at which the relay checks whether a line without requests must end.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// The interval at which the app is asked to do what is due.
const TICK: Duration = Duration::from_secs(10);

fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Compares the heads and the `access_rev` of all rooms with the app's: at an interval, and after Redis was lost.
pub(crate) async fn compare_heads(rooms: Arc<Rooms>) {
    let mut ticks = every(rooms.settings.heads_interval());
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = rooms.pubsub.reconnected() => {}
        }
        // The heads are read before the app is asked, because what is delivered meanwhile is newer than its answer.
        let heads: Vec<(Arc<Room>, Option<u64>)> = rooms
            .all()
            .into_iter()
            .map(|room| {
                let head = room.head();
                (room, head)
            })
            .collect();
        for some in heads.chunks(HEADS_PER_REQUEST) {
            if !compare(&rooms, some).await {
                break;
            }
        }
    }
}

/// Returns whether the app answered.
async fn compare(rooms: &Arc<Rooms>, heads: &[(Arc<Room>, Option<u64>)]) -> bool {
    let projects = heads.iter().map(|(room, _)| room.project.to_string());
    let wire::Heads {
        revs,
        access_revs,
        quarantined,
    } = match rooms.app.heads(projects.collect()).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(%error, "heads could not be compared");
            return false;
        }
    };
    for ((room, _), access_rev) in heads.iter().zip(access_revs.unwrap_or_default()) {
        let effects = room.note_access(access_rev);
        rooms.act(room, effects).await;
    }
    for ((room, _), updates) in heads.iter().zip(quarantined.unwrap_or_default()) {
        rooms.announce_quarantined(room, updates);
    }
    for ((room, head), rev) in heads.iter().zip(revs) {
        // A room that still reads its state has no head to compare.
        if let Some(head) = head {
            let effects = room.compare(*head, rev);
            rooms.act(room, effects).await;
        }
    }
    true
}

/// Ends the line for joins when its time is over.
pub(crate) async fn look_at_line(app: Arc<App>) {
    let mut ticks = every(LOOK);
    loop {
        ticks.tick().await;
        app.look_at_line();
    }
}

/// Asks the app to compact what is due.
pub(crate) async fn sweep(app: Arc<App>, interval: Duration) {
    loop {
        sleep(interval).await;
        if let Err(error) = app.sweep().await {
            tracing::debug!(%error, "a sweep was not begun");
        }
    }
}

/// Asks the app to do everything that is due.
pub(crate) async fn tick(app: Arc<App>) {
    let mut ticks = every(TICK);
    let mut poller = Poller::new(app);
    loop {
        ticks.tick().await;
        poller.poll().await;
    }
}

/// The app's poller, and what a relay that ticks knows of it.
struct Poller {
    app: Arc<App>,
    /// The app's newest warnings about what it does not protect. They are logged again only if they change.
    unprotected: Vec<String>,
    /// Says whether a task was open when the app was asked last.
    has_open_tasks: bool,
}

impl Poller {
    fn new(app: Arc<App>) -> Self {
        Self {
            app,
            unprotected: Vec::new(),
            has_open_tasks: false,
        }
    }

    /// Asks the app once to do what is due.
    async fn poll(&mut self) {
        let polled = match self.app.poll().await {
            Ok(polled) => polled,
            Err(error) => {
                tracing::warn!(%error, "the poller could not be asked");
                return;
            }
        };
        self.has_open_tasks = polled.has_open_tasks;
        let unprotected = polled.unprotected.unwrap_or_default();
        if unprotected != self.unprotected {
            for what in &unprotected {
                tracing::warn!("{what}");
            }
            self.unprotected = unprotected;
        }
    }
}

/// Asks the app to do everything that is due, while there is a reason, and so rarely that all requests of this relay stay
/// below `most` a month.
pub(crate) async fn tick_thriftily(app: Arc<App>, metrics: Arc<Metrics>, most: u64) {
    let mut looks = every(TICK);
    let mut thrift = Thrift::new(most, Instant::now());
    let mut poller = Poller::new(app.clone());
    let mut proxied = 0;
    loop {
        looks.tick().await;
        let passed = metrics.proxied_total.get();
        let seen = Seen {
            sent: app.requests(),
            reason: poller.has_open_tasks || passed != proxied || metrics.connections.get() > 0,
        };
        proxied = passed;
        if thrift.ticks(Instant::now(), seen) {
            poller.poll().await;
        }
    }
}

/// Announces to sockets and to other relays how many sockets a room has: when that changes, and at an interval.
pub(crate) async fn count_peers(rooms: Arc<Rooms>) {
    let mut ticks = every(rooms.settings.peers_interval);
    loop {
        let changed = tokio::select! {
            _ = ticks.tick() => rooms.all().into_iter().map(|room| (room, true)).collect(),
            changed = rooms.changed_peers() => changed,
        };
        for (room, publish) in changed {
            let own = room.size();
            if own == 0 {
                continue;
            }
            if publish {
                let count = u32::try_from(own).unwrap_or(u32::MAX);
                rooms.pubsub.publish_peers(&room.project, count);
            }
            rooms.announce_peers(&room);
        }
        sleep(PEERS_PAUSE).await;
    }
}
