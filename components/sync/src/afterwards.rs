//! What follows an append and nobody waits for: other relays are told, and a long log is compacted.

use std::collections::HashMap;

use platform::{PubSub, clock::SystemClock};
use rooms::supervise;
use wire::{Job, Notice, Outcome, Update};

use crate::App;

/// A room's log is looked at when its rev passes a multiple of this, or after this many bytes.
/// Twice what makes it due: the next look comes when the compaction that this one begins is over.
const LOOK_EVERY: u64 = 256;
const LOOK_BYTES: usize = 256 * 1024;

/// The work that follows an append.
pub(crate) struct Afterwards {
    rooms: Vec<Room>,
    /// Of each update of the append: its place in `rooms`.
    places: Vec<usize>,
    /// What relays do not hear of otherwise, and in which room.
    notice: Option<(String, Notice)>,
}

/// What an append brings into one room.
struct Room {
    project: String,
    bytes: usize,
    /// The lowest and the highest of its new revs; `None` where nothing was stored.
    revs: Option<(u64, u64)>,
}

impl Afterwards {
    /// Takes notes of what is about to be appended.
    pub(crate) fn new(updates: &[Update]) -> Self {
        let mut rooms: Vec<Room> = Vec::new();
        let mut place_of = HashMap::new();
        let mut places = Vec::with_capacity(updates.len());
        for update in updates {
            let place = *place_of.entry(update.project.as_str()).or_insert_with(|| {
                rooms.push(Room {
                    project: update.project.clone(),
                    bytes: 0,
                    revs: None,
                });
                rooms.len() - 1
            });
            if let Some(room) = rooms.get_mut(place) {
                room.bytes += update.payload.len();
            }
            places.push(place);
        }
        Self {
            rooms,
            places,
            notice: None,
        }
    }

    /// Takes notes of what became of it.
    pub(crate) fn stored(&mut self, outcomes: &[Outcome]) {
        for (place, outcome) in self.places.iter().zip(outcomes) {
            if let (Some(room), Outcome::Stored { rev }) = (self.rooms.get_mut(*place), outcome) {
                let (first, last) = room.revs.unwrap_or((*rev, *rev));
                room.revs = Some((first.min(*rev), last.max(*rev)));
            }
        }
    }

    /// Relays are to be told this of a project. A relay tells the others itself what it appended.
    pub(crate) fn tell(&mut self, project: &str, notice: Notice) {
        self.notice = Some((project.to_owned(), notice));
    }

    /// Does it. What fails is logged: revs heal a lost notice, and the sweep a lost compaction.
    pub(crate) async fn run(self, app: &App) {
        if let Some((project, notice)) = &self.notice {
            let channel = wire::room_channel(project);
            if let Err(error) = app
                .ports
                .pubsub
                .publish(&channel, wire::encode(notice))
                .await
            {
                tracing::warn!(%error, "relays not told");
            }
        }
        for room in self.rooms.iter().filter(|room| room.is_worth_a_look()) {
            compact_if_due(app, &room.project).await;
        }
    }
}

impl Room {
    fn is_worth_a_look(&self) -> bool {
        self.revs.is_some_and(|(first, last)| {
            self.bytes >= LOOK_BYTES || (first - 1) / LOOK_EVERY != last / LOOK_EVERY
        })
    }
}

async fn compact_if_due(app: &App, project: &str) {
    let due = rooms::is_due(&app.ports.database, project).await;
    let compacted = match due {
        Ok(false) => return,
        Ok(true) => compact(app, project).await,
        Err(error) => Err(error.into()),
    };
    if let Err(error) = compacted {
        tracing::warn!(project, %error, "room not compacted");
    }
}

/// Compacts a room.
pub(crate) async fn compact(app: &App, project: &str) -> Result<(), rooms::RoomError> {
    supervise::run(
        &app.ports.database,
        &SystemClock,
        &app.merger(),
        project,
        &Job::Compact,
    )
    .await
    .map(|_| ())
}
