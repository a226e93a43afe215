//! The polls that are due.

use futures_util::{StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use serde_json::Value;

use super::{Engine, lease::lease};
use crate::{executor::Executor, rows, task::Task};

/// The most polls of one service that one instance has under way at once.
const POLLS_AT_ONCE: usize = 32;

/// Tasks are claimed when this many polls can begin, so that not each task takes a statement.
const CLAIM_FROM: usize = POLLS_AT_ONCE / 4;

/// The most bytes of parameters that are read to find out whether a task may share a question. A task has no more,
/// because its pictures are kept apart; one of an earlier release may.
const MOST_PARAMS: u64 = 64 * 1024;

/// The polls of one service in one round of the poller.
struct Round<'r> {
    executor: &'r dyn Executor,
    begun: i64,
    /// The polls that are under way.
    at_work: FuturesUnordered<LocalBoxFuture<'r, ()>>,
    /// The claimed tasks that wait for others to share their question.
    together: Vec<Task>,
    /// Says whether no task is due any more.
    is_empty: bool,
}

impl Engine<'_> {
    /// Polls the due jobs of one service. A claimed task is polled at once, because its claim is running out; those
    /// that may share a question wait only until the others that are due have been claimed.
    pub(super) async fn poll_due(&self, executor: &dyn Executor, begun: i64) {
        let mut round = Round {
            executor,
            begun,
            at_work: FuturesUnordered::new(),
            together: Vec::new(),
            is_empty: false,
        };
        loop {
            if self.may_claim(&round) {
                self.claim(&mut round).await;
            }
            let may_claim = self.may_claim(&round);
            let most = executor.most_together().max(1);
            while round.together.len() >= most || !(may_claim || round.together.is_empty()) {
                let few = round.together.len().min(most);
                let asked: Vec<Task> = round.together.drain(..few).collect();
                round
                    .at_work
                    .push(Box::pin(self.work_together(executor, asked, begun)));
            }
            if round.together.is_empty() && round.at_work.next().await.is_none() {
                return;
            }
        }
    }

    /// Returns whether more tasks are to be claimed now.
    fn may_claim(&self, round: &Round<'_>) -> bool {
        let room = POLLS_AT_ONCE.saturating_sub(round.at_work.len());
        room >= CLAIM_FROM && !round.is_empty && self.is_time_left(round.begun)
    }

    /// Claims due tasks, and begins the polls of those that are asked about alone.
    async fn claim<'r>(&'r self, round: &mut Round<'r>) {
        let executor = round.executor;
        let service = executor.service();
        let now = self.ports.clock.unix_seconds();
        let room = POLLS_AT_ONCE - round.at_work.len();
        let claimed = rows::claim_polls(
            self.ports.database,
            service,
            now,
            lease(executor, self.ports.config),
            room,
        )
        .await;
        let due = claimed.unwrap_or_else(|error| {
            tracing::error!(service, %error, "the due polls could not be claimed");
            Vec::new()
        });
        round.is_empty = due.len() < room;
        let (together, alone) = self.sorted(executor, due).await;
        round.together.extend(together);
        for task in alone {
            round
                .at_work
                .push(Box::pin(self.work(executor, task, false)));
        }
    }

    /// Separates the tasks that may share a question from the others.
    async fn sorted(&self, executor: &dyn Executor, due: Vec<Task>) -> (Vec<Task>, Vec<Task>) {
        if executor.most_together() < 2 || due.is_empty() {
            return (Vec::new(), due);
        }
        let params = rows::params_of(self.ports.database, &due, MOST_PARAMS).await;
        let params = params.unwrap_or_else(|error| {
            tracing::error!(service = executor.service(), %error, "the parameters could not be read");
            Default::default()
        });
        due.into_iter().partition(|task| {
            let params = params.get(&task.task_id);
            let params = params.and_then(|text| serde_json::from_str::<Value>(text).ok());
            params.is_some_and(|params| executor.is_polled_together(&params))
        })
    }
}
