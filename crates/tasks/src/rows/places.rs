//! The known places at a service that has refused a task, because the account may have fewer than the setting says.
//!
//! A refusal shows how many tasks the service takes at once: as many as were under way without the refused one. From
//! then on that many are claimed without a pause, so that a place which becomes free is filled at once. One more is a
//! try: there is one at a time, after a pause which grows while tries are refused, and at once after one that was
//! taken.
//!
//! "Too often" says nothing about places: such a task has a pause of its own, and others go on. After [`DOUBTS`] such
//! answers in a row, with no task taken between them, the service gets one task at a time, each after a pause that
//! grows, until it takes one, because otherwise each of a thousand tasks would try for itself.
//!
//! A try costs as much as sending its task, which may have pictures of some megabytes that are read anew from the asset
//! store. That need not be cheaper, because however many tasks wait, there is one try for each pause and each end of a
//! job, and not one for each task.

use platform::{Database, DatabaseError};

use super::{
    claims::{HELD, LONGEST_WAIT, Rule, jittered, places_held},
    row::OPEN,
};
use crate::task::Task;

/// The longest pause after a first refusal, in seconds; the shortest is half of it.
pub(crate) const FIRST_PAUSE: i64 = 10;

/// The number of times in a row that a service may say "too often" before it is left alone.
pub(super) const DOUBTS: i64 = 3;

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

/// The condition that the claim of a task `?4` still holds.
fn is_held() -> String {
    format!(
        "EXISTS (SELECT 1 FROM aigc_tasks WHERE task_id = ?4 AND run = ?5 AND lease_until = ?6 AND {OPEN})"
    )
}

/// The later of the known and the new end of the quiet that a service has asked for. A known end that is further ahead
/// than any pause does not count, because it was set by a clock that has been set back since.
fn later_quiet() -> String {
    format!(
        "max(excluded.quiet_until, CASE WHEN quiet_until <= ?1 + 2 * {LONGEST_WAIT} THEN quiet_until ELSE 0 END)"
    )
}

/// Notes that a service has said about a claimed task that it is asked too often, unless the claim no longer holds. `quiet`
/// is the number of seconds for which the service asked not to be called. Once the service is left alone, only the tasks
/// that were submitted afterwards count, because the others were sent before this was known.
pub(crate) async fn asked_too_often(
    database: &dyn Database,
    rule: Rule<'_>,
    claimed: &Task,
    quiet: i64,
    now: i64,
) -> Result<(), DatabaseError> {
    let pause = format!("min({LONGEST_WAIT}, {FIRST_PAUSE} << min(doubts + 1 - {DOUBTS}, 8))");
    let sql = format!(
        "INSERT INTO aigc_places (service, places, refusals, probe_at, quiet_until, doubts)
         SELECT ?3, ?2, 0, ?1, ?1 + ?7, 1 WHERE {held}
             ON CONFLICT (service) DO UPDATE SET
                doubts = doubts + {counts},
                quiet_until = max({quiet}, CASE WHEN {counts} AND doubts + 1 >= {DOUBTS} THEN ?1 + {pause} ELSE 0 END)",
        held = is_held(),
        quiet = later_quiet(),
        counts = format!("(doubts < {DOUBTS} OR quiet_until <= ?9)"),
        pause = jittered(&pause, "?8"),
    );
    let parameters = vec![
        now.into(),
        rule.places.into(),
        rule.service.into(),
        claimed.task_id.as_str().into(),
        claimed.run.into(),
        claimed.lease_until.into(),
        quiet.into(),
        claimed.seq.wrapping_mul(7919).rem_euclid(104_729).into(),
        (claimed.lease_until.unwrap_or(now) - rule.lease).into(),
    ];
    database.execute(&sql, parameters).await?;
    Ok(())
}

/// Notes that a service has refused a claimed task, unless the claim no longer holds. The tasks that were submitted
/// together and are refused together count as one refusal; only refused tries for one more place add up.
pub(crate) async fn refused(
    database: &dyn Database,
    rule: Rule<'_>,
    claimed: &Task,
    refusal: Refusal,
    now: i64,
) -> Result<(), DatabaseError> {
    let sql = format!(
        "WITH {HELD} AS ({held})
         INSERT INTO aigc_places (service, places, refusals, probe_at, quiet_until)
         SELECT ?3, (SELECT count(*) FROM held WHERE task_id <> ?4), 1, ?1 + ?7, ?1 + ?8
          WHERE {is_held}
             ON CONFLICT (service) DO UPDATE SET
                places = excluded.places,
                refusals = CASE WHEN ?9 THEN refusals + 1 ELSE 1 END,
                probe_at = excluded.probe_at,
                quiet_until = {quiet}",
        held = places_held(),
        is_held = is_held(),
        quiet = later_quiet(),
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

/// Notes that a service has taken a task, so that it is no longer doubted. If the task was a try for one more place than
/// was known, the service has that one, and the next try may follow at once.
pub(crate) async fn has_taken(
    database: &dyn Database,
    service: &str,
    is_probe: bool,
    now: i64,
) -> Result<(), DatabaseError> {
    let sql = "UPDATE aigc_places SET doubts = 0, places = places + ?3,
             refusals = CASE WHEN ?3 THEN 0 ELSE refusals END,
             probe_at = CASE WHEN ?3 THEN ?2 ELSE probe_at END
          WHERE service = ?1 AND (?3 OR doubts > 0)";
    let parameters = vec![service.into(), now.into(), i64::from(is_probe).into()];
    database.execute(sql, parameters).await?;
    Ok(())
}
