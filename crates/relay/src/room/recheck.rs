//! The repeated check whether sockets may stay in their rooms.

use crate::app::client::App;
use crate::metrics::Metrics;
use crate::room::grant::CHECK_PAUSE;
use crate::room::rooms::Rooms;
use crate::settings::Settings;
use crate::socket::socket::Socket;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// The number of requests about sockets that are under way at once.
const AT_ONCE: usize = 4;

/// Wakes the task that checks sockets again.
#[derive(Default)]
pub(crate) struct RecheckSignal {
    wake: Notify,
    /// The moment before which every verdict is in doubt.
    doubted: Mutex<Option<Instant>>,
}

impl RecheckSignal {
    /// Wakes the task because the access to one project has changed.
    pub(crate) fn send(&self) {
        self.wake.notify_one();
    }

    /// Wakes the task because any client may have lost access to any project.
    pub(crate) fn send_for_all(&self) {
        *self.doubted.lock() = Some(Instant::now());
        self.wake.notify_one();
    }

    /// Resolves after a signal was sent.
    async fn received(&self) {
        self.wake.notified().await;
    }

    /// The moment before which every verdict is in doubt.
    fn doubted(&self) -> Option<Instant> {
        *self.doubted.lock()
    }
}

/// The task that checks sockets again.
pub(crate) struct Recheck {
    pub(crate) settings: Arc<Settings>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) app: Arc<App>,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) signal: Arc<RecheckSignal>,
}

impl Recheck {
    /// Checks sockets that are due, for as long as the relay runs.
    pub(crate) async fn run(self) {
        let mut ticks = interval(CHECK_PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.signal.received() => {}
            }
            let due = self.due();
            stream::iter(due.chunks(wire::MAX_ACCESS_CHECKS))
                .for_each_concurrent(AT_ONCE, |sockets| self.judge(sockets))
                .await;
        }
    }

    /// The sockets that are due. Those whose project has changed come first.
    fn due(&self) -> Vec<Arc<Socket>> {
        let doubted = self.signal.doubted();
        let mut due: Vec<(bool, Arc<Socket>)> = Vec::new();
        for room in self.rooms.all() {
            let access_rev = room.access_rev();
            for socket in room.sockets() {
                let grant = &socket.grant;
                if grant.is_due(access_rev, self.settings.recheck_interval, doubted) {
                    due.push((grant.access_rev() >= access_rev, socket));
                }
            }
        }
        due.sort_by_key(|(is_unchanged, _)| *is_unchanged);
        due.into_iter().map(|(_, socket)| socket).collect()
    }

    async fn judge(&self, sockets: &[Arc<Socket>]) {
        let checks = sockets.iter().map(|socket| socket.grant.check().clone());
        let mut verdicts = match self.app.access(checks.collect()).await {
            Ok(verdicts) => verdicts.into_iter(),
            Err(error) => {
                tracing::warn!(%error, "the access of sockets could not be checked");
                Vec::new().into_iter()
            }
        };
        for socket in sockets {
            let patience = self.settings.recheck_patience;
            if let Some(close) = socket.grant.judged(verdicts.next(), patience) {
                self.metrics.closed_access_total.add(1);
                socket.close(close);
            }
        }
    }
}
