//! What is known of the places at a service that has refused a task: the account may have fewer than the setting says.
//!
//! A refusal tells how many tasks the service takes at once: as many as were under way without the refused one. So many
//! are claimed from then on without a pause, so that a place which becomes free is filled at once. One more is a try: there
//! is one at a time, after a pause which grows while tries are refused, and at once after one that was taken.
//!
//! A try costs what its task takes to send, which may be pictures of some megabytes that are read anew from the asset
//! store. It needs no cheaper way, because however many tasks wait, there is one try for each pause and each end of a job,
//! and not one for each task.

use platform::{Database, DatabaseError};

use super::{
    claims::{LONGEST_WAIT, Rule, places_held},
    row::OPEN,
};
use crate::task::Task;

/// A refusal of a service, and what follows from it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal {
    /// The seconds until the next try for one more place.
    pub(crate) pause: i64,
    /// The seconds for which the service asked not to be called.
    pub(crate) quiet: i64,
}

/// The number of tries for one more place that a service has refused in a row.
pub(crate) async fn refusals(database: &dyn Database, service: &str) -> Result<i64, DatabaseError> {
    let sql = "SELECT refusals FROM aigc_places WHERE service = ?1";
    let rows = database.execute(sql, vec![service.into()]).await?;
    rows.first().map_or(Ok(0), |row| row.integer(0))
}

/// Notes that a service has refused a claimed task, unless the claim no longer holds. The tasks that were submitted
/// together and are refused together count as one refusal; only tries for one more place follow each other.
pub(crate) async fn refused(
    database: &dyn Database,
    rule: Rule<'_>,
    claimed: &Task,
    refusal: Refusal,
    now: i64,
) -> Result<(), DatabaseError> {
    let sql = format!(
        "WITH held (task_id, project_id, is_probe) AS ({held})
         INSERT INTO aigc_places (service, places, refusals, probe_at, quiet_until)
         SELECT ?3, (SELECT count(*) FROM held WHERE task_id <> ?4), 1, ?1 + ?7, ?1 + ?8
          WHERE EXISTS (SELECT 1 FROM aigc_tasks WHERE task_id = ?4 AND run = ?5 AND lease_until = ?6 AND {OPEN})
             ON CONFLICT (service) DO UPDATE SET
                places = excluded.places,
                refusals = CASE WHEN ?9 THEN refusals + 1 ELSE 1 END,
                probe_at = excluded.probe_at,
                quiet_until = max(excluded.quiet_until,
                                  CASE WHEN quiet_until <= ?1 + 2 * {LONGEST_WAIT} THEN quiet_until ELSE 0 END)",
        held = places_held(),
    );
    let parameters = vec![
        now.into(),
        rule.lease.into(),
        rule.service.into(),
        claimed.task_id.as_str().into(),
        claimed.run.into(),
        claimed.lease_until.into(),
        refusal.pause.into(),
        refusal.quiet.into(),
        i64::from(claimed.is_probe).into(),
    ];
    database.execute(&sql, parameters).await?;
    Ok(())
}

/// Notes that a service has taken a task beyond the places that were known: it has one more, and the next try may follow
/// at once.
pub(crate) async fn has_taken(
    database: &dyn Database,
    service: &str,
    now: i64,
) -> Result<(), DatabaseError> {
    let sql = "UPDATE aigc_places SET places = places + 1, refusals = 0, probe_at = ?2 WHERE service = ?1";
    let parameters = vec![service.into(), now.into()];
    database.execute(sql, parameters).await?;
    Ok(())
}
