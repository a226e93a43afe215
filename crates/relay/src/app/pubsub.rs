//! The relay's side of Redis: what it publishes to other relays, and to which rooms it listens.
//!
//! A relay publishes the updates that it has had stored, but only while another relay has the room too: most rooms live
//! on one relay, and then nothing of their updates goes to Redis. The app publishes the updates that came to it without
//! a relay.
//!
//! A room's channel is subscribed to while the room has sockets here. Nothing depends on the arrival of a message,
//! because revs show what is missing, and heads are compared. The [`subscriber`](crate::app::subscriber) holds the
//! connection.

use crate::app::outgoing::{self, Outgoing};
use crate::room::room::Room;
use crate::room::stored::Stored;
use crate::settings::SettingError;
use crate::socket::frame::{Frame, Outbound};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Notify, mpsc};

/// The way to the task that holds the connection to Redis. Without Redis the relay sends and receives no notices.
pub(crate) struct PubSub {
    /// The id of this relay.
    origin: Arc<str>,
    redis: Option<Redis>,
    is_connected: AtomicBool,
    reconnected: Notify,
}

struct Redis {
    /// The channel of changes. It is unbounded, but holds at most two for each room that came or went since the last
    /// turn.
    changes: mpsc::UnboundedSender<Change>,
    outgoing: Arc<Outgoing>,
}

/// A change of the rooms to which the relay listens.
pub(crate) enum Change {
    Subscribe(Arc<Room>),
    Unsubscribe(Arc<str>),
}

/// The work of the task that holds the connection.
pub(crate) struct Inbox {
    pub(crate) client: redis::Client,
    pub(crate) changes: mpsc::UnboundedReceiver<Change>,
    pub(crate) outgoing: Arc<Outgoing>,
}

impl PubSub {
    /// The way to the Redis at this address, from the relay `origin`.
    ///
    /// # Errors
    /// If the address cannot be read.
    pub(crate) fn new(
        origin: Arc<str>,
        address: Option<&str>,
    ) -> Result<(Self, Option<Inbox>), SettingError> {
        let mut pubsub = Self {
            origin: origin.clone(),
            redis: None,
            is_connected: AtomicBool::new(false),
            reconnected: Notify::new(),
        };
        let Some(address) = address else {
            return Ok((pubsub, None));
        };
        let client = redis::Client::open(address).map_err(SettingError::Redis)?;
        let (sender, changes) = mpsc::unbounded_channel();
        let outgoing = Arc::new(Outgoing::new(origin));
        pubsub.redis = Some(Redis {
            changes: sender,
            outgoing: outgoing.clone(),
        });
        let inbox = Inbox {
            client,
            changes,
            outgoing,
        };
        Ok((pubsub, Some(inbox)))
    }

    /// Returns whether a notice comes from this relay.
    pub(crate) fn is_own(&self, origin: &str) -> bool {
        *self.origin == *origin
    }

    /// Returns whether Redis is there, as far as the relay knows.
    pub(crate) fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::Relaxed)
    }

    /// Notes that the connection was made, or lost.
    pub(crate) fn set_connected(&self, is_connected: bool) {
        self.is_connected.store(is_connected, Ordering::Relaxed);
        if is_connected {
            self.reconnected.notify_one();
        }
    }

    /// Resolves after a connection was made, because messages may have been missed before it.
    pub(crate) async fn reconnected(&self) {
        self.reconnected.notified().await;
    }

    /// Listens to a room.
    pub(crate) fn subscribe(&self, room: &Arc<Room>) {
        self.change(|| Change::Subscribe(room.clone()));
    }

    /// Stops listening to a room.
    pub(crate) fn unsubscribe(&self, project: &Arc<str>) {
        self.change(|| Change::Unsubscribe(project.clone()));
    }

    fn change(&self, change: impl FnOnce() -> Change) {
        if let Some(redis) = &self.redis {
            // The receiver lives as long as the relay.
            let _ = redis.changes.send(change());
        }
    }

    /// The queue of notices; `None` while Redis is away, because relays then compare heads.
    fn outgoing(&self) -> Option<&Outgoing> {
        let redis = self.redis.as_ref()?;
        self.is_connected().then_some(&*redis.outgoing)
    }

    /// Publishes how many sockets this relay has in a room.
    pub(crate) fn publish_peers(&self, project: &Arc<str>, count: u32) {
        if let Some(outgoing) = self.outgoing() {
            outgoing.count(project, count);
        }
    }

    /// Publishes the updates that this relay has had stored. The revs have no gap and are in order.
    pub(crate) fn publish_updates(&self, project: &Arc<str>, updates: &[Stored]) {
        let (Some(first), Some(last)) = (updates.first(), updates.last()) else {
            return;
        };
        let Some(outgoing) = self.outgoing() else {
            return;
        };
        let payloads = updates
            .iter()
            .flat_map(Outbound::frames)
            .map(Frame::payload);
        let bytes: usize = payloads.clone().map(<[u8]>::len).sum();
        let notice = wire::Notice::Updates {
            origin: self.origin.to_string(),
            first_rev: first.first(),
            last_rev: last.last(),
            payloads: if bytes <= wire::MAX_NOTICE_BYTES {
                payloads.map(|payload| payload.to_vec().into()).collect()
            } else {
                Vec::new()
            },
        };
        outgoing.updates(project, wire::encode(&notice), last.last());
    }

    /// Publishes the rev that a room has reached, for a relay that is new there.
    pub(crate) fn publish_head(&self, project: &Arc<str>, head: u64) {
        if let Some(outgoing) = self.outgoing() {
            outgoing.updates(project, outgoing::head(&self.origin, head), head);
        }
    }
}
