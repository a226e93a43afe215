//! The numbers of tasks for operators. Each is read by one statement that finds its rows by an index and stops at a
//! bound.

use platform::{Database, DatabaseError, Gauge};

use super::row::OPEN;

/// The most tasks that are counted.
const COUNTED: u64 = 10_000;

/// The time in which ends are counted, in seconds.
const ENDED_WITHIN: i64 = 3600;

/// The numbers of all tasks together: up to 10,000 that are open, and up to 10,000 that ended within the last hour.
///
/// # Errors
/// If the database fails.
pub async fn gauges(database: &dyn Database, now: i64) -> Result<Vec<Gauge>, DatabaseError> {
    let mut states = Gauge::new("app_tasks", "Tasks that are not finished.");
    let mut ends = Gauge::new(
        "app_tasks_ended_within_hour",
        "Tasks that were finished within the last hour.",
    );
    let sql = open_sql();
    let mut oldest = None;
    for mut row in database.execute(&sql, vec![COUNTED.into()]).await? {
        let (status, service) = (row.text(0)?, row.text(1)?);
        states.add(
            &[("state", &status), ("service", &service)],
            row.unsigned(2)?,
        );
        if status == "pending" {
            let since = row.integer(3)?;
            oldest = Some(oldest.map_or(since, |older: i64| older.min(since)));
        }
    }
    let parameters = vec![COUNTED.into(), (now - ENDED_WITHIN).into()];
    for mut row in database.execute(ENDED, parameters).await? {
        let (status, service) = (row.text(0)?, row.text(1)?);
        ends.add(
            &[("state", &status), ("service", &service)],
            row.unsigned(2)?,
        );
    }
    let age = oldest.map_or(0, |since| now.saturating_sub(since).max(0));
    let oldest = Gauge::new(
        "app_oldest_pending_task_seconds",
        "The age of the oldest task that is pending; 0 if none is.",
    );
    Ok(vec![states, oldest.value(age.unsigned_abs()), ends])
}

/// Returns whether there is a task that is not finished.
///
/// # Errors
/// If the database fails.
pub async fn has_open(database: &dyn Database) -> Result<bool, DatabaseError> {
    let sql =
        format!("SELECT EXISTS (SELECT 1 FROM aigc_tasks INDEXED BY aigc_tasks_due WHERE {OPEN})");
    let rows = database.execute(&sql, vec![]).await?;
    match rows.first() {
        Some(row) => Ok(row.integer(0)? != 0),
        None => Ok(false),
    }
}

fn open_sql() -> String {
    format!(
        "SELECT status, service, count(*), min(created_at) FROM (
             SELECT status, ifnull(external_service, '') AS service, created_at
               FROM aigc_tasks INDEXED BY aigc_tasks_due WHERE {OPEN} LIMIT ?1)
          GROUP BY status, service ORDER BY status, service"
    )
}

const ENDED: &str = "SELECT status, service, count(*) FROM (
         SELECT status, ifnull(external_service, '') AS service
           FROM aigc_tasks INDEXED BY aigc_tasks_by_end
          WHERE completed_at IS NOT NULL AND completed_at > ?2 LIMIT ?1)
      GROUP BY status, service ORDER BY status, service";

#[cfg(test)]
mod tests {
    use super::*;
    use platform::native::{SqliteFile, block_on};

    fn told(database: &SqliteFile, now: i64) -> String {
        let gauges = block_on(gauges(database, now)).unwrap();
        gauges.iter().map(Gauge::render).collect()
    }

    fn run(database: &SqliteFile, sql: &str) {
        block_on(database.execute(sql, vec![])).unwrap();
    }

    #[track_caller]
    fn has(text: &str, lines: &[&str]) {
        for line in lines {
            assert!(text.lines().any(|found| found == *line), "{line}\n{text}");
        }
    }

    #[test]
    fn tasks_by_state_and_service_and_the_oldest_that_waits() {
        let database = SqliteFile::with_schema();
        has(
            &told(&database, 5000),
            &["app_oldest_pending_task_seconds 0"],
        );
        assert!(!block_on(has_open(&database)).unwrap());
        run(
            &database,
            "INSERT INTO aigc_tasks (task_id, project_id, task_type, status, external_service, params,
                                     created_at, updated_at, completed_at) VALUES
                 ('a', 'p', 't', 'pending', 'kling', '{}', 4000, 4900, NULL),
                 ('b', 'p', 't', 'pending', 'demo', '{}', 4990, 4990, NULL),
                 ('c', 'p', 't', 'processing', 'kling', '{}', 1, 1, NULL),
                 ('d', 'p', 't', 'failed', 'kling', '{}', 1, 1401, 1401),
                 ('e', 'p', 't', 'failed', 'kling', '{}', 1, 1400, 1400),
                 ('f', 'p', 't', 'completed', NULL, '{}', 1, 4999, 4999)",
        );
        let text = told(&database, 5000);
        has(
            &text,
            &[
                "app_tasks{state=\"pending\",service=\"kling\"} 1",
                "app_tasks{state=\"pending\",service=\"demo\"} 1",
                "app_tasks{state=\"processing\",service=\"kling\"} 1",
                "app_oldest_pending_task_seconds 1000",
                // One of the two ended an hour ago, to the second.
                "app_tasks_ended_within_hour{state=\"failed\",service=\"kling\"} 1",
                "app_tasks_ended_within_hour{state=\"completed\",service=\"\"} 1",
            ],
        );
        // The clock was set back.
        has(&told(&database, 0), &["app_oldest_pending_task_seconds 0"]);
        for (still_open, ended) in [(true, "'a', 'b'"), (false, "'c'")] {
            run(
                &database,
                &format!("UPDATE aigc_tasks SET status = 'failed' WHERE task_id IN ({ended})"),
            );
            assert_eq!(block_on(has_open(&database)).unwrap(), still_open);
        }
    }

    #[test]
    fn no_more_than_the_bound_is_counted() {
        let database = SqliteFile::with_schema();
        run(
            &database,
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i <= 10000)
             INSERT INTO aigc_tasks (task_id, project_id, task_type, status, external_service, params,
                                     created_at, updated_at)
             SELECT 't' || i, 'p', 't', 'pending', 'demo', '{}', 0, 0 FROM n",
        );
        has(
            &told(&database, 7),
            &[
                "app_tasks{state=\"pending\",service=\"demo\"} 10000",
                "app_oldest_pending_task_seconds 7",
            ],
        );
    }
}
