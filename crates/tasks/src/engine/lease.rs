//! The time for which a task is claimed, and the rule for claims.

use std::time::Duration;

use platform::{Config, config::max_call};

use super::Engine;
use crate::{executor::Executor, rows::Rule};

/// The time for which a task is claimed beyond the time that the work on it may take.
const MARGIN: Duration = Duration::from_secs(5);

/// The longest that one submission may take: the time that the service needs, or less if the host ends a request
/// earlier.
pub(super) fn patience(executor: &dyn Executor, config: &dyn Config) -> Duration {
    executor.patience().min(max_call(config))
}

/// The time for which a task is claimed for its submission, in seconds.
pub(super) fn lease(executor: &dyn Executor, config: &dyn Config) -> i64 {
    (patience(executor, config) + MARGIN).as_secs() as i64
}

impl Engine<'_> {
    /// The rule for claims of tasks of a service. One project has at most half of the places, rounded up, so that
    /// another project need not wait until the jobs of the first have ended.
    pub(super) fn rule<'b>(&self, executor: &'b dyn Executor) -> Rule<'b> {
        let places = executor.places(self.ports.config);
        Rule {
            service: executor.service(),
            lease: lease(executor, self.ports.config),
            places: places.into(),
            project_places: places.div_ceil(2).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executors::Registry;
    use platform::native::MapConfig;

    #[test]
    fn a_submission_ends_before_the_host_ends_the_request() {
        for (seconds, image, film, fal) in
            [("300", 135, 25, 30), ("30", 27, 25, 27), ("20", 17, 17, 17)]
        {
            let config = MapConfig::from_pairs(&[("max_handler_seconds", seconds)]);
            let registry = Registry::standard(&config);
            for (task_type, expected) in [
                ("nano_banana", image),
                ("kling_video", film),
                ("fal:a/b", fal),
            ] {
                let executor = registry.for_type(task_type).unwrap();
                let longest = patience(executor, &config).as_secs();
                assert_eq!(longest, expected, "{task_type} within {seconds}");
                assert_eq!(lease(executor, &config), expected as i64 + 5);
            }
        }
    }
}
