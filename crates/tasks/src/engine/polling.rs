//! The polls that are due.

use futures_util::{StreamExt, stream::FuturesUnordered};

use super::{Engine, lease::lease};
use crate::{executor::Executor, rows};

/// The most polls of one service that one instance has under way at once.
const POLLS_AT_ONCE: usize = 32;

/// Tasks are claimed when this many polls can begin, so that not each task takes a statement.
const CLAIM_FROM: usize = POLLS_AT_ONCE / 4;

impl Engine<'_> {
    /// Polls the due jobs of one service. A claimed task is polled at once, because its claim runs.
    pub(super) async fn poll_due(&self, executor: &dyn Executor, begun: i64) {
        let service = executor.service();
        let mut at_work = FuturesUnordered::new();
        let mut is_empty = false;
        loop {
            let now = self.ports.clock.unix_seconds();
            let room = POLLS_AT_ONCE - at_work.len();
            if room >= CLAIM_FROM && !is_empty && self.is_time_left(begun) {
                let claimed =
                    rows::claim_polls(self.ports.database, service, now, lease(executor), room)
                        .await;
                let due = claimed.unwrap_or_else(|error| {
                    tracing::error!(service, %error, "the due polls could not be claimed");
                    Vec::new()
                });
                is_empty = due.len() < room;
                at_work.extend(due.into_iter().map(|task| self.work(executor, task, false)));
            }
            if at_work.next().await.is_none() {
                return;
            }
        }
    }
}
