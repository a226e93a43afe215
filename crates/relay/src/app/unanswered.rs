//! The updates that were sent to the app and are not answered yet. They may be stored by now, and then a room that fetches
//! what it lacks gets them before the answer comes. Here the room finds which socket sent them, because no socket gets
//! its own updates back.

use crate::app::submission::Submission;
use crate::socket::frame::Frame;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// The updates of a room by their serial numbers, each with the id of the socket that sent it.
type InRoom = HashMap<u64, (Frame, u64)>;

/// The updates that are with the app. They are part of the commit queue, which bounds them.
#[derive(Default)]
pub(crate) struct Unanswered {
    /// The rooms, by their projects.
    rooms: Mutex<HashMap<Arc<str>, InRoom>>,
}

impl Unanswered {
    /// Adds a batch. Adding it again changes nothing.
    pub(crate) fn add(&self, batch: &[Submission]) {
        let mut rooms = self.rooms.lock();
        for submission in batch {
            let room = rooms.entry(submission.project.clone()).or_default();
            let update = (submission.frame.clone(), submission.socket.id);
            room.insert(submission.serial, update);
        }
    }

    /// Removes a batch that is decided and delivered, or given up.
    pub(crate) fn remove(&self, batch: &[Submission]) {
        let mut rooms = self.rooms.lock();
        if rooms.is_empty() {
            return;
        }
        for submission in batch {
            if let Some(room) = rooms.get_mut(&submission.project) {
                room.remove(&submission.serial);
                if room.is_empty() {
                    rooms.remove(&submission.project);
                }
            }
        }
    }

    /// The id of the socket that sent an update; `None` if no socket of this relay is known to have sent it.
    pub(crate) fn sender(&self, project: &str, payload: &[u8]) -> Option<u64> {
        let rooms = self.rooms.lock();
        let mut updates = rooms.get(project)?.values();
        let (_, sender) = updates.find(|(frame, _)| frame.payload() == payload)?;
        Some(*sender)
    }
}
