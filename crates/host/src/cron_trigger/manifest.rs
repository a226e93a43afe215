//! The part of the manifest: the schedule of a component.

use std::str::FromStr;

use cron::Schedule;
use serde::Deserialize;

use crate::manifest::typed::{one_line, typed};

/// A cron trigger.
#[derive(Debug, Clone)]
pub(crate) struct CronTrigger {
    /// The component's id.
    pub(crate) component: String,
    /// The times at which it is called, in UTC.
    pub(crate) schedule: Schedule,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    cron_expression: String,
}

impl CronTrigger {
    /// Checks the trigger under `key`.
    pub(crate) fn parse(key: &str, component: String, table: toml::Table) -> Result<Self, String> {
        let config: Config = typed(key, table)?;
        let schedule = schedule(&config.cron_expression)
            .map_err(|error| format!("{key}.cron_expression: {error}"))?;
        Ok(Self {
            component,
            schedule,
        })
    }
}

/// Parses a cron expression of six fields with seconds first, or of seven with the year last.
fn schedule(expression: &str) -> Result<Schedule, String> {
    if !matches!(expression.split_whitespace().count(), 6 | 7) {
        return Err(format!(
            "{expression:?} must have 6 fields: second minute hour day month weekday"
        ));
    }
    Schedule::from_str(expression)
        .map_err(|error| format!("{expression:?}: {}", one_line(&error.to_string())))
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;

    #[test]
    fn expressions_have_seconds() {
        for good in [
            "0/10 * * * * *",
            "* * * * * *",
            "0 0 12 * * Mon-Fri",
            "0 0 0 1 1 * 2030",
        ] {
            assert!(schedule(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "* * *",
            "*/5 * * * *",
            "61 * * * * *",
            "a b c d e f",
            "* * * * * * * *",
        ] {
            assert!(schedule(bad).is_err(), "{bad}");
        }
        let schedule = schedule("0/10 * * * * *").unwrap();
        let mut times = schedule.upcoming(Utc).map(|time| time.timestamp()).take(3);
        let first = times.next().unwrap();
        assert_eq!(first % 10, 0);
        assert_eq!(times.next(), Some(first + 10));
    }
}
