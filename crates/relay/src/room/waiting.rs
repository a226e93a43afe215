//! Reports to clients which of their stored updates wait for operations that the server lacks.
//!
//! While a room has such updates, a task asks the app about all of them at once: 5 s after one was stored, and again when
//! the room has changed, ever more rarely. The app's first word, with the append, is only that an update may wait.

use crate::room::room::Room;
use crate::room::rooms::Rooms;
use crate::socket::raw;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::time::{Instant, sleep};

/// The most updates of a room in one question. The others are asked about when these are settled.
const MOST: usize = 1000;

/// The number of times that the pause between two questions doubles.
const DOUBLINGS: u32 = 3;

/// Makes sure that a task asks about the waiting updates of a room.
pub(crate) fn watch(rooms: &Arc<Rooms>, project: &str) {
    let Some(room) = rooms.get(project) else {
        return;
    };
    if room.is_watched.swap(true, Ordering::AcqRel) {
        return;
    }
    let rooms = rooms.clone();
    tokio::spawn(async move {
        let mut asked = Asked::default();
        loop {
            sleep(rooms.settings.waiting_after / 5).await;
            if has_waiting(&room) {
                asked.ask(&rooms, &room).await;
                continue;
            }
            room.is_watched.store(false, Ordering::Release);
            // One may have been added just before.
            if !has_waiting(&room) || room.is_watched.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    });
}

fn has_waiting(room: &Room) -> bool {
    let sockets = room.sockets();
    sockets.iter().any(|socket| !socket.waits.lock().is_empty())
}

/// The last question about a room.
#[derive(Default)]
struct Asked {
    revs: BTreeSet<u64>,
    /// The newest rev that the relay knew then.
    known: u64,
    /// The earliest time of the next question about the same updates.
    next: Option<Instant>,
    doublings: u32,
}

impl Asked {
    /// Asks about what is due, if the answer can differ from the last one, and notifies the clients.
    async fn ask(&mut self, rooms: &Rooms, room: &Room) {
        let after = rooms.settings.waiting_after;
        let mut due = BTreeSet::new();
        for socket in room.sockets() {
            due.extend(socket.waits.lock().due(after));
        }
        while due.len() > MOST {
            due.pop_last();
        }
        let known = room.known();
        let is_new = !due.is_subset(&self.revs);
        let is_early = self.next.is_some_and(|next| Instant::now() < next);
        if due.is_empty() || !is_new && (known == self.known || is_early) {
            return;
        }
        self.doublings = if is_new {
            0
        } else {
            DOUBLINGS.min(self.doublings + 1)
        };
        self.next = Some(Instant::now() + after * 2_u32.pow(self.doublings));
        match rooms
            .app
            .waiting(&room.project, due.iter().copied().collect())
            .await
        {
            Ok(waiting) => {
                let waiting = waiting.into_iter().map(|waiting| (waiting.rev, waiting));
                notify_clients(room, &due, &waiting.collect());
                (self.revs, self.known) = (due, known);
            }
            Err(error) => {
                tracing::debug!(project = %room.project, %error, "the relay could not learn which updates wait");
            }
        }
    }
}

fn notify_clients(room: &Room, asked: &BTreeSet<u64>, waiting: &HashMap<u64, wire::Waiting>) {
    for socket in room.sockets() {
        let event = {
            let mut waits = socket.waits.lock();
            let news = waits.answered(|rev| asked.contains(&rev), waiting);
            news.map(raw::pending)
        };
        if let Some(event) = event {
            socket.push([&event]);
            socket.flush();
        }
    }
}
