//! The compaction of rooms: after appends that made a log long, when the relay asks, and when the poller sweeps.
//!
//! All of them call [`compact`], which makes sure that only one compaction of a room runs at a time.

use std::collections::HashMap;

use door::Reply;
use platform::Ports;
use rooms::{
    RoomError,
    supervise::{self, Wait},
};
use wire::{Outcome, Update};

use crate::{
    merging::SelfMerger,
    problems::{self, check_project_id},
    request::{Answer, Request},
};

/// A room's log is checked, and its bytes are counted, when its rev passes a multiple of this, or more often if its
/// updates are large: after about [`LOOK_BYTES`]. It is twice the length that makes a log due, so that one compaction
/// finishes before the next check.
const LOOK_EVERY: u64 = 256;
const LOOK_BYTES: u64 = 256 * 1024;

/// The most rooms that one sweep compacts; the next one goes on.
const SWEEP_ROOMS: u64 = 32;

/// A sweep begins no further merge after this many seconds, or this many merges. The next sweep comes ten seconds after
/// it.
const MERGE_SECONDS: i64 = 8;
const MERGES: usize = 32;

/// The revs and bytes that an append adds to each room.
pub(crate) struct Growth {
    rooms: Vec<Grown>,
    /// The place in `rooms` of each update's room.
    places: Vec<usize>,
}

struct Grown {
    project: String,
    updates: u64,
    bytes: u64,
    /// The lowest and the highest new rev; `None` if nothing was stored.
    revs: Option<(u64, u64)>,
}

impl Growth {
    /// Notes the rooms and sizes of updates that are about to be appended.
    pub(crate) fn of(updates: &[Update]) -> Self {
        let mut rooms: Vec<Grown> = Vec::new();
        let mut place_of = HashMap::new();
        let mut places = Vec::with_capacity(updates.len());
        for update in updates {
            let place = *place_of.entry(update.project.as_str()).or_insert_with(|| {
                rooms.push(Grown {
                    project: update.project.clone(),
                    updates: 0,
                    bytes: 0,
                    revs: None,
                });
                rooms.len() - 1
            });
            if let Some(room) = rooms.get_mut(place) {
                room.updates += 1;
                room.bytes += update.payload.len() as u64;
            }
            places.push(place);
        }
        Self { rooms, places }
    }

    /// The rooms whose logs may be due for compaction now.
    pub(crate) fn rooms_to_look_at(mut self, outcomes: &[Outcome]) -> Vec<String> {
        for (place, outcome) in self.places.iter().zip(outcomes) {
            if let (Some(room), Outcome::Stored { rev, .. }) = (self.rooms.get_mut(*place), outcome)
            {
                let (first, last) = room.revs.unwrap_or((*rev, *rev));
                room.revs = Some((first.min(*rev), last.max(*rev)));
            }
        }
        let rooms = self.rooms.into_iter().filter(Grown::is_worth_a_look);
        rooms.map(|room| room.project).collect()
    }
}

impl Grown {
    fn is_worth_a_look(&self) -> bool {
        let each = (self.bytes / self.updates.max(1)).max(1);
        let every = (LOOK_BYTES / each).clamp(1, LOOK_EVERY);
        self.revs
            .is_some_and(|(first, last)| (first - 1) / every != last / every)
    }
}

/// Compacts those of the rooms that are due, and counts the bytes of all. A failure is only logged, because the sweep
/// finds the room again.
pub(crate) async fn compact_due(ports: Ports<'_>, projects: Vec<String>) {
    for project in &projects {
        let compacted = match rooms::is_due(ports.database, project).await {
            Ok(false) => Ok(()),
            Ok(true) => compact(ports, project).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = compacted {
            tracing::warn!(project, %error, "a room was not compacted");
        }
        count(ports, project).await;
    }
}

/// Counts the bytes of a room. A failure is only logged, because the next look counts again.
async fn count(ports: Ports<'_>, project: &str) {
    if let Err(error) = quota::count(ports, project).await {
        tracing::warn!(project, %error, "the bytes of a project were not counted");
    }
}

async fn compact(ports: Ports<'_>, project: &str) -> Result<(), RoomError> {
    let merger = SelfMerger(ports);
    supervise::compact(ports.database, ports.clock, &merger, project, Wait::No).await
}

/// `POST /internal/rooms/{project}/compact`: compacts a room, due or not.
pub(crate) async fn compact_now<'a>(request: &Request<'a>, project: &str) -> Answer<'a> {
    check_project_id(project)?;
    let compacted = compact(request.ports(), project).await;
    compacted.map_err(problems::of_room)?;
    Ok(Reply::new(202))
}

/// `POST /internal/sweep`: compacts the rooms that are due, and goes on, after the answer, with merges of rooms whose log
/// was compacted without its state: one after the other, and for a time that ends before the next sweep, so that merges
/// never pile up.
pub(crate) async fn sweep<'a>(request: &Request<'a>) -> Answer<'a> {
    let ports = request.ports();
    for project in rooms::sweep(ports.database, ports.clock, SWEEP_ROOMS).await? {
        if let Err(error) = compact(ports, &project).await {
            tracing::warn!(project, %error, "a room was not compacted");
        }
        count(ports, &project).await;
    }
    rooms::forget_receipts(ports.database, ports.clock).await?;
    Ok(Reply::new(202).then(merge_due(ports)))
}

async fn merge_due(ports: Ports<'_>) {
    let end = ports.clock.unix_seconds() + MERGE_SECONDS;
    for _ in 0..MERGES {
        let due = rooms::to_merge(ports.database, ports.clock, 1).await;
        let due = due.unwrap_or_else(|error| {
            tracing::error!(%error, "the rooms to merge could not be read");
            Vec::new()
        });
        let Some(project) = due.first() else {
            return;
        };
        let merger = SelfMerger(ports);
        let merged = supervise::merge(ports.database, ports.clock, &merger, project).await;
        // The merge may have found the document too large.
        count(ports, project).await;
        match merged {
            Ok(()) => {}
            // The room is still due.
            Err(RoomError::Busy) => return,
            Err(error) => tracing::warn!(project, %error, "a room was not merged"),
        }
        if ports.clock.unix_seconds() >= end {
            return;
        }
    }
}
