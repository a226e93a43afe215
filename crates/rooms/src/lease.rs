//! The leases by which one instance at a time works on a room, and failed work is tried again ever more rarely.

use platform::{Clock, Database, DatabaseError};

/// The work that one instance at a time does on a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Compacts the log.
    Compact,
    /// Computes a state that is not cheap.
    Merge,
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::Compact => "compact",
            Self::Merge => "merge",
        }
    }

    /// Returns the seconds that a lease holds: longer than the work takes on a busy machine. If the lease ends before
    /// the work does, two instances do the same work at once, which is harmless.
    fn seconds(self) -> i64 {
        match self {
            Self::Compact => 120,
            Self::Merge => 600,
        }
    }
}

/// The wait after a first failure, in seconds. It doubles with each further one.
const FIRST_WAIT: i64 = 10;

/// The longest wait, in seconds.
const LONGEST_WAIT: i64 = 3600;

/// The lease of one instance on a room.
#[derive(Debug)]
pub(crate) struct Lease {
    project: String,
    work: Work,
    holder: String,
    /// The tries since the last success, with this one.
    tries: u64,
}

/// Returns the wait after `failures` failures, as an SQL expression.
fn wait_sql(failures: &str) -> String {
    format!("min({LONGEST_WAIT}, {FIRST_WAIT} << min({failures} - 1, 9))")
}

impl Lease {
    /// Takes the lease; `None` if another instance holds it, or if the next try after a failure is not due yet. A
    /// lease that has expired counts as a failure.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn take(
        database: &dyn Database,
        clock: &dyn Clock,
        project: &str,
        work: Work,
        rev: u64,
    ) -> Result<Option<Self>, DatabaseError> {
        let mut lease = Self {
            project: project.to_owned(),
            work,
            holder: format!("{:016x}", rand::random::<u64>()),
            tries: 1,
        };
        let now = clock.unix_seconds();
        // Until it succeeds, the try counts as a failure, so nothing needs to be noted if its instance dies.
        let sql = format!(
            "INSERT INTO loro_leases AS l (project_id, work, holder, rev, until, failures, due_at)
             VALUES (?1, ?2, ?3, ?4, ?6, 1, ?6 + {FIRST_WAIT})
             ON CONFLICT (project_id, work) DO UPDATE SET
                 holder = excluded.holder, rev = excluded.rev, until = excluded.until,
                 failures = l.failures + 1, due_at = excluded.until + {}
             WHERE l.until <= ?5 AND l.due_at <= ?5
             RETURNING failures",
            wait_sql("(l.failures + 1)")
        );
        let parameters = vec![
            project.into(),
            work.name().into(),
            lease.holder.as_str().into(),
            rev.into(),
            now.into(),
            (now + work.seconds()).into(),
        ];
        let taken = database.execute(&sql, parameters).await?;
        let Some(row) = taken.first() else {
            return Ok(None);
        };
        lease.tries = row.unsigned(0)?;
        Ok(Some(lease))
    }

    /// The tries since the last success, with this one.
    pub(crate) fn tries(&self) -> u64 {
        self.tries
    }

    /// Ends the lease after a success.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn succeeded(self, database: &dyn Database) -> Result<(), DatabaseError> {
        self.end(database, "DELETE FROM loro_leases").await
    }

    /// Ends the lease after a failure. The next try waits.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn failed(
        self,
        database: &dyn Database,
        clock: &dyn Clock,
    ) -> Result<(), DatabaseError> {
        let (now, wait) = (clock.unix_seconds(), wait_sql("failures"));
        let set = format!("UPDATE loro_leases SET until = {now}, due_at = {now} + {wait}");
        self.end(database, &set).await
    }

    /// Gives the lease back, because there was no place to do the work.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn given_back(
        self,
        database: &dyn Database,
        clock: &dyn Clock,
    ) -> Result<(), DatabaseError> {
        let now = clock.unix_seconds();
        let set = format!(
            "UPDATE loro_leases SET until = {now}, due_at = {now}, failures = failures - 1"
        );
        self.end(database, &set).await
    }

    async fn end(self, database: &dyn Database, change: &str) -> Result<(), DatabaseError> {
        let sql = format!("{change} WHERE project_id = ?1 AND work = ?2 AND holder = ?3");
        let parameters = vec![
            self.project.into(),
            self.work.name().into(),
            self.holder.into(),
        ];
        database.execute(&sql, parameters).await.map(drop)
    }
}

/// Returns whether an instance does this work on the room just now.
///
/// # Errors
/// If the database fails.
pub(crate) async fn is_held(
    database: &dyn Database,
    clock: &dyn Clock,
    project: &str,
    work: Work,
) -> Result<bool, DatabaseError> {
    holds(database, clock, project, work, "until > ?3").await
}

/// Returns whether this work on the room failed since it last succeeded. A try that is under way does not count.
///
/// # Errors
/// If the database fails.
pub(crate) async fn has_failed(
    database: &dyn Database,
    clock: &dyn Clock,
    project: &str,
    work: Work,
) -> Result<bool, DatabaseError> {
    holds(database, clock, project, work, "failures > (until > ?3)").await
}

/// Returns whether an SQL condition holds for the lease on this work; `?3` is the time.
async fn holds(
    database: &dyn Database,
    clock: &dyn Clock,
    project: &str,
    work: Work,
    condition: &str,
) -> Result<bool, DatabaseError> {
    let sql =
        format!("SELECT 1 FROM loro_leases WHERE project_id = ?1 AND work = ?2 AND {condition}");
    let parameters = vec![
        project.into(),
        work.name().into(),
        clock.unix_seconds().into(),
    ];
    Ok(!database.execute(&sql, parameters).await?.is_empty())
}

/// An SQL condition on a row `l` of the table, which may be missing: no try is under way, and the next one is
/// due. `now` is an SQL expression.
pub(crate) fn due_sql(now: &str) -> String {
    format!("(l.until IS NULL OR (l.until <= {now} AND l.due_at <= {now}))")
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::native::{SetClock, SqliteFile, block_on};

    struct World {
        database: SqliteFile,
        clock: SetClock,
    }

    impl World {
        fn new() -> Self {
            let clock = SetClock::default();
            clock.0.set(1000);
            Self {
                database: SqliteFile::with_schema(),
                clock,
            }
        }

        fn take(&self, work: Work) -> Option<Lease> {
            block_on(Lease::take(&self.database, &self.clock, "p", work, 1)).unwrap()
        }

        fn is_held(&self, work: Work) -> bool {
            block_on(is_held(&self.database, &self.clock, "p", work)).unwrap()
        }

        /// The seconds until the lease can be taken.
        fn wait(&self) -> i64 {
            let now = self.clock.0.get();
            for wait in [0, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 7200] {
                for (before, taken) in [(1, false), (0, true)] {
                    self.clock.0.set(now + wait - before);
                    let lease = (before <= wait).then(|| self.take(Work::Merge)).flatten();
                    if let Some(lease) = lease {
                        assert!(taken, "a second before {wait}");
                        block_on(lease.failed(&self.database, &self.clock)).unwrap();
                        return wait;
                    }
                }
            }
            panic!("it is never due");
        }
    }

    #[test]
    fn one_holds_it_and_others_wait() {
        let world = World::new();
        let lease = world.take(Work::Merge).unwrap();
        assert!(world.is_held(Work::Merge));
        assert!(world.take(Work::Merge).is_none());
        assert!(!world.is_held(Work::Compact));
        let other = world.take(Work::Compact).unwrap();
        block_on(lease.succeeded(&world.database)).unwrap();
        assert!(!world.is_held(Work::Merge));
        assert!(world.is_held(Work::Compact));
        block_on(other.given_back(&world.database, &world.clock)).unwrap();
        assert!(world.take(Work::Compact).is_some());
        assert!(world.take(Work::Merge).is_some());
    }

    #[test]
    fn a_merge_has_ten_minutes_and_a_compaction_two() {
        let world = World::new();
        for (work, seconds) in [(Work::Compact, 120), (Work::Merge, 600)] {
            world.clock.0.set(1000);
            let _lease = world.take(work).unwrap();
            for (now, held) in [(1000 + seconds - 1, true), (1000 + seconds, false)] {
                world.clock.0.set(now);
                assert_eq!(world.is_held(work), held, "{work:?} at {now}");
            }
        }
    }

    #[test]
    fn waits_double_up_to_an_hour() {
        let world = World::new();
        let waits: Vec<i64> = (0..12).map(|_| world.wait()).collect();
        let expected = [0, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600];
        assert_eq!(waits, expected);
    }

    #[test]
    fn an_expired_lease_counts_as_a_failure_and_its_holder_has_no_say_any_more() {
        let world = World::new();
        let dead = world.take(Work::Merge).unwrap();
        let end = 1000 + Work::Merge.seconds();
        for (now, taken) in [(end, false), (end + 9, false), (end + 10, true)] {
            world.clock.0.set(now);
            assert!(!world.is_held(Work::Merge));
            let lease = world.take(Work::Merge);
            assert_eq!(lease.is_some(), taken, "{now}");
        }
        block_on(dead.succeeded(&world.database)).unwrap();
        assert!(world.is_held(Work::Merge));
    }

    #[test]
    fn a_success_forgets_the_failures() {
        let world = World::new();
        world.wait();
        world.wait();
        world.clock.0.set(world.clock.0.get() + 20);
        let lease = world.take(Work::Merge).unwrap();
        block_on(lease.succeeded(&world.database)).unwrap();
        assert_eq!(world.wait(), 0);
        assert_eq!(world.wait(), 10);
    }
}
