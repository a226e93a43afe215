//! Redis: what other relays and the app itself stored, and who else is in a room.
//!
//! A relay publishes what it had stored, but only while another relay has the room too: most rooms
//! live on one relay, and then Redis hears nothing of their updates. The app publishes what came to
//! it without a relay.
//!
//! A room's channel is subscribed to while the room has sockets here. Nothing depends on a message
//! arriving: revs show what is missing, and heads are compared. After a lost connection every room
//! is subscribed to again, and then compared.

use crate::Relay;
use crate::app::backoff::Backoff;
use crate::app::outgoing::{self, Outgoing};
use crate::room::room::{Room, Update};
use crate::room::rooms;
use crate::socket::frame::Frame;
use futures_util::StreamExt;
use redis::aio::{MultiplexedConnection, PubSubSink};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

/// How long Redis may take to connect, or to confirm a subscription.
const PATIENCE: Duration = Duration::from_secs(5);

/// Channels in one SUBSCRIBE.
const CHANNELS: usize = 500;

/// What the rest of the relay says to the task that holds the connection. Without Redis nobody
/// listens, and nothing is said.
pub(crate) struct PubSub {
    listeners: Option<Listeners>,
    connected: AtomicBool,
    reconnected: Notify,
}

struct Listeners {
    /// Unbounded, but holds at most two a room that came or went since the last turn.
    subscriptions: mpsc::UnboundedSender<Change>,
    outgoing: Arc<Outgoing>,
}

enum Change {
    Subscribe(Arc<Room>),
    Unsubscribe(Arc<str>),
}

/// The other end of [`PubSub`], for [`run`].
pub(crate) struct Inbox {
    client: redis::Client,
    subscriptions: mpsc::UnboundedReceiver<Change>,
    outgoing: Arc<Outgoing>,
}

impl PubSub {
    /// For the relay with this id.
    ///
    /// # Errors
    /// With words for the operator, when the address makes no sense.
    pub(crate) fn new(relay: &str, redis: Option<&str>) -> Result<(Self, Option<Inbox>), String> {
        let mut pubsub = Self {
            listeners: None,
            connected: AtomicBool::new(false),
            reconnected: Notify::new(),
        };
        let Some(address) = redis else {
            return Ok((pubsub, None));
        };
        // Without the address: it may hold a password.
        let client = redis::Client::open(address)
            .map_err(|error| format!("the address of Redis makes no sense: {error}"))?;
        let (subscribe, subscriptions) = mpsc::unbounded_channel();
        let outgoing = Arc::new(Outgoing::new(relay));
        pubsub.listeners = Some(Listeners {
            subscriptions: subscribe,
            outgoing: outgoing.clone(),
        });
        Ok((
            pubsub,
            Some(Inbox {
                client,
                subscriptions,
                outgoing,
            }),
        ))
    }

    /// Whether Redis is there, as far as is known.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Resolves when the connection was lost and is back: messages may have been missed.
    pub(crate) async fn reconnected(&self) {
        self.reconnected.notified().await;
    }

    pub(crate) fn subscribe(&self, room: &Arc<Room>) {
        self.change(|| Change::Subscribe(room.clone()));
    }

    pub(crate) fn unsubscribe(&self, project: &Arc<str>) {
        self.change(|| Change::Unsubscribe(project.clone()));
    }

    fn change(&self, change: impl FnOnce() -> Change) {
        if let Some(listeners) = &self.listeners {
            // The other end lives as long as the relay.
            let _ = listeners.subscriptions.send(change());
        }
    }

    /// Where notices go; `None` while Redis is away: relays then compare heads.
    fn outgoing(&self) -> Option<&Outgoing> {
        let listeners = self.listeners.as_ref()?;
        self.is_connected().then_some(&*listeners.outgoing)
    }

    /// Tells other relays how many sockets this one has in a room.
    pub(crate) fn publish_peers(&self, project: &Arc<str>, count: u32) {
        if let Some(outgoing) = self.outgoing() {
            outgoing.count(project, count);
        }
    }

    /// Tells other relays what this one had stored: revs without a gap, in their order.
    pub(crate) fn publish_updates(&self, project: &Arc<str>, relay: &str, updates: &[Update]) {
        let (Some(first), Some(last)) = (updates.first(), updates.last()) else {
            return;
        };
        let Some(outgoing) = self.outgoing() else {
            return;
        };
        let frames = updates.iter().flat_map(|update| &update.frames);
        let bytes: usize = frames.clone().map(|frame| frame.payload().len()).sum();
        let notice = wire::Notice::Updates {
            origin: relay.to_owned(),
            first_rev: first.first,
            last_rev: last.last,
            payloads: if bytes <= wire::MAX_NOTICE_BYTES {
                frames
                    .map(|frame| frame.payload().to_vec().into())
                    .collect()
            } else {
                Vec::new()
            },
        };
        outgoing.updates(project, wire::encode(&notice), last.last);
    }

    /// Tells a relay that is new in a room which rev the room has reached.
    fn publish_head(&self, project: &Arc<str>, relay: &str, head: u64) {
        if let Some(outgoing) = self.outgoing() {
            outgoing.updates(project, outgoing::head(relay, head), head);
        }
    }
}

/// Holds the connection, for as long as the relay runs.
pub(crate) async fn run(relay: Arc<Relay>, inbox: Inbox) {
    let Inbox {
        client,
        mut subscriptions,
        outgoing,
    } = inbox;
    let mut backoff = Backoff::app();
    let mut warned = false;
    loop {
        match session(&relay, &client, &mut subscriptions, &outgoing).await {
            Session::NeverBegan(error) => {
                if !std::mem::replace(&mut warned, true) {
                    tracing::warn!(%error, "no Redis: trying again");
                }
            }
            Session::Lost(error) => {
                tracing::warn!(%error, "Redis was lost: trying again");
                backoff = Backoff::app();
                warned = true;
            }
        }
        relay.pubsub.connected.store(false, Ordering::Relaxed);
        relay.metrics.redis_connected.set(0);
        for room in relay.rooms.all() {
            room.subscribed.send_replace(false);
        }
        sleep(backoff.next()).await;
    }
}

enum Session {
    NeverBegan(String),
    Lost(String),
}

async fn session(
    relay: &Arc<Relay>,
    client: &redis::Client,
    subscriptions: &mut mpsc::UnboundedReceiver<Change>,
    outgoing: &Outgoing,
) -> Session {
    let connect = async {
        let pubsub = client.get_async_pubsub().await?;
        let publisher = client.get_multiplexed_async_connection().await?;
        redis::RedisResult::Ok((pubsub, publisher))
    };
    let (pubsub, mut publisher) = match timeout(PATIENCE, connect).await {
        Ok(Ok(connections)) => connections,
        Ok(Err(error)) => return Session::NeverBegan(error.to_string()),
        Err(_) => return Session::NeverBegan("it does not answer".into()),
    };
    let (mut sink, mut messages) = pubsub.split();
    // Rooms that came meanwhile are among all rooms.
    while subscriptions.try_recv().is_ok() {}
    if let Err(error) = subscribe(&mut sink, &relay.rooms.all()).await {
        return Session::NeverBegan(error);
    }
    relay.pubsub.connected.store(true, Ordering::Relaxed);
    relay.metrics.redis_connected.set(1);
    relay.pubsub.reconnected.notify_one();
    for room in relay.rooms.all() {
        relay.rooms.tell_peers(&room.project, true);
    }
    tracing::info!("Redis is connected");
    let publish = publish(&mut publisher, outgoing);
    tokio::pin!(publish);
    loop {
        tokio::select! {
            message = messages.next() => match message {
                Some(message) => receive(relay, &message).await,
                None => return Session::Lost("it closed the connection".into()),
            },
            Some(change) = subscriptions.recv() => {
                let mut changes = vec![change];
                while let Ok(change) = subscriptions.try_recv() {
                    changes.push(change);
                }
                if let Err(error) = apply(relay, &mut sink, changes).await {
                    return Session::Lost(error);
                }
            }
            error = &mut publish => return Session::Lost(error),
        }
    }
}

/// What was asked for meanwhile, by what is so now: a room that came and went needs nothing.
async fn apply(relay: &Relay, sink: &mut PubSubSink, changes: Vec<Change>) -> Result<(), String> {
    let mut come = Vec::new();
    let mut gone = Vec::new();
    for change in changes {
        match change {
            Change::Subscribe(room) => come.push(room),
            Change::Unsubscribe(project) => {
                if relay.rooms.get(&project).is_none() {
                    gone.push(wire::room_channel(&project));
                }
            }
        }
    }
    // First those to leave: one of them may have come again just now.
    for channels in gone.chunks(CHANNELS) {
        confirmed(sink.unsubscribe(channels)).await?;
    }
    subscribe(sink, &come).await
}

async fn subscribe(sink: &mut PubSubSink, rooms: &[Arc<Room>]) -> Result<(), String> {
    for rooms in rooms.chunks(CHANNELS) {
        let channels: Vec<String> = rooms
            .iter()
            .map(|room| wire::room_channel(&room.project))
            .collect();
        confirmed(sink.subscribe(&channels)).await?;
        for room in rooms {
            room.subscribed.send_replace(true);
        }
    }
    Ok(())
}

async fn confirmed(request: impl Future<Output = redis::RedisResult<()>>) -> Result<(), String> {
    match timeout(PATIENCE, request).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it does not answer".into()),
    }
}

/// Publishes until that fails.
async fn publish(connection: &mut MultiplexedConnection, outgoing: &Outgoing) -> String {
    loop {
        let (project, message) = outgoing.next().await;
        let mut command = redis::cmd("PUBLISH");
        command.arg(wire::room_channel(&project)).arg(message);
        match timeout(PATIENCE, command.query_async::<()>(connection)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return "it does not answer".into(),
        }
    }
}

async fn receive(relay: &Arc<Relay>, message: &redis::Msg) {
    relay.metrics.notices_total.add(1);
    let channel = message.get_channel_name();
    let Some(project) = channel.strip_prefix("room:") else {
        return;
    };
    match wire::decode(message.get_payload_bytes()) {
        // Its own appends it hears of in the answer to each, and earlier.
        Ok(wire::Notice::Updates { origin, .. }) if origin == relay.id => {}
        Ok(wire::Notice::Updates {
            first_rev,
            last_rev,
            payloads,
            ..
        }) => {
            let whole = payloads.iter().all(|payload| !payload.is_empty())
                && last_rev.checked_sub(first_rev) == (payloads.len() as u64).checked_sub(1);
            if whole {
                let updates = (first_rev..)
                    .zip(payloads)
                    .map(|(rev, payload)| Update {
                        first: rev,
                        last: rev,
                        frames: vec![Frame::from(payload)],
                        sender: 0,
                    })
                    .collect();
                rooms::deliver(relay, project, updates).await;
            } else {
                // Too large for a message: there is nothing to wait for.
                rooms::note(relay, project, last_rev, Duration::ZERO);
            }
        }
        Ok(wire::Notice::Access { access_rev }) => {
            if let Some(room) = relay.rooms.get(project)
                && room.note_access(access_rev)
            {
                relay.doubt.raise();
            }
        }
        Ok(wire::Notice::Peers { relay: other, .. }) if other == relay.id => {}
        Ok(wire::Notice::Peers {
            relay: other,
            count,
        }) => {
            if let Some(room) = relay.rooms.get(project) {
                hear(relay, &room, other, count);
            }
        }
        Err(error) => tracing::debug!(%channel, %error, "a notice makes no sense"),
    }
}

fn hear(relay: &Relay, room: &Room, other: String, count: u32) {
    let mut peers = room.peers.lock().unwrap_or_else(PoisonError::into_inner);
    // A relay that is new here has not heard of us either.
    let is_new = peers.heard(other, count);
    drop(peers);
    if is_new && let Some(head) = room.head() {
        // What was stored between its reading of the state and its first word was not published.
        relay.pubsub.publish_head(&room.project, &relay.id, head);
    }
    relay.rooms.tell_peers(&room.project, is_new);
}
