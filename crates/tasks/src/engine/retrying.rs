//! The errors of tasks, and services without a place: the task is tried again, or it ends.

use std::time::Duration;

use super::{Engine, submitting::waits_for_place};
use crate::{
    error::TaskError,
    executor::{Executor, Failure},
    rows::{self, End, FIRST_PAUSE, FIRST_WAIT, LONGEST_WAIT, Refusal},
    task::Task,
};

/// The seconds after its acceptance for which a job is polled although every poll fails. After that the service has no
/// result any more: Kling deletes results after 30 days, and others sooner.
const RESULTS_KEPT: i64 = 30 * 24 * 3600;

/// The most tries in a row of one task for a place: about a day of the longest pauses.
const MOST_WAITS: i64 = 400;

impl Engine<'_> {
    /// Notes the failure of a claimed task: it is due again after a wait, or it ends.
    pub(super) async fn fail(
        &self,
        executor: &dyn Executor,
        task: &Task,
        failure: Failure,
    ) -> Result<(), TaskError> {
        let now = self.ports.clock.unix_seconds();
        let is_accepted = task.external_task_id.is_some();
        if !is_accepted && task.waits < MOST_WAITS {
            match failure {
                Failure::NoPlace { after, .. } => {
                    self.pause(executor, task, after).await?;
                    return self.put_back(executor, task, 0).await;
                }
                Failure::TooOften { after, .. } => {
                    let (database, rule) = (self.ports.database, self.rule(executor));
                    rows::asked_too_often(database, rule, task, asked(after), now).await?;
                    let wait = wait(FIRST_PAUSE, task.waits, task, after);
                    return self.put_back(executor, task, wait).await;
                }
                _ => {}
            }
        }
        let is_retried = match &failure {
            Failure::Permanent(_) => false,
            // The job goes on, and is paid for, whatever keeps its result from arriving here.
            _ if is_accepted => now - task.accepted_at.unwrap_or(task.created_at) < RESULTS_KEPT,
            Failure::Access(_) | Failure::NoPlace { .. } | Failure::TooOften { .. } => false,
            Failure::Retry { .. } => task.retry_count < task.max_retries,
        };
        let times = task.retry_count;
        let (reason, wait) = match failure {
            Failure::Permanent(reason) | Failure::Access(reason) => {
                (reason, wait(FIRST_WAIT, times, task, None))
            }
            Failure::Retry { reason, after } => (reason, wait(FIRST_WAIT, times, task, after)),
            Failure::NoPlace { reason, after } | Failure::TooOften { reason, after } => {
                (reason, wait(FIRST_PAUSE, times, task, after))
            }
        };
        if !is_retried {
            return self.end(task, None, End::Failed { error: &reason }).await;
        }
        rows::put_off(self.ports.database, task, &reason, now, wait).await?;
        Ok(())
    }

    /// Notes that a service has no place for a claimed task. This comes before the task is put back, because otherwise
    /// another task could be submitted in between, and the service would refuse it as well.
    async fn pause(
        &self,
        executor: &dyn Executor,
        task: &Task,
        after: Option<Duration>,
    ) -> Result<(), TaskError> {
        let (database, now) = (self.ports.database, self.ports.clock.unix_seconds());
        let rule = self.rule(executor);
        let before = if task.is_probe {
            rows::refusals(database, rule.service).await?
        } else {
            0
        };
        let refusal = Refusal {
            pause: wait(FIRST_PAUSE, before, task, after),
            quiet: asked(after),
        };
        rows::refused(database, rule, task, refusal, now).await?;
        Ok(())
    }

    /// Puts a claimed task back. It is due again in `wait` seconds.
    async fn put_back(
        &self,
        executor: &dyn Executor,
        task: &Task,
        wait: i64,
    ) -> Result<(), TaskError> {
        let (database, now) = (self.ports.database, self.ports.clock.unix_seconds());
        let message = waits_for_place(executor);
        if let Some(task) = rows::put_back(database, task, &message, now, wait).await? {
            self.publish(&task).await;
        }
        Ok(())
    }
}

/// The wait after the n-th error or try for a place, in seconds. Its upper bound doubles each time, up to five minutes,
/// and its lower bound is half of that. The task decides the point between the bounds, so that tasks which failed
/// together do not come back together; it is not random, so that a test can be repeated. The wait is never shorter than
/// the service asks for, up to five minutes.
fn wait(first: i64, times: i64, task: &Task, after: Option<Duration>) -> i64 {
    let longest = (first << times.clamp(0, 16)).min(LONGEST_WAIT);
    let spread = task
        .seq
        .wrapping_mul(7919)
        .wrapping_add(times.wrapping_mul(104_729));
    let wait = longest / 2 + spread.rem_euclid(longest / 2 + 1);
    wait.max(asked(after))
}

/// The wait that a service asks for, in seconds, and at most five minutes.
fn asked(after: Option<Duration>) -> i64 {
    let seconds = after.map_or(0, |after| after.as_secs());
    i64::try_from(seconds).unwrap_or(i64::MAX).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn task(seq: i64) -> Task {
        Task {
            seq,
            ..Task::new(0)
        }
    }

    #[test]
    fn the_wait_doubles_and_is_bounded_and_heeds_the_service() {
        for (first, times, longest) in [
            (FIRST_WAIT, 0, 2),
            (FIRST_WAIT, 1, 4),
            (FIRST_WAIT, 5, 64),
            (FIRST_WAIT, 8, 300),
            (FIRST_WAIT, 1000, 300),
            (FIRST_PAUSE, 0, 10),
            (FIRST_PAUSE, 1, 20),
            (FIRST_PAUSE, 4, 160),
            (FIRST_PAUSE, 5, 300),
        ] {
            let waits: HashSet<i64> = (0..100)
                .map(|seq| wait(first, times, &task(seq), None))
                .collect();
            let range = longest / 2..=longest;
            assert!(
                waits.iter().all(|wait| range.contains(wait)),
                "{times}: {waits:?}"
            );
            assert!(waits.len() > 1, "{times}: {waits:?}");
        }
        for (seconds, heeded) in [(17, 17), (u64::MAX, 300)] {
            let asked = Some(Duration::from_secs(seconds));
            assert_eq!(wait(FIRST_WAIT, 0, &task(1), asked), heeded);
        }
    }
}
