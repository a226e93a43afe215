//! Errors: the task is tried again, or it ends.

use std::time::Duration;

use rand::Rng;

use super::Engine;
use crate::{
    error::TaskError,
    executor::Failure,
    rows::{self, End, FIRST_WAIT, LONGEST_WAIT},
    task::Task,
};

/// For this many seconds after its acceptance a job is polled if every poll fails. Then the service has no result
/// any more: Kling deletes results after 30 days, and others sooner.
const RESULTS_KEPT: i64 = 30 * 24 * 3600;

impl Engine<'_> {
    /// Notes the failure of a claimed task: it is due again after a wait, or it ends.
    pub(super) async fn fail(&self, task: &Task, failure: Failure) -> Result<(), TaskError> {
        let now = self.ports.clock.unix_seconds();
        let is_accepted = task.external_task_id.is_some();
        let is_retried = match &failure {
            Failure::Permanent(_) => false,
            // The job goes on, and is paid for, whatever keeps its result from arriving here.
            _ if is_accepted => now - task.accepted_at.unwrap_or(task.created_at) < RESULTS_KEPT,
            Failure::Access(_) => false,
            Failure::Retry { .. } => task.retry_count < task.max_retries,
        };
        let (reason, after) = match failure {
            Failure::Permanent(reason) | Failure::Access(reason) => (reason, None),
            Failure::Retry { reason, after } => (reason, after),
        };
        if !is_retried {
            return self.end(task, None, End::Failed { error: &reason }).await;
        }
        let wait = wait_after(task.retry_count, after);
        rows::put_off(self.ports.database, task, &reason, now, wait).await?;
        Ok(())
    }
}

/// The wait after the n-th error, in seconds: twice as long each time, and between half of that and all of it,
/// so that tasks which failed together do not come back together.
fn wait_after(retry_count: i64, asked: Option<Duration>) -> i64 {
    let longest = (FIRST_WAIT << retry_count.clamp(0, 16)).min(LONGEST_WAIT);
    let wait = rand::rng().random_range(longest / 2..=longest);
    let asked = asked.map_or(0, |asked| asked.as_secs() as i64);
    wait.max(asked.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_and_is_bounded_and_heeds_the_service() {
        for (retries, longest) in [(0, 2), (1, 4), (5, 64), (8, 300), (1000, 300)] {
            let wait = wait_after(retries, None);
            assert!((longest / 2..=longest).contains(&wait), "{retries}: {wait}");
        }
        assert_eq!(wait_after(0, Some(Duration::from_secs(17))), 17);
        assert_eq!(wait_after(0, Some(Duration::from_secs(100_000))), 300);
    }
}
