//! The relay: the one long-lived part of the server, because a Spin component cannot hold a socket open. It speaks
//! WebSocket with clients, HTTP with the Spin app, and Redis with other relays, and keeps nothing but what is in the
//! app's log or on its way there.
//!
//! ```text
//!             edge::server ── waiting::desk, edge::proxy ───────▶ the app's public routes
//!               │ edge::upgrade
//!               ▼
//!   client ◀─▶ socket::connection ──update──▶ app::queue ─▶ app::committer ──batch──▶ /internal/append
//!               ▲     │ room::join                            │ decided
//!         queue │     ▼                                       ▼
//!            socket::socket ◀──Stored, in order── room::room ◀── app::delivery
//!                                                   ▲   │ Effects
//!                               app::subscriber ────┘   └──▶ room::rooms ──gap──▶ /internal/rooms/…
//!                                     ▲
//!                                     └──notices── app::pubsub ◀─▶ Redis
//! ```
//!
//! Whatever fails:
//! - An update goes to other clients only after the app said that it is stored. `room::stored::Stored` is such an
//!   update, and rooms and sockets take no other.
//! - A socket gets a room's updates in the order of their revs, none twice, and none left out between its state and its
//!   close. Its own updates do not come back to it, unless the relay had to fetch what it had lost.
//! - Memory is bounded: updates that wait to be stored, frames that wait for a slow client, messages that have arrived
//!   in part, and updates that are kept for clients that join.
//! - A frame is encoded once, and no socket waits for another.
//!
//! The same code builds for the machine itself and for `wasm32-wasip2`, where it runs on one thread.

#![forbid(unsafe_code)]

mod app;
mod chores;
mod cli;
mod edge;
mod environment;
mod histograms;
mod listen;
mod metrics;
mod room;
mod settings;
mod socket;
mod thrift;
mod waiting;

pub use cli::{CommandLine, start_logs};
pub use edge::open_files::raise as raise_open_files;
pub use edge::upgrade::UPGRADES;
pub use environment::{WrongVariable, unknown_variables, warn_of_unknown_variables};
pub use listen::listen_address;
pub use settings::{SettingError, Settings};

use app::client::App;
use app::committer::Committer;
use app::pubsub::{Inbox, PubSub};
use app::queue::CommitQueue;
use app::subscriber::Subscriber;
use app::upstream::Upstream;
use edge::app_metrics::AppMetrics;
use edge::arrivals::Arrivals;
use edge::health::Health;
use edge::internal::Internal;
use edge::limits::Limits;
use edge::listener::Listener;
use edge::open_files;
use edge::proxy::Proxy;
use edge::ready::Ready;
use edge::refused_pages::RefusedPages;
use edge::server::{REFUSALS, Server};
use edge::upgrade::Upgrades;
use metrics::Metrics;
use room::recheck::{Recheck, RecheckSignal};
use room::rooms::Rooms;
use socket::close::Close;
use socket::shared::Shared;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use waiting::compare;
use waiting::desk::Desk;
use waiting::waiters::Waiters;

/// The reason why [`serve`] could not begin, or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting is not valid.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The listening socket cannot be used.
    #[error("the listening socket cannot be used: {0}")]
    Listener(std::io::Error),
    /// A task that the relay needs has ended: a bug.
    #[error("a part of the relay failed; its log says which")]
    PartFailed,
}

/// Checks that every setting is valid, without any effect.
///
/// # Errors
/// If a setting is not valid.
pub fn check(settings: &Settings) -> Result<(), Error> {
    Relay::new(settings.clone()).map(drop)
}

/// Runs a relay on `listener` until `shutdown` resolves, or an operator posts to `/internal/drain`; then drains, and
/// returns.
///
/// A relay that drains takes no new connection and reads no further update, stores what it has taken (for at most
/// [`Settings::drain_timeout`]), and closes every WebSocket with 1001.
///
/// # Errors
/// At once if a setting is not valid. Later only if a part that the relay needs has failed.
pub async fn serve(
    listener: TcpListener,
    settings: Settings,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let (relay, inbox) = Relay::new(settings)?;
    let listener = Listener::new(listener).map_err(Error::Listener)?;
    let server = relay.server();
    let mut parts = relay.start(inbox);
    let served = tokio::select! {
        () = server.accept(listener) => Ok(()),
        () = shutdown => Ok(()),
        () = relay.stop.cancelled() => Ok(()),
        _ = parts.join_next() => Err(Error::PartFailed),
    };
    relay.drain().await;
    parts.shutdown().await;
    served
}

/// The parts of one relay, put together.
struct Relay {
    settings: Arc<Settings>,
    metrics: Arc<Metrics>,
    /// The id of this relay, by which it knows its own appends and notices. New at every start.
    origin: Arc<str>,
    app: Arc<App>,
    rooms: Arc<Rooms>,
    queue: Arc<CommitQueue>,
    recheck: Arc<RecheckSignal>,
    waiters: Arc<Waiters>,
    /// The way to the app, of requests that the relay passes on.
    upstream: Arc<Upstream>,
    /// The token that is cancelled when an operator asks the relay to drain.
    stop: CancellationToken,
    /// The token that is cancelled when the relay drains.
    draining: CancellationToken,
    /// The tasks of all connections.
    connections: TaskTracker,
}

impl Relay {
    fn new(settings: Settings) -> Result<(Self, Option<Inbox>), Error> {
        let settings = Arc::new(settings);
        let metrics = Arc::new(Metrics::default());
        let origin: Arc<str> = format!("{:016x}", rand::random::<u64>()).into();
        let (stop, draining) = (CancellationToken::new(), CancellationToken::new());
        let recheck = Arc::new(RecheckSignal::default());

        let upstream = Arc::new(Upstream::new(&settings.app)?);
        let app = Arc::new(App::new(upstream.clone(), &settings, metrics.clone())?);
        let (pubsub, inbox) = PubSub::new(origin.clone(), settings.redis.as_deref())?;
        let queue = Arc::new(CommitQueue::new(settings.max_commit_queue, metrics.clone()));
        let rooms = Arc::new(Rooms::new(
            settings.clone(),
            metrics.clone(),
            app.clone(),
            Arc::new(pubsub),
            queue.unanswered.clone(),
            recheck.clone(),
            draining.clone(),
        ));

        let waiters = Arc::new(Waiters::new(metrics.clone()));
        let relay = Self {
            settings,
            metrics,
            origin,
            app,
            rooms,
            queue,
            recheck,
            waiters,
            upstream,
            stop,
            draining,
            connections: TaskTracker::new(),
        };
        Ok((relay, inbox))
    }

    /// Puts the server together, which takes the clients' requests.
    fn server(&self) -> Arc<Server> {
        let (settings, metrics, draining) = (&self.settings, &self.metrics, &self.draining);
        let limits = Arc::new(Limits::new(settings));
        let arrivals = Arc::new(Arrivals::new(settings, open_files::connections(settings)));
        let pages = Arc::new(RefusedPages::default());
        let proxy = Arc::new(Proxy::new(
            self.upstream.clone(),
            limits.clone(),
            self.rooms.clone(),
            pages.clone(),
        ));
        let shared = Shared::new(self.rooms.clone(), self.queue.clone(), draining.clone());
        let health = Arc::new(Health::new(self.upstream.clone()));
        Arc::new(Server {
            settings: settings.clone(),
            metrics: metrics.clone(),
            limits: limits.clone(),
            ready: Ready::new(health.clone(), metrics, draining, settings),
            health,
            internal: Internal::new(
                &settings.internal_token,
                metrics.clone(),
                AppMetrics::new(self.app.clone(), metrics.clone()),
                self.recheck.clone(),
                self.stop.clone(),
            ),
            upgrades: Upgrades::new(
                self.app.clone(),
                limits.clone(),
                arrivals.clone(),
                pages,
                Arc::new(shared),
                draining.clone(),
                self.connections.clone(),
            ),
            desk: Arc::new(Desk::new(
                limits,
                proxy.clone(),
                self.waiters.clone(),
                draining.clone(),
            )),
            proxy,
            arrivals,
            refusals: Arc::new(Semaphore::new(REFUSALS)),
            draining: draining.clone(),
            tasks: self.connections.clone(),
        })
    }

    /// Starts the tasks that run for as long as the relay. If one ends, the relay has failed; dropping the set ends
    /// them.
    fn start(&self, inbox: Option<Inbox>) -> JoinSet<()> {
        let (rooms, app) = (&self.rooms, &self.app);
        let committer = Committer::new(self.queue.clone(), rooms.clone(), self.origin.clone());
        let recheck = Recheck {
            settings: self.settings.clone(),
            metrics: self.metrics.clone(),
            app: app.clone(),
            rooms: rooms.clone(),
            signal: self.recheck.clone(),
        };
        let mut parts = JoinSet::new();
        parts.spawn(committer.run());
        parts.spawn(recheck.run());
        parts.spawn(chores::compare_heads(rooms.clone()));
        parts.spawn(chores::look_at_line(app.clone()));
        parts.spawn(chores::count_peers(rooms.clone()));
        parts.spawn(compare::run(
            app.clone(),
            rooms.pubsub.clone(),
            self.waiters.clone(),
        ));
        match self.settings.requests_a_month {
            None => {
                parts.spawn(chores::sweep(app.clone(), self.settings.sweep_interval));
                if self.settings.tick {
                    parts.spawn(chores::tick(app.clone()));
                }
            }
            // A tick has rooms compacted, too.
            Some(most) => {
                parts.spawn(chores::tick_thriftily(
                    app.clone(),
                    self.metrics.clone(),
                    most,
                ));
            }
        }
        if let Some(inbox) = inbox {
            parts.spawn(Subscriber::run(rooms.clone(), self.waiters.clone(), inbox));
        }
        parts
    }

    /// Stores what was taken, and closes all connections.
    async fn drain(&self) {
        let connections = self.metrics.connections.get();
        tracing::info!(connections, "the relay drains");
        self.draining.cancel();
        let settled = timeout(self.settings.drain_timeout, self.queue.settle());
        if settled.await.is_err() {
            let updates = self.metrics.pending_updates.get();
            tracing::warn!(updates, "updates were not stored before the drain ended");
        }
        self.rooms.close_all(Close::DRAIN);
        self.connections.close();
        let closed = timeout(self.settings.longest_close(), self.connections.wait());
        if closed.await.is_err() {
            tracing::warn!("connections that did not close in time were dropped");
        }
    }
}
