//! The time for which a task is claimed.

use std::time::Duration;

use crate::executor::Executor;

/// How much longer a task is claimed than the work on it may take.
pub(super) const MARGIN: Duration = Duration::from_secs(5);

/// The time for which a task is claimed for its submission, in seconds.
pub(super) fn lease(executor: &dyn Executor) -> i64 {
    (executor.patience() + MARGIN).as_secs() as i64
}
