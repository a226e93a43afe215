//! The numbers of rooms for operators. Each is one statement that finds its rows by an index and stops at a bound, so an
//! operator who asks often does not slow down the users who edit.

use platform::{Database, DatabaseError, Gauge};

use crate::limits::LONG_LOG;

/// The most rooms, and the most rows of a table, that are counted.
const COUNTED: u64 = 10_000;

/// Measures the logs of rooms. Revs are dense, so a log's length is known from its ends, each of which is one step in
/// an index.
const LOGS: &str = "WITH RECURSIVE room(id, number) AS (
         SELECT (SELECT min(project_id) FROM loro_updates), 1
          UNION ALL
         SELECT (SELECT min(project_id) FROM loro_updates WHERE project_id > room.id), number + 1
           FROM room WHERE room.id IS NOT NULL AND number < ?1),
     log AS (
         SELECT (SELECT max(rev) FROM loro_updates WHERE project_id = id)
              - max(ifnull((SELECT rev FROM loro_snapshots INDEXED BY loro_snapshots_by_rev WHERE project_id = id), 0),
                    (SELECT min(rev) FROM loro_updates WHERE project_id = id) - 1) AS length
           FROM room WHERE id IS NOT NULL)
     SELECT count(*) FILTER (WHERE length > 0), count(*) FILTER (WHERE length >= ?2), ifnull(max(length), 0) FROM log";

const TO_MERGE: &str = "SELECT count(*) FROM (
         SELECT project_id FROM (SELECT project_id FROM loro_blobs INDEXED BY loro_blobs_by_rev LIMIT ?1)
          UNION
         SELECT project_id FROM (SELECT project_id FROM loro_snapshots WHERE has_state = 0 LIMIT ?1)
         LIMIT ?1)";

/// Counts the leases. One that was given back, because there was no place for the work, has no failures.
const LEASES: &str =
    "SELECT work, count(*), sum(failures) FROM (SELECT work, failures FROM loro_leases LIMIT ?1)
      WHERE failures > 0 GROUP BY work ORDER BY work";

const QUARANTINE: &str = "SELECT count(*), count(DISTINCT project_id)
       FROM (SELECT project_id FROM loro_quarantine LIMIT ?1)";

/// Reads the numbers of all rooms together. Each counts at most 10,000 rooms, or rows of a table.
///
/// # Errors
/// If the database fails.
pub async fn gauges(database: &dyn Database) -> Result<Vec<Gauge>, DatabaseError> {
    let most = || platform::Value::from(COUNTED);
    let logs = database
        .execute(LOGS, vec![most(), LONG_LOG.into()])
        .await?;
    let number =
        |rows: &[platform::Row], column| rows.first().map_or(Ok(0), |row| row.unsigned(column));
    let to_merge = database.execute(TO_MERGE, vec![most()]).await?;
    let quarantine = database.execute(QUARANTINE, vec![most()]).await?;
    let mut work = Gauge::new(
        "app_room_work",
        "Rooms of which a compaction or a merge is under way, or has failed.",
    );
    let mut tries = Gauge::new(
        "app_room_work_tries",
        "Compactions and merges of those rooms begun since the last that succeeded.",
    );
    for mut row in database.execute(LEASES, vec![most()]).await? {
        let name = row.text(0)?;
        work.add(&[("work", &name)], row.unsigned(1)?);
        tries.add(&[("work", &name)], row.unsigned(2)?);
    }
    Ok(vec![
        Gauge::new(
            "app_rooms_with_log",
            "Rooms with updates that are in no snapshot.",
        )
        .value(number(&logs, 0)?),
        Gauge::new(
            "app_rooms_with_long_log",
            "Rooms with 1024 or more updates that are in no snapshot.",
        )
        .value(number(&logs, 1)?),
        Gauge::new(
            "app_longest_log",
            "The most updates of one room that are in no snapshot.",
        )
        .value(number(&logs, 2)?),
        Gauge::new(
            "app_rooms_to_merge",
            "Rooms whose state is still to be computed.",
        )
        .value(number(&to_merge, 0)?),
        work,
        tries,
        Gauge::new("app_quarantined_updates", "Updates in quarantine.")
            .value(number(&quarantine, 0)?),
        Gauge::new("app_quarantined_rooms", "Rooms with updates in quarantine.")
            .value(number(&quarantine, 1)?),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::native::{SqliteFile, block_on};

    fn told(database: &SqliteFile) -> String {
        let gauges = block_on(gauges(database)).unwrap();
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

    fn log(database: &SqliteFile, project: &str, first: u64, last: u64) {
        run(
            database,
            &format!(
                "WITH RECURSIVE n(rev) AS (SELECT {first} UNION ALL SELECT rev + 1 FROM n WHERE rev < {last})
                 INSERT INTO loro_updates (project_id, rev, payload, origin, created_at)
                 SELECT '{project}', rev, x'01', 'test', 0 FROM n"
            ),
        );
    }

    #[test]
    fn every_number_of_rooms() {
        let database = SqliteFile::with_schema();
        has(
            &told(&database),
            &[
                "app_rooms_with_log 0",
                "app_longest_log 0",
                "app_rooms_to_merge 0",
                "app_quarantined_updates 0",
            ],
        );
        // One log is at the bound, one is below it, and the only row of one waits before the snapshot's rev.
        log(&database, "a", 1, 1024);
        log(&database, "b", 7, 1029);
        log(&database, "c", 5, 5);
        for sql in [
            "INSERT INTO loro_snapshots (project_id, snapshot, version, updated_at, rev, has_state) VALUES
                 ('b', x'01', x'00', 0, 6, 1), ('c', x'01', x'00', 0, 900000, 0)",
            "INSERT INTO loro_blobs VALUES ('a', 1000, x'01', x'00', '[]', 0), ('c', 5, x'01', x'00', '[]', 0)",
            "INSERT INTO loro_leases VALUES ('a', 'merge', 'h', 1, 0, 3, 0), ('b', 'merge', 'h', 1, 0, 1, 0),
                 ('b', 'compact', 'h', 1, 0, 2, 0), ('c', 'merge', 'h', 1, 0, 0, 0)",
            "INSERT INTO loro_quarantine VALUES ('a', 1, x'01', 'o', 0, 0, 'r'), ('a', 2, x'01', 'o', 0, 0, 'r'),
                 ('b', 1, x'01', 'o', 0, 0, 'r')",
        ] {
            run(&database, sql);
        }
        has(
            &told(&database),
            &[
                "app_rooms_with_log 2",
                "app_rooms_with_long_log 1",
                "app_longest_log 1024",
                "app_rooms_to_merge 2",
                "app_room_work{work=\"merge\"} 2",
                "app_room_work_tries{work=\"merge\"} 4",
                "app_room_work_tries{work=\"compact\"} 2",
                "app_quarantined_updates 3",
                "app_quarantined_rooms 2",
            ],
        );
    }

    #[test]
    fn no_more_than_the_bound_is_counted() {
        let database = SqliteFile::with_schema();
        run(
            &database,
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i <= 10000)
             INSERT INTO loro_updates (project_id, rev, payload, origin, created_at)
             SELECT 'p' || i, 1, x'01', 'test', 0 FROM n",
        );
        for sql in [
            "INSERT INTO loro_quarantine SELECT project_id, rev, payload, origin, 0, 0, 'r' FROM loro_updates",
            "INSERT INTO loro_blobs SELECT project_id, 1, x'01', x'00', '[]', 0 FROM loro_updates",
            "INSERT INTO loro_snapshots (project_id, snapshot, version, updated_at, rev, has_state)
             SELECT 'other ' || project_id, x'01', x'00', 0, 1, 0 FROM loro_updates",
        ] {
            run(&database, sql);
        }
        has(
            &told(&database),
            &[
                "app_rooms_with_log 10000",
                "app_rooms_to_merge 10000",
                "app_quarantined_updates 10000",
            ],
        );
    }

    /// Checks that no statement reads a whole table of payloads.
    #[test]
    fn payloads_are_not_read() {
        let database = SqliteFile::with_schema();
        for sql in [LOGS, TO_MERGE, QUARANTINE] {
            let explain = format!("EXPLAIN QUERY PLAN {sql}");
            let bounds = if sql == LOGS { 2 } else { 1 };
            let parameters = vec![10u64.into(); bounds];
            let mut rows = block_on(database.execute(&explain, parameters)).unwrap();
            let plan: Vec<String> = rows.iter_mut().map(|row| row.text(3).unwrap()).collect();
            for step in plan {
                let reads = [
                    "loro_updates",
                    "loro_snapshots",
                    "loro_blobs",
                    "loro_quarantine",
                ];
                let is_table = reads.iter().any(|table| step.contains(table));
                // SQLite calls one step at an end of a log "SEARCH", also of a table that is its own index.
                let is_cheap = step.contains("COVERING INDEX")
                    || step.starts_with("SEARCH")
                    || step.contains("loro_snapshots_without_state");
                assert!(!is_table || is_cheap, "{step}\n{sql}");
            }
        }
    }
}
