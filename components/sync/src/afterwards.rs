//! What follows an append and nobody waits for: other relays are told, and a long log is compacted.

use platform::PubSub;
use rooms::{
    Appended, NewUpdate,
    supervise::{self, Job},
};
use wire::{ByteVec, Notice};

use crate::App;

/// A room's log is looked at when its rev passes a multiple of this, or after this many bytes.
/// Twice what makes it due: the next look comes when the compaction that this one begins is over.
const LOOK_EVERY: u64 = 256;
const LOOK_BYTES: usize = 256 * 1024;

/// The work that follows an append.
pub(crate) struct Afterwards {
    /// Under whose name relays are told; `None` where they hear of it otherwise.
    tell_as: Option<&'static str>,
    rooms: Vec<Room>,
    /// Of each update of the append: its place in `rooms`.
    places: Vec<usize>,
}

struct Room {
    project: String,
    payloads: Vec<ByteVec>,
    bytes: usize,
    stored: Vec<(u64, usize)>,
}

impl Afterwards {
    /// Takes notes of what is about to be appended.
    pub(crate) fn new(tell_as: Option<&'static str>, updates: &[NewUpdate]) -> Self {
        let mut rooms: Vec<Room> = Vec::new();
        let mut place_of = std::collections::HashMap::new();
        let mut places = Vec::with_capacity(updates.len());
        for update in updates {
            let place = *place_of.entry(update.project.as_str()).or_insert_with(|| {
                rooms.push(Room {
                    project: update.project.clone(),
                    payloads: Vec::new(),
                    bytes: 0,
                    stored: Vec::new(),
                });
                rooms.len() - 1
            });
            if let Some(room) = rooms.get_mut(place) {
                room.bytes += update.payload.len();
                let told = tell_as.is_some() && room.bytes <= wire::MAX_NOTICE_BYTES;
                let payload = if told {
                    update.payload.clone()
                } else {
                    Vec::new()
                };
                room.payloads.push(payload.into());
            }
            places.push(place);
        }
        Self {
            tell_as,
            rooms,
            places,
        }
    }

    /// Takes notes of what became of it.
    pub(crate) fn stored(&mut self, outcomes: &[Appended]) {
        let mut seen = vec![0; self.rooms.len()];
        for (place, outcome) in self.places.iter().zip(outcomes) {
            let (Some(room), Some(n)) = (self.rooms.get_mut(*place), seen.get_mut(*place)) else {
                continue;
            };
            if let Appended::Stored { rev } = outcome {
                room.stored.push((*rev, *n));
            }
            *n += 1;
        }
        self.rooms.retain(|room| !room.stored.is_empty());
    }

    /// Does it. What fails is logged: revs heal a lost notice, and the sweep a lost compaction.
    pub(crate) async fn run(self, app: &App) {
        if let Some(origin) = self.tell_as {
            self.tell(app, origin).await;
        }
        for room in self.rooms.iter().filter(|room| room.is_worth_a_look()) {
            compact_if_due(app, &room.project).await;
        }
    }
}

impl Afterwards {
    async fn tell(&self, app: &App, origin: &str) {
        for room in &self.rooms {
            let Some(notice) = room.notice(origin) else {
                continue;
            };
            let channel = wire::room_channel(&room.project);
            if let Err(error) = app.pubsub.publish(&channel, wire::encode(&notice)).await {
                tracing::warn!(%error, "relays not told");
                // The others would wait for the same answer.
                return;
            }
        }
    }
}

impl Room {
    fn notice(&self, origin: &str) -> Option<Notice> {
        let (first_rev, last_rev) = (self.stored.first()?.0, self.stored.last()?.0);
        let payloads = if self.bytes <= wire::MAX_NOTICE_BYTES {
            self.stored
                .iter()
                .filter_map(|(_, n)| self.payloads.get(*n).cloned())
                .collect()
        } else {
            Vec::new()
        };
        Some(Notice::Updates {
            origin: origin.to_owned(),
            first_rev,
            last_rev,
            payloads,
        })
    }

    fn is_worth_a_look(&self) -> bool {
        let (Some((first, _)), Some((last, _))) = (self.stored.first(), self.stored.last()) else {
            return false;
        };
        self.bytes >= LOOK_BYTES || (first - 1) / LOOK_EVERY != last / LOOK_EVERY
    }
}

async fn compact_if_due(app: &App, project: &str) {
    let due = rooms::is_due(&app.database, project).await;
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
        &app.database,
        &app.clock,
        &app.merger,
        project,
        &Job::Compact,
    )
    .await
    .map(|_| ())
}
