//! All rooms of this relay, and what is done for them every now and then.

use crate::Relay;
use crate::room::join::spawn_fill;
use crate::room::room::{Effects, Recent, Room, Update};
use crate::socket::raw;
use crate::socket::socket::{Close, Socket};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{MissedTickBehavior, interval, sleep};

/// Sockets that are written before others get a turn.
const WRITES_PER_TURN: usize = 128;

/// The rooms asked about in one comparison of heads.
const HEADS_PER_REQUEST: usize = 1000;

/// Peers are told of at most once in this time.
const PEERS_PAUSE: Duration = Duration::from_millis(250);

/// How many rooms are being compacted at once on this relay's request.
const COMPACTIONS: usize = 2;

/// The rooms that have sockets.
pub(crate) struct Rooms {
    rooms: Mutex<HashMap<Arc<str>, Arc<Room>>>,
    /// Rooms whose number of sockets has changed since it was told, and whether it changed here, so
    /// that other relays are to hear of it too.
    news: Mutex<HashMap<Arc<str>, bool>>,
    told: Notify,
    compactions: Arc<Semaphore>,
}

impl Default for Rooms {
    fn default() -> Self {
        Self {
            rooms: Mutex::default(),
            news: Mutex::default(),
            told: Notify::new(),
            compactions: Arc::new(Semaphore::new(COMPACTIONS)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Rooms {
    /// The room of a project, if it has sockets.
    pub(crate) fn get(&self, project: &str) -> Option<Arc<Room>> {
        lock(&self.rooms).get(project).cloned()
    }

    /// All rooms.
    pub(crate) fn all(&self) -> Vec<Arc<Room>> {
        lock(&self.rooms).values().cloned().collect()
    }

    /// A socket comes into a room, which begins to exist if it is the first.
    pub(crate) fn enter(
        &self,
        relay: &Relay,
        project: &Arc<str>,
        socket: Arc<Socket>,
    ) -> Arc<Room> {
        let room = {
            let mut rooms = lock(&self.rooms);
            let room = rooms.entry(project.clone()).or_insert_with(|| {
                let room = Arc::new(Room::new(
                    project.clone(),
                    Recent {
                        updates: relay.settings.recent_updates,
                        bytes: relay.settings.recent_bytes,
                    },
                ));
                relay.metrics.rooms.add(1);
                relay.pubsub.subscribe(&room);
                room
            });
            // What the first to come is told of is no news to anybody.
            room.note_access(socket.pass.access_rev());
            room.enter(socket);
            room.clone()
        };
        self.tell_peers(project, true);
        room
    }

    /// A socket leaves its room, which ceases to exist if it was the last; then the app is asked to
    /// compact it.
    pub(crate) fn leave(&self, relay: &Arc<Relay>, room: &Arc<Room>, id: u64) {
        let emptied = {
            let mut rooms = lock(&self.rooms);
            let (left, changed) = room.leave(id);
            if left == 0 {
                rooms.remove(&room.project);
                relay.metrics.rooms.sub(1);
                relay.pubsub.unsubscribe(&room.project);
            }
            (left == 0).then_some(changed)
        };
        match emptied {
            None => self.tell_peers(&room.project, true),
            Some(changed) => {
                relay.pubsub.publish_peers(&room.project, 0);
                if changed {
                    self.compact_later(relay, room.project.clone());
                }
            }
        }
    }

    /// The room's sockets are to hear how many are there, and with `publish` other relays too.
    pub(crate) fn tell_peers(&self, project: &Arc<str>, publish: bool) {
        *lock(&self.news).entry(project.clone()).or_default() |= publish;
        self.told.notify_one();
    }

    /// Closes every socket.
    pub(crate) fn close_all(&self, close: Close) {
        for room in self.all() {
            for socket in room.sockets() {
                socket.close(close);
            }
        }
    }

    /// A reload empties a room for a moment: this is done only if it stays empty. Best effort.
    fn compact_later(&self, relay: &Arc<Relay>, project: Arc<str>) {
        if relay.is_draining() {
            return;
        }
        let relay = relay.clone();
        let turns = self.compactions.clone();
        tokio::spawn(async move {
            sleep(relay.settings.compact_delay).await;
            // Never closed.
            let _turn = turns.acquire().await;
            if relay.rooms.get(&project).is_some() || relay.is_draining() {
                return;
            }
            if let Err(error) = relay.app.compact(&project).await {
                tracing::debug!(%project, %error, "compaction was not begun");
            }
        });
    }
}

/// Updates of a project were stored: its room's sockets get them, if it has any here.
pub(crate) async fn deliver(relay: &Arc<Relay>, project: &str, updates: Vec<Update>) {
    if let Some(room) = relay.rooms.get(project) {
        let effects = room.apply(updates);
        act(relay, &room, effects).await;
    }
}

/// Whether another relay has sockets in a project's room, or may have.
pub(crate) fn is_shared(relay: &Relay, project: &str) -> bool {
    let expiry = relay.settings.peers_interval * 3;
    relay.pubsub.is_connected()
        && relay
            .rooms
            .get(project)
            .is_none_or(|room| lock(&room.peers).has_others(expiry))
}

/// Does what a room wants done.
pub(crate) async fn act(relay: &Arc<Relay>, room: &Arc<Room>, effects: Effects) {
    if effects.fill {
        spawn_fill(relay, room, relay.fill_wait());
    }
    relay.metrics.frames_out_total.add(effects.frames);
    for (index, socket) in effects.flush.iter().enumerate() {
        if index % WRITES_PER_TURN == WRITES_PER_TURN - 1 {
            tokio::task::yield_now().await;
        }
        socket.flush();
    }
}

/// Somebody tells that a project has reached a rev.
pub(crate) fn note(relay: &Arc<Relay>, project: &str, rev: u64, wait: Duration) {
    if let Some(room) = relay.rooms.get(project)
        && room.note(rev)
    {
        spawn_fill(relay, &room, wait);
    }
}

/// Compares the heads of all rooms, and who may do what there, with the app's, for as long as the relay runs.
pub(crate) async fn compare_heads(relay: Arc<Relay>) {
    let mut ticks = interval(relay.settings.heads_interval());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = relay.pubsub.reconnected() => {}
        }
        let rooms: Vec<(Arc<Room>, Option<u64>)> = relay
            .rooms
            .all()
            .into_iter()
            .map(|room| {
                let head = room.head();
                (room, head)
            })
            .collect();
        for rooms in rooms.chunks(HEADS_PER_REQUEST) {
            let projects = rooms
                .iter()
                .map(|(room, _)| room.project.to_string())
                .collect();
            match relay.app.heads(projects).await {
                Ok(wire::Heads { revs, access_revs }) => {
                    for ((room, _), rev) in rooms.iter().zip(access_revs.unwrap_or_default()) {
                        if room.note_access(rev) {
                            relay.doubt.raise();
                        }
                    }
                    for ((room, head), rev) in rooms.iter().zip(revs) {
                        // Of a room whose state is still being read there is nothing to compare.
                        if head.is_some_and(|head| room.compare(head, rev)) {
                            // It may be on its way, but does not come from here.
                            spawn_fill(&relay, room, relay.fill_wait());
                        }
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "heads could not be compared");
                    break;
                }
            }
        }
    }
}

/// Asks the app now and then to compact whatever is due, for as long as the relay runs.
pub(crate) async fn sweep(relay: Arc<Relay>) {
    let every = relay.settings.sweep_interval;
    loop {
        sleep(every).await;
        if let Err(error) = relay.app.sweep().await {
            tracing::debug!(%error, "a sweep was not begun");
        }
    }
}

/// Asks the app every 10 s to do what is due, for as long as the relay runs. Where nobody asked it
/// to, it only waits.
pub(crate) async fn tick(relay: Arc<Relay>) {
    if !relay.settings.tick {
        return std::future::pending().await;
    }
    let mut ticks = interval(Duration::from_secs(10));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = relay.app.poll().await {
            tracing::warn!(%error, "the poller was not asked");
        }
    }
}

/// Tells sockets and other relays how many there are in a room, when that changes and now and
/// then, for as long as the relay runs.
pub(crate) async fn count_peers(relay: Arc<Relay>) {
    let every = relay.settings.peers_interval;
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let rooms: Vec<(Arc<Room>, bool)> = tokio::select! {
            _ = ticks.tick() => relay.rooms.all().into_iter().map(|room| (room, true)).collect(),
            () = relay.rooms.told.notified() => {
                let news = std::mem::take(&mut *lock(&relay.rooms.news));
                news.into_iter()
                    .filter_map(|(project, publish)| Some((relay.rooms.get(&project)?, publish)))
                    .collect()
            }
        };
        for (room, publish) in rooms {
            let own = room.size();
            if own == 0 {
                continue;
            }
            if publish {
                let count = u32::try_from(own).unwrap_or(u32::MAX);
                relay.pubsub.publish_peers(&room.project, count);
            }
            announce_peers(&relay, &room);
        }
        sleep(PEERS_PAUSE).await;
    }
}

/// Tells the sockets of a room that want to know how many there are, if that is news to them.
pub(crate) fn announce_peers(relay: &Relay, room: &Room) {
    let expiry = relay.settings.peers_interval * 3;
    let count = lock(&room.peers).count(room.size(), expiry);
    let frame = raw::peers(count);
    for socket in room.sockets() {
        if socket.wants.events && socket.is_news(count) {
            socket.push([&frame]);
            socket.flush();
        }
    }
}
