//! The relay: the one long-lived part of the server, for a Spin component cannot hold a socket
//! open. It speaks WebSocket with clients, HTTP with the Spin app, and Redis with its like, and
//! keeps nothing that is not in the app's log or on its way there.
//!
//! ```text
//!             server ─── proxy ──────────────────────────▶ the app's public routes
//!               │ upgrade
//!               ▼
//!   client ◀─▶ connection ──update──▶ committer ──batch──▶ /internal/append
//!               ▲   │ join                │ decided
//!        outbox │   ▼                     ▼
//!             socket ◀──frames, in order─ room ◀──gap, head── /internal/rooms/…
//!                                          ▲
//!                                          └──notices── pubsub ◀─▶ Redis
//! ```
//!
//! What holds, whatever fails:
//! - An update goes to other clients only after the app said that it is stored.
//! - A socket gets a room's updates in the order of their revs, none twice, none left out between
//!   its state and its close; its own never come back, but where the relay had to fetch what it
//!   had lost.
//! - Memory is bounded: what waits to be stored, what waits for a slow client, what has arrived in
//!   part, what is kept for those who join.
//! - One frame is encoded once, and one socket never waits for another.
//!
//! The same code builds for the machine itself and for `wasm32-wasip2`, where it runs on one
//! thread.

mod app;
mod edge;
mod metrics;
mod room;
mod settings;
mod shutdown;
mod socket;

pub use edge::server::serve;
pub use edge::upgrade::UPGRADES;
pub use settings::Settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Why [`serve`] could not begin, or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting makes no sense; in words for the operator.
    #[error("{0}")]
    Setting(String),
    /// The listening socket cannot be used.
    #[error("the listening socket cannot be used: {0}")]
    Listener(std::io::Error),
    /// A task that the relay cannot do without has ended: a bug.
    #[error("a part of the relay failed; its log tells which")]
    PartFailed,
}

/// What every part of one relay shares.
struct Relay {
    settings: Settings,
    /// Tells this relay's appends and peers from others'. New at every start.
    id: String,
    upstream: Arc<app::upstream::Upstream>,
    app: app::client::App,
    rooms: room::rooms::Rooms,
    committer: app::committer::Committer,
    pubsub: app::pubsub::PubSub,
    metrics: metrics::Metrics,
    shutdown: shutdown::Shutdown,
    doubt: room::access::Doubt,
    limits: edge::limits::Limits,
    health: edge::health::Health,
    /// One permit a WebSocket.
    seats: Arc<Semaphore>,
    sockets: AtomicU64,
}

impl Relay {
    fn new(settings: Settings) -> Result<(Self, Option<app::pubsub::Inbox>), Error> {
        let upstream =
            Arc::new(app::upstream::Upstream::new(&settings.app).map_err(Error::Setting)?);
        let app = app::client::App::new(upstream.clone(), &settings).map_err(Error::Setting)?;
        let id = format!("{:016x}", rand::random::<u64>());
        let (pubsub, inbox) =
            app::pubsub::PubSub::new(&id, settings.redis.as_deref()).map_err(Error::Setting)?;
        let relay = Self {
            id,
            upstream,
            app,
            rooms: room::rooms::Rooms::default(),
            committer: app::committer::Committer::default(),
            pubsub,
            metrics: metrics::Metrics::default(),
            shutdown: shutdown::Shutdown::default(),
            doubt: room::access::Doubt::default(),
            limits: edge::limits::Limits::new(&settings),
            health: edge::health::Health::default(),
            seats: Arc::new(Semaphore::new(settings.max_connections)),
            sockets: AtomicU64::new(0),
            settings,
        };
        Ok((relay, inbox))
    }

    /// An id that no other socket of this relay has; never 0.
    fn next_socket_id(&self) -> u64 {
        self.sockets.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn is_draining(&self) -> bool {
        self.shutdown.has_begun()
    }

    /// To be held by a connection while it lives.
    fn alive(&self) -> shutdown::Guard {
        self.shutdown.guard()
    }

    /// How long a missing rev may be on its way before it is fetched.
    fn fill_wait(&self) -> Duration {
        self.settings.gap_wait
    }
}
