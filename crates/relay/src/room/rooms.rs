//! The rooms of this relay. A room exists while it has sockets.

use crate::app::backoff::Backoff;
use crate::app::client::App;
use crate::app::pubsub::PubSub;
use crate::app::unanswered::Unanswered;
use crate::metrics::Metrics;
use crate::room::effects::{Effects, Fetch};
use crate::room::log::Recent;
use crate::room::recheck::RecheckSignal;
use crate::room::room::Room;
use crate::room::stored::Stored;
use crate::settings::Settings;
use crate::socket::close::Close;
use crate::socket::raw;
use crate::socket::socket::Socket;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// The number of sockets that are written before other tasks get a turn.
const WRITES_PER_TURN: usize = 128;

/// The number of rooms that are compacted at once on this relay's request.
const COMPACTIONS: usize = 2;

/// The rooms that have sockets.
pub(crate) struct Rooms {
    pub(crate) settings: Arc<Settings>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) app: Arc<App>,
    pub(crate) pubsub: Arc<PubSub>,
    unanswered: Arc<Unanswered>,
    recheck: Arc<RecheckSignal>,
    draining: CancellationToken,
    rooms: Mutex<HashMap<Arc<str>, Arc<Room>>>,
    /// The rooms whose number of sockets has changed since it was announced, and whether it must also be published to
    /// other relays, because it changed here.
    changed: Mutex<HashMap<Arc<str>, bool>>,
    has_changed: Notify,
    compactions: Arc<Semaphore>,
}

impl Rooms {
    /// Begins without rooms.
    pub(crate) fn new(
        settings: Arc<Settings>,
        metrics: Arc<Metrics>,
        app: Arc<App>,
        pubsub: Arc<PubSub>,
        unanswered: Arc<Unanswered>,
        recheck: Arc<RecheckSignal>,
        draining: CancellationToken,
    ) -> Self {
        Self {
            settings,
            metrics,
            app,
            pubsub,
            unanswered,
            recheck,
            draining,
            rooms: Mutex::default(),
            changed: Mutex::default(),
            has_changed: Notify::new(),
            compactions: Arc::new(Semaphore::new(COMPACTIONS)),
        }
    }

    /// The room of a project, if it has sockets.
    pub(crate) fn get(&self, project: &str) -> Option<Arc<Room>> {
        self.rooms.lock().get(project).cloned()
    }

    /// Returns all rooms.
    pub(crate) fn all(&self) -> Vec<Arc<Room>> {
        self.rooms.lock().values().cloned().collect()
    }

    /// Adds a socket to a room, which begins to exist if the socket is the first.
    pub(crate) fn enter(&self, project: &Arc<str>, socket: Arc<Socket>) -> Arc<Room> {
        let room = {
            let mut rooms = self.rooms.lock();
            let room = rooms.entry(project.clone()).or_insert_with(|| {
                let keep = Recent {
                    updates: self.settings.recent_updates,
                    bytes: self.settings.recent_bytes,
                };
                let room = Arc::new(Room::new(project.clone(), keep));
                self.metrics.rooms.add(1);
                self.pubsub.subscribe(&room);
                room
            });
            room.enter(socket);
            room.clone()
        };
        self.mark_peers_changed(project, true);
        room
    }

    /// Removes a socket from its room. If it was the last, the room ceases to exist; if anything was stored meanwhile,
    /// the app is asked to compact it.
    pub(crate) fn leave(self: &Arc<Self>, room: &Arc<Room>, id: u64) {
        let left = {
            let mut rooms = self.rooms.lock();
            let left = room.leave(id);
            if left.size == 0 {
                rooms.remove(&room.project);
                self.metrics.rooms.sub(1);
                self.pubsub.unsubscribe(&room.project);
            }
            left
        };
        if left.size > 0 {
            self.mark_peers_changed(&room.project, true);
            return;
        }
        self.pubsub.publish_peers(&room.project, 0);
        if left.has_changed {
            self.compact_later(room.project.clone());
        }
    }

    /// Closes every socket.
    pub(crate) fn close_all(&self, close: Close) {
        for room in self.all() {
            close_room(&room, close);
        }
    }

    /// Gives updates of a project to the sockets of its room, if it has any here.
    pub(crate) async fn deliver(self: &Arc<Self>, project: &str, updates: Vec<Stored>) {
        if let Some(room) = self.get(project) {
            let begun = Instant::now();
            let effects = room.apply(updates);
            self.act(&room, effects).await;
            let took = begun.elapsed().as_secs_f64();
            self.metrics.histograms.fanout_seconds.observe(took);
        }
    }

    /// Notes that a project has reached a rev. `fetch` says when its updates are fetched if they are missing.
    pub(crate) async fn note(self: &Arc<Self>, project: &str, rev: u64, fetch: Fetch) {
        if let Some(room) = self.get(project) {
            let effects = room.note(rev, fetch);
            self.act(&room, effects).await;
        }
    }

    /// Notes that a project has reached an `access_rev`.
    pub(crate) async fn note_access(self: &Arc<Self>, project: &str, access_rev: u64) {
        if let Some(room) = self.get(project) {
            let effects = room.note_access(access_rev);
            self.act(&room, effects).await;
        }
    }

    /// Carries out the effects that a room asks for. This is the only place that does so.
    pub(crate) async fn act(self: &Arc<Self>, room: &Arc<Room>, effects: Effects) {
        let Effects {
            flush,
            frames,
            fetch,
            recheck,
            close,
        } = effects;
        if let Some(fetch) = fetch {
            self.fetch_missing(room, fetch);
        }
        if recheck {
            self.recheck.send();
        }
        if let Some(close) = close {
            close_room(room, close);
        }
        self.metrics.frames_out_total.add(frames);
        for (index, socket) in flush.iter().enumerate() {
            if index % WRITES_PER_TURN == WRITES_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
            socket.flush();
        }
    }

    /// Fetches what the room lacks, in a task of its own, until nothing is missing.
    fn fetch_missing(self: &Arc<Self>, room: &Arc<Room>, fetch: Fetch) {
        let (rooms, room) = (self.clone(), room.clone());
        tokio::spawn(async move {
            let mut backoff = Backoff::app();
            let mut wait = match fetch {
                Fetch::Now => Duration::ZERO,
                Fetch::IfLate => rooms.settings.gap_wait,
            };
            loop {
                sleep(wait).await;
                let known = room.known();
                let Some(after) = room.missing_after() else {
                    return;
                };
                rooms.metrics.gap_fetches_total.add(1);
                wait = match rooms.app.updates(&room.project, after).await {
                    Ok(state) => {
                        let mut updates = Stored::read(after, state);
                        for update in &mut updates {
                            update.claim(|payload| rooms.unanswered.sender(&room.project, payload));
                        }
                        let effects = room.fill(known, updates);
                        rooms.act(&room, effects).await;
                        backoff = Backoff::app();
                        rooms.settings.gap_wait
                    }
                    Err(error) => {
                        tracing::warn!(project = %room.project, %error, "missing updates could not be fetched");
                        backoff.next()
                    }
                };
            }
        });
    }

    /// Asks the app to compact a room, if it is still empty after a while: a reload of a page empties a room for a
    /// moment. Best effort.
    fn compact_later(self: &Arc<Self>, project: Arc<str>) {
        if self.draining.is_cancelled() {
            return;
        }
        let rooms = self.clone();
        tokio::spawn(async move {
            sleep(rooms.settings.compact_delay).await;
            // The semaphore is never closed.
            let _turn = rooms.compactions.acquire().await;
            if rooms.get(&project).is_some() || rooms.draining.is_cancelled() {
                return;
            }
            if let Err(error) = rooms.app.compact(&project).await {
                tracing::debug!(%project, %error, "compaction was not begun");
            }
        });
    }
}

/// The number of sockets in a room, over all relays.
impl Rooms {
    /// Notes that the number of sockets of a room must be announced to them, and with `publish` also to the other
    /// relays. The chore that counts peers does so.
    pub(crate) fn mark_peers_changed(&self, project: &Arc<str>, publish: bool) {
        *self.changed.lock().entry(project.clone()).or_default() |= publish;
        self.has_changed.notify_one();
    }

    /// Waits for rooms about which [`mark_peers_changed`](Self::mark_peers_changed) was called, and returns them with its
    /// `publish`.
    pub(crate) async fn changed_peers(&self) -> Vec<(Arc<Room>, bool)> {
        self.has_changed.notified().await;
        let changed = std::mem::take(&mut *self.changed.lock());
        changed
            .into_iter()
            .filter_map(|(project, publish)| Some((self.get(&project)?, publish)))
            .collect()
    }

    /// Returns whether another relay has sockets in a project's room, or may have.
    pub(crate) fn is_shared(&self, project: &str) -> bool {
        self.pubsub.is_connected()
            && self
                .get(project)
                .is_none_or(|room| room.peers.lock().has_others(self.peers_expiry()))
    }

    /// Announces to the sockets of a room that asked for events how many there are, unless they know this number.
    pub(crate) fn announce_peers(&self, room: &Room) {
        let count = room.peers.lock().count(room.size(), self.peers_expiry());
        let event = raw::peers(count);
        for socket in room.sockets() {
            if socket.wants_events && socket.is_news(count) {
                socket.push([&event]);
                socket.flush();
            }
        }
    }

    /// Announces how many updates of a room are in quarantine to each of its sockets that knows of fewer.
    pub(crate) fn announce_quarantined(&self, room: &Room, updates: u64) {
        let event = raw::quarantined(updates);
        for socket in room.sockets() {
            if socket.is_quarantine_news(updates) {
                socket.push([&event]);
                socket.flush();
            }
        }
    }

    /// The time without a message after which a relay counts as gone.
    fn peers_expiry(&self) -> Duration {
        self.settings.peers_interval * 3
    }
}

fn close_room(room: &Room, close: Close) {
    for socket in room.sockets() {
        socket.close(close);
    }
}
