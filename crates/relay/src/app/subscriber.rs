//! The task that holds the connection to Redis: it subscribes, publishes, and takes notices to their rooms.
//!
//! After a lost connection every room is subscribed to again, and then compared.

use crate::app::backoff::Backoff;
use crate::app::outgoing::Outgoing;
use crate::app::pubsub::{Change, Inbox, PubSub};
use crate::metrics::Metrics;
use crate::room::effects::Fetch;
use crate::room::room::Room;
use crate::room::rooms::Rooms;
use crate::room::stored::Stored;
use crate::waiting::waiters::Waiters;
use futures_util::StreamExt;
use redis::aio::{MultiplexedConnection, PubSubSink};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// The time that Redis may take to connect, or to confirm a request.
const PATIENCE: Duration = Duration::from_secs(5);

/// The number of channels in one SUBSCRIBE.
const CHANNELS: usize = 500;

/// The reason why a session with Redis ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Failed(#[from] redis::RedisError),
    #[error("Redis does not answer")]
    Silent,
    #[error("Redis closed the connection")]
    Closed,
}

/// The ways in which a session with Redis ends.
enum Session {
    NeverBegan(Broken),
    Lost(Broken),
}

/// The task that holds the connection.
pub(crate) struct Subscriber {
    rooms: Arc<Rooms>,
    waiters: Arc<Waiters>,
    pubsub: Arc<PubSub>,
    metrics: Arc<Metrics>,
    client: redis::Client,
    outgoing: Arc<Outgoing>,
}

impl Subscriber {
    /// Connects for as long as the relay runs.
    pub(crate) async fn run(rooms: Arc<Rooms>, waiters: Arc<Waiters>, inbox: Inbox) {
        let Inbox {
            client,
            mut changes,
            outgoing,
        } = inbox;
        let subscriber = Self {
            pubsub: rooms.pubsub.clone(),
            metrics: rooms.metrics.clone(),
            rooms,
            waiters,
            client,
            outgoing,
        };
        let mut backoff = Backoff::app();
        let mut has_warned = false;
        loop {
            match subscriber.session(&mut changes).await {
                Session::NeverBegan(error) => {
                    if !std::mem::replace(&mut has_warned, true) {
                        tracing::warn!(%error, "Redis cannot be reached: trying again");
                    }
                }
                Session::Lost(error) => {
                    tracing::warn!(%error, "the connection to Redis was lost: trying again");
                    backoff = Backoff::app();
                    has_warned = true;
                }
            }
            subscriber.pubsub.set_connected(false);
            subscriber.metrics.redis_connected.set(0);
            for room in subscriber.rooms.all() {
                room.subscribed.send_replace(false);
            }
            sleep(backoff.next()).await;
        }
    }

    async fn session(&self, changes: &mut mpsc::UnboundedReceiver<Change>) -> Session {
        let connect = async {
            let pubsub = self.client.get_async_pubsub().await?;
            let publisher = self.client.get_multiplexed_async_connection().await?;
            Ok((pubsub, publisher))
        };
        let (pubsub, mut publisher) = match in_time(connect).await {
            Ok(connections) => connections,
            Err(error) => return Session::NeverBegan(error),
        };
        let (mut sink, mut messages) = pubsub.split();
        if let Err(error) = in_time(sink.subscribe(wire::TASK_CHANGES)).await {
            return Session::NeverBegan(error);
        }
        // These changes need not be made, because a room that came meanwhile is among all rooms.
        while changes.try_recv().is_ok() {}
        if let Err(error) = subscribe(&mut sink, &self.rooms.all()).await {
            return Session::NeverBegan(error);
        }
        self.pubsub.set_connected(true);
        self.metrics.redis_connected.set(1);
        for room in self.rooms.all() {
            self.rooms.mark_peers_changed(&room.project, true);
        }
        tracing::info!("Redis is connected");
        let publish = publish(&mut publisher, &self.outgoing);
        tokio::pin!(publish);
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => self.receive(&message).await,
                    None => return Session::Lost(Broken::Closed),
                },
                Some(change) = changes.recv() => {
                    let mut due = vec![change];
                    while let Ok(change) = changes.try_recv() {
                        due.push(change);
                    }
                    if let Err(error) = self.change(&mut sink, due).await {
                        return Session::Lost(error);
                    }
                }
                error = &mut publish => return Session::Lost(error),
            }
        }
    }

    /// Makes the changes that are still needed.
    async fn change(&self, sink: &mut PubSubSink, changes: Vec<Change>) -> Result<(), Broken> {
        let (come, gone) = still_needed(changes, |project| self.rooms.get(project));
        // A room that comes or goes meanwhile is among the next changes.
        for channels in gone.chunks(CHANNELS) {
            in_time(sink.unsubscribe(channels)).await?;
        }
        subscribe(sink, &come).await
    }

    /// Takes a notice to its room.
    async fn receive(&self, message: &redis::Msg) {
        self.metrics.notices_total.add(1);
        let channel = message.get_channel_name();
        if channel == wire::TASK_CHANGES {
            self.waiters.receive(message.get_payload_bytes());
            return;
        }
        let Some(project) = channel.strip_prefix("room:") else {
            return;
        };
        match wire::decode(message.get_payload_bytes()) {
            // The answer to its own append reached the relay earlier.
            Ok(wire::Notice::Updates { origin, .. }) if self.pubsub.is_own(&origin) => {}
            Ok(wire::Notice::Updates {
                first_rev,
                last_rev,
                payloads,
                ..
            }) => match Stored::noticed(first_rev, last_rev, payloads) {
                Some(updates) => self.rooms.deliver(project, updates).await,
                // They were too large for a message, so there is nothing to wait for.
                None => self.rooms.note(project, last_rev, Fetch::Now).await,
            },
            Ok(wire::Notice::Access { access_rev }) => {
                self.rooms.note_access(project, access_rev).await;
            }
            Ok(wire::Notice::Peers { relay, .. }) if self.pubsub.is_own(&relay) => {}
            Ok(wire::Notice::Peers { relay, count }) => {
                if let Some(room) = self.rooms.get(project) {
                    self.record_peers(&room, relay, count);
                }
            }
            Err(error) => {
                tracing::debug!(%channel, %error, "a notice of another relay or of the app cannot be read")
            }
        }
    }

    /// Notes how many sockets another relay has in a room.
    fn record_peers(&self, room: &Room, relay: String, count: u32) {
        let is_new = room.peers.lock().record(relay, count);
        // A relay that is new here does not know of this one either.
        if is_new && let Some(head) = room.head() {
            // What was stored after that relay read the state, and before its count came, was not published.
            self.pubsub.publish_head(&room.project, head);
        }
        self.rooms.mark_peers_changed(&room.project, is_new);
    }
}

/// Returns the rooms among these changes that came and are still there, and the channels of those that went and did not
/// come again. No project is among both, because a change is sent after its room came or went.
fn still_needed(
    changes: Vec<Change>,
    present: impl Fn(&str) -> Option<Arc<Room>>,
) -> (Vec<Arc<Room>>, Vec<String>) {
    let (mut come, mut gone) = (Vec::new(), Vec::new());
    for change in changes {
        match change {
            Change::Subscribe(room) => {
                // A room that came after this one has a change of its own.
                if present(&room.project).is_some_and(|now| Arc::ptr_eq(&now, &room)) {
                    come.push(room);
                }
            }
            Change::Unsubscribe(project) => {
                if present(&project).is_none() {
                    gone.push(wire::room_channel(&project));
                }
            }
        }
    }
    (come, gone)
}

async fn subscribe(sink: &mut PubSubSink, rooms: &[Arc<Room>]) -> Result<(), Broken> {
    for rooms in rooms.chunks(CHANNELS) {
        let channels: Vec<String> = rooms
            .iter()
            .map(|room| wire::room_channel(&room.project))
            .collect();
        in_time(sink.subscribe(&channels)).await?;
        for room in rooms {
            room.subscribed.send_replace(true);
        }
    }
    Ok(())
}

/// Publishes until that fails.
async fn publish(connection: &mut MultiplexedConnection, outgoing: &Outgoing) -> Broken {
    loop {
        let (project, message) = outgoing.next().await;
        let mut command = redis::cmd("PUBLISH");
        command.arg(wire::room_channel(&project)).arg(message);
        if let Err(error) = in_time(command.query_async::<()>(connection)).await {
            return error;
        }
    }
}

async fn in_time<T>(request: impl Future<Output = redis::RedisResult<T>>) -> Result<T, Broken> {
    let answer = timeout(PATIENCE, request).await;
    Ok(answer.map_err(|_| Broken::Silent)??)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::log::Recent;

    #[test]
    fn only_rooms_that_are_there_are_subscribed_to() {
        let room = |project: &str| {
            let keep = Recent {
                updates: 1,
                bytes: 1,
            };
            Arc::new(Room::new(project.into(), keep))
        };
        let (stays, passes, before, after) = (room("a"), room("b"), room("c"), room("c"));
        let changes = vec![
            Change::Subscribe(stays.clone()),
            Change::Subscribe(passes.clone()),
            Change::Subscribe(before.clone()),
            Change::Unsubscribe(before.project.clone()),
            Change::Unsubscribe(passes.project.clone()),
            Change::Subscribe(after.clone()),
        ];
        let present = [stays, after];
        let (come, gone) = still_needed(changes, |project| {
            present
                .iter()
                .find(|room| *room.project == *project)
                .cloned()
        });
        assert_eq!(come.len(), 2);
        for (room, expected) in come.iter().zip(&present) {
            assert!(Arc::ptr_eq(room, expected), "{}", room.project);
        }
        assert_eq!(gone, [wire::room_channel("b")]);
    }
}
