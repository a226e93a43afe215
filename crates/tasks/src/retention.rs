//! The time for which tasks, assets and updates in quarantine are kept. By default they are kept for good.

use platform::{Config, Database, DatabaseError, Setting};

/// The most days that an operator may set: a hundred years.
const MOST_DAYS: u32 = 36_500;

/// The seconds of a day.
pub(crate) const DAY: i64 = 24 * 3600;

/// The most tasks that one call deletes.
const TASKS_AT_ONCE: u64 = 64;

platform::settings! {
    /// The days after which a task that has ended is deleted. If it is not set, tasks are kept
    KEEP_TASKS_DAYS = "keep_tasks_days", Unset, Number(MOST_DAYS);
    /// The days after which a result or an upload is deleted if no task and no document needs it. If it is not set, they
    /// are kept
    KEEP_ASSETS_DAYS = "keep_assets_days", Unset, Number(MOST_DAYS);
    /// The days after which an update in quarantine is deleted. If it is not set, these updates are kept
    KEEP_QUARANTINE_DAYS = "keep_quarantine_days", Unset, Number(MOST_DAYS);
}

/// The seconds for which each kind of data is kept; `None` for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The seconds for a task, after its end.
    pub tasks: Option<i64>,
    /// The seconds for an asset that no task and no document needs.
    pub assets: Option<i64>,
    /// The seconds for an update in quarantine.
    pub quarantine: Option<i64>,
}

impl Retention {
    /// Reads the settings. If one cannot be read, its data is kept for good.
    pub fn of(config: &dyn Config) -> Self {
        Self {
            tasks: seconds(config, KEEP_TASKS_DAYS),
            assets: seconds(config, KEEP_ASSETS_DAYS),
            quarantine: seconds(config, KEEP_QUARANTINE_DAYS),
        }
    }

    /// Deletes up to 64 tasks that ended long ago, and returns how many. A task stays while its document does not show
    /// its end, while its agent has not been notified, or while it is not known yet to which assets it refers. It
    /// stays, too, while an earlier task of its project is under way, because the task posted last for a node wins.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn drop_old_tasks(
        &self,
        database: &dyn Database,
        now: i64,
    ) -> Result<usize, DatabaseError> {
        let Some(kept_for) = self.tasks else {
            return Ok(0);
        };
        let sql = "DELETE FROM aigc_tasks WHERE task_id IN (
             SELECT task_id FROM aigc_tasks INDEXED BY aigc_tasks_by_end
              WHERE completed_at IS NOT NULL AND completed_at <= ?1
                AND status IN ('completed', 'failed', 'cancelled')
                AND projected_status IS NOT NULL AND notify_at IS NULL
                AND NOT EXISTS (SELECT 1 FROM assets
                     WHERE assets.task_id = aigc_tasks.task_id AND settle_at IS NOT NULL)
                AND NOT EXISTS (SELECT 1 FROM aigc_tasks earlier
                     WHERE earlier.project_id = aigc_tasks.project_id AND earlier.seq < aigc_tasks.seq
                       AND earlier.status IN ('pending', 'processing'))
              ORDER BY completed_at LIMIT ?2)
             RETURNING 1";
        let parameters = vec![(now - kept_for).into(), TASKS_AT_ONCE.into()];
        Ok(database.execute(sql, parameters).await?.len())
    }
}

fn seconds(config: &dyn Config, setting: Setting) -> Option<i64> {
    let text = config.get(setting).filter(|text| !text.is_empty())?;
    match text.trim().parse() {
        Ok(days @ 1..=MOST_DAYS) => Some(i64::from(days) * DAY),
        _ => {
            tracing::error!(%setting, most = MOST_DAYS, "a setting is not a number of days, so nothing is deleted");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use platform::native::MapConfig;

    use super::*;

    #[test]
    fn what_is_not_set_or_cannot_be_read_is_kept_for_good() {
        for (given, expected) in [
            ("", None),
            ("0", None),
            ("-1", None),
            ("36501", None),
            ("a week", None),
            ("1", Some(DAY)),
            ("36500", Some(36_500 * DAY)),
        ] {
            let config = MapConfig::from_pairs(&[("keep_tasks_days", given)]);
            let retention = Retention::of(&config);
            assert_eq!(retention.tasks, expected, "{given:?}");
            assert_eq!((retention.assets, retention.quarantine), (None, None));
        }
    }
}
