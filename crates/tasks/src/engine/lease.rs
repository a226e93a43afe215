//! The time for which a task is claimed, and the rule for claims.

use std::time::Duration;

use super::Engine;
use crate::{executor::Executor, rows::Rule};

/// How much longer a task is claimed than the work on it may take.
const MARGIN: Duration = Duration::from_secs(5);

/// The time for which a task is claimed for its submission, in seconds.
pub(super) fn lease(executor: &dyn Executor) -> i64 {
    (executor.patience() + MARGIN).as_secs() as i64
}

impl Engine<'_> {
    /// The rule for claims of tasks of a service. One project has at most half of the places, rounded up, so that
    /// another need not wait until its jobs have ended.
    pub(super) fn rule<'b>(&self, executor: &'b dyn Executor) -> Rule<'b> {
        let places = executor.places(self.ports.config);
        Rule {
            service: executor.service(),
            lease: lease(executor),
            places: places.into(),
            project_places: places.div_ceil(2).into(),
        }
    }
}
