//! The database's schema, made and brought up to date by the application itself.
//!
//! The statements are in `migrations/` at the top of the repository, so that
//! `spin up --sqlite @migrations/…` can run them too. Each can be run any number of times, also by
//! two instances at once: they say `IF NOT EXISTS` throughout. `ALTER TABLE … ADD COLUMN` cannot
//! say that; columns that an older database lacks are named in [`Migration::columns`] instead.

use crate::{Clock, Database, DatabaseError};

/// One step of the schema.
#[derive(Debug)]
pub struct Migration {
    /// Its number: 1, 2, 3 …
    pub version: u64,
    /// Its file's name.
    pub name: &'static str,
    /// Columns to add first to tables that exist without them.
    pub columns: &'static [Column],
    /// Its statements.
    pub sql: &'static str,
}

/// A column that an older version of a table may lack.
#[derive(Debug)]
pub struct Column {
    /// The table.
    pub table: &'static str,
    /// The column.
    pub name: &'static str,
    /// Its type, with a default where it must not be null.
    pub definition: &'static str,
}

/// All steps, oldest first.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "0001_create_loro_snapshots",
        columns: &[Column {
            table: "loro_snapshots",
            name: "rev",
            definition: "INTEGER NOT NULL DEFAULT 0",
        }],
        sql: include_str!("../../../migrations/0001_create_loro_snapshots.sql"),
    },
    Migration {
        version: 2,
        name: "0002_create_aigc_tasks",
        columns: &[
            Column {
                table: "aigc_tasks",
                name: "lease_until",
                definition: "INTEGER",
            },
            Column {
                table: "aigc_tasks",
                name: "next_attempt_at",
                definition: "INTEGER",
            },
            Column {
                table: "aigc_tasks",
                name: "projected_status",
                definition: "TEXT",
            },
        ],
        sql: include_str!("../../../migrations/0002_create_aigc_tasks.sql"),
    },
    Migration {
        version: 3,
        name: "0003_create_loro_updates",
        columns: &[],
        sql: include_str!("../../../migrations/0003_create_loro_updates.sql"),
    },
    Migration {
        version: 4,
        name: "0004_create_loro_quarantine",
        columns: &[],
        sql: include_str!("../../../migrations/0004_create_loro_quarantine.sql"),
    },
    Migration {
        version: 5,
        name: "0005_extend_aigc_tasks",
        columns: &[
            Column {
                table: "aigc_tasks",
                name: "version",
                definition: "INTEGER NOT NULL DEFAULT 0",
            },
            Column {
                table: "aigc_tasks",
                name: "projected_rev",
                definition: "INTEGER NOT NULL DEFAULT 0",
            },
            Column {
                table: "aigc_tasks",
                name: "node_id",
                definition: "TEXT",
            },
            Column {
                table: "aigc_tasks",
                name: "run",
                definition: "INTEGER NOT NULL DEFAULT 0",
            },
            Column {
                table: "aigc_tasks",
                name: "attempts",
                definition: "INTEGER NOT NULL DEFAULT 0",
            },
            Column {
                table: "aigc_tasks",
                name: "idempotency_key",
                definition: "TEXT",
            },
            Column {
                table: "aigc_tasks",
                name: "request_digest",
                definition: "TEXT",
            },
            Column {
                table: "aigc_tasks",
                name: "callback_url",
                definition: "TEXT",
            },
            Column {
                table: "aigc_tasks",
                name: "notify_at",
                definition: "INTEGER",
            },
            Column {
                table: "aigc_tasks",
                name: "notify_attempts",
                definition: "INTEGER NOT NULL DEFAULT 0",
            },
        ],
        sql: include_str!("../../../migrations/0005_extend_aigc_tasks.sql"),
    },
    Migration {
        version: 6,
        name: "0006_create_assets",
        columns: &[],
        sql: include_str!("../../../migrations/0006_create_assets.sql"),
    },
    Migration {
        version: 7,
        name: "0007_create_projects",
        columns: &[],
        sql: include_str!("../../../migrations/0007_create_projects.sql"),
    },
    Migration {
        version: 8,
        name: "0008_keep_jobs",
        columns: &[
            Column {
                table: "aigc_tasks",
                name: "accepted_at",
                definition: "INTEGER",
            },
            Column {
                table: "aigc_tasks",
                name: "earlier_jobs",
                definition: "TEXT",
            },
        ],
        sql: include_str!("../../../migrations/0008_keep_jobs.sql"),
    },
];

/// Brings the schema up to date. Where it is, this costs one small query.
///
/// # Errors
/// When the database fails; what was applied until then stays, and the next call goes on from there.
pub async fn apply(database: &dyn Database, clock: &dyn Clock) -> Result<(), DatabaseError> {
    let newest = MIGRATIONS.last().map_or(0, |migration| migration.version);
    // An error here is most likely a database without the table; if it is another, the statements
    // below fail of it too.
    let applied = applied(database).await.unwrap_or(0);
    if applied >= newest {
        return Ok(());
    }
    database
        .execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (
                 version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied_at INTEGER NOT NULL)",
            vec![],
        )
        .await?;
    // A write-ahead log takes one fsync a commit, and it stays with the file. A database that is
    // no local file has no such thing, and needs none.
    let _ = database.execute("PRAGMA journal_mode = WAL", vec![]).await;
    for migration in MIGRATIONS.iter().filter(|m| m.version > applied) {
        for column in migration.columns {
            add(database, column).await?;
        }
        for statement in statements(migration.sql) {
            database.execute(&statement, vec![]).await?;
        }
        database
            .execute(
                "INSERT OR IGNORE INTO schema_migrations (version, name, applied_at) VALUES (?1, ?2, ?3)",
                vec![
                    migration.version.into(),
                    migration.name.into(),
                    clock.unix_seconds().into(),
                ],
            )
            .await?;
        tracing::info!(migration = migration.name, "schema migration applied");
    }
    Ok(())
}

async fn applied(database: &dyn Database) -> Result<u64, DatabaseError> {
    let rows = database
        .execute("SELECT max(version) FROM schema_migrations", vec![])
        .await?;
    rows.first().map_or(Ok(0), |row| row.unsigned(0))
}

async fn add(database: &dyn Database, column: &Column) -> Result<(), DatabaseError> {
    let present = "SELECT count(*), sum(name = ?2) FROM pragma_table_info(?1)";
    let parameters = || vec![column.table.into(), column.name.into()];
    let is_missing = |rows: &[crate::Row]| -> Result<bool, DatabaseError> {
        let Some(row) = rows.first() else {
            return Ok(false);
        };
        Ok(row.integer(0)? > 0 && row.integer(1)? == 0)
    };
    if !is_missing(&database.execute(present, parameters()).await?)? {
        return Ok(());
    }
    let sql = format!(
        "ALTER TABLE {} ADD COLUMN {} {}",
        column.table, column.name, column.definition
    );
    match database.execute(&sql, vec![]).await {
        Ok(_) => Ok(()),
        // Another instance was quicker.
        Err(error) => match is_missing(&database.execute(present, parameters()).await?)? {
            false => Ok(()),
            true => Err(error),
        },
    }
}

/// The statements of a migration file. Its comments may hold semicolons, its strings may not.
fn statements(sql: &str) -> Vec<String> {
    let code: Vec<&str> = sql
        .lines()
        .map(|line| line.split("--").next().unwrap_or_default().trim_end())
        .filter(|line| !line.is_empty())
        .collect();
    code.join("\n")
        .split(';')
        .map(str::trim)
        .filter(|statement| !statement.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Value, clock::SystemClock, native::SqliteFile};

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        crate::native::block_on(future)
    }

    fn rows(database: &SqliteFile, sql: &str) -> Vec<crate::Row> {
        block_on(database.execute(sql, vec![])).unwrap()
    }

    #[test]
    fn a_new_database_gets_every_table() {
        let folder = tempfile::tempdir().unwrap();
        let database = SqliteFile::open(&folder.path().join("new.db")).unwrap();
        block_on(apply(&database, &SystemClock)).unwrap();
        block_on(apply(&database, &SystemClock)).unwrap();
        for table in [
            "loro_snapshots",
            "aigc_tasks",
            "loro_updates",
            "loro_quarantine",
        ] {
            assert!(rows(&database, &format!("SELECT * FROM {table}")).is_empty());
        }
        assert_eq!(
            rows(&database, "SELECT count(*) FROM schema_migrations")[0]
                .integer(0)
                .unwrap(),
            i64::try_from(MIGRATIONS.len()).unwrap()
        );
    }

    #[test]
    fn an_older_database_keeps_its_rows() {
        let folder = tempfile::tempdir().unwrap();
        let database = SqliteFile::open(&folder.path().join("old.db")).unwrap();
        for sql in [
            "CREATE TABLE loro_snapshots (project_id TEXT PRIMARY KEY, snapshot BLOB NOT NULL,
                 version BLOB NOT NULL, updated_at INTEGER NOT NULL)",
            "INSERT INTO loro_snapshots VALUES ('p', x'01', x'02', 3)",
            "CREATE TABLE aigc_tasks (task_id TEXT PRIMARY KEY, project_id TEXT NOT NULL,
                 task_type TEXT, status TEXT, external_task_id TEXT, external_service TEXT, params TEXT,
                 result_url TEXT, result_data TEXT, error_message TEXT, created_at INTEGER,
                 updated_at INTEGER, completed_at INTEGER, retry_count INTEGER DEFAULT 0,
                 max_retries INTEGER DEFAULT 3)",
            "INSERT INTO aigc_tasks (task_id, project_id, status) VALUES ('t', 'p', 'pending')",
        ] {
            block_on(database.execute(sql, vec![])).unwrap();
        }
        block_on(apply(&database, &SystemClock)).unwrap();
        assert_eq!(
            rows(
                &database,
                "SELECT project_id, snapshot, version, updated_at, rev FROM loro_snapshots"
            ),
            [crate::Row(vec![
                Value::Text("p".into()),
                Value::Blob(vec![1]),
                Value::Blob(vec![2]),
                Value::Integer(3),
                Value::Integer(0),
            ])]
        );
        assert_eq!(
            rows(
                &database,
                "SELECT task_id, lease_until, next_attempt_at, projected_status FROM aigc_tasks"
            ),
            [crate::Row(vec![
                Value::Text("t".into()),
                Value::Null,
                Value::Null,
                Value::Null
            ])]
        );
    }

    #[test]
    fn two_instances_at_once_do_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("race.db");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let database = SqliteFile::open(&path).unwrap();
                    block_on(apply(&database, &SystemClock)).unwrap();
                });
            }
        });
        let database = SqliteFile::open(&path).unwrap();
        assert!(rows(&database, "SELECT * FROM loro_updates").is_empty());
    }

    #[test]
    fn every_migration_is_a_file_and_in_order() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let named: Vec<String> = MIGRATIONS
            .iter()
            .map(|m| format!("{}.sql", m.name))
            .collect();
        assert_eq!(named, files);
        for (index, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(migration.version, index as u64 + 1);
        }
    }
}
