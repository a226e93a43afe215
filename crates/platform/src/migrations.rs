//! The schema of the database. The app makes it and brings it up to date by itself.
//!
//! The statements are in `migrations/` at the top of the repository, so that `spin up --sqlite @migrations/…`
//! can run them too. Each can be run any number of times, also by two instances at once, because they say
//! `IF NOT EXISTS` throughout. `ALTER TABLE … ADD COLUMN` cannot say that, so a new column is written into
//! the `CREATE TABLE` of its table, one column a line, and [`apply`] adds the columns that an older table
//! lacks. Such a column may be null or has a default.

use std::collections::BTreeSet;

use crate::{Clock, Database, DatabaseError};

/// A step of the schema.
struct Migration {
    /// The number of the step, with which the name of its file begins.
    version: u64,
    /// The name of its file, without `.sql`.
    name: &'static str,
    /// The text of its file.
    sql: &'static str,
}

macro_rules! migration {
    ($version:literal, $name:literal) => {
        Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../../../migrations/", $name, ".sql")),
        }
    };
}

/// The steps, the lowest number first.
const MIGRATIONS: &[Migration] = &[
    migration!(1, "0001_create_loro_snapshots"),
    migration!(2, "0002_create_aigc_tasks"),
    migration!(3, "0003_create_loro_updates"),
    migration!(4, "0004_create_loro_quarantine"),
    migration!(5, "0005_extend_aigc_tasks"),
    migration!(6, "0006_create_assets"),
    migration!(7, "0007_create_projects"),
    migration!(8, "0008_keep_jobs"),
    migration!(9, "0009_create_loro_receipts"),
    migration!(10, "0010_compact_in_two_steps"),
    migration!(11, "0011_claim_by_turns"),
    migration!(12, "0012_create_loro_peers"),
    migration!(13, "0013_keep_projection_peers"),
    migration!(14, "0014_count_bytes"),
    migration!(15, "0015_settle_assets"),
    migration!(16, "0016_keep_places"),
    migration!(17, "0017_doubt_places"),
    migration!(18, "0018_ask_once"),
    migration!(19, "0019_count_changes"),
    migration!(21, "0021_keep_results"),
    migration!(22, "0022_find_products"),
    migration!(23, "0023_copy_assets"),
    migration!(25, "0025_keep_for_days"),
    migration!(28, "0028_find_uploads"),
    migration!(29, "0029_count_operations"),
    migration!(30, "0030_offer_bytes"),
];

/// Brings the schema up to date. If it is up to date already, this costs one small query.
///
/// A step is applied if its own number is not recorded, even if a later one is: two branches may each bring a step, and
/// the one with the lower number may reach a database last. So no step may rely on being applied before those that
/// follow it.
///
/// # Errors
/// If the database fails. The steps that were applied stay, and the next call continues.
pub async fn apply(database: &dyn Database, clock: &dyn Clock) -> Result<(), DatabaseError> {
    // An error here most likely means that there is no such table yet. After any other error the statements
    // below fail too.
    let applied = applied(database).await.unwrap_or_default();
    let missing: Vec<&Migration> = MIGRATIONS
        .iter()
        .filter(|migration| !applied.contains(&migration.version))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    database
        .execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (
                 version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied_at INTEGER NOT NULL)",
            vec![],
        )
        .await?;
    // A write-ahead log takes one fsync a commit, and the setting stays with the file. A database that is not a local
    // file does not have the setting, and does not need it.
    let _ = database.execute("PRAGMA journal_mode = WAL", vec![]).await;
    for table in MIGRATIONS
        .iter()
        .flat_map(|migration| tables(migration.sql))
    {
        add_missing_columns(database, &table).await?;
    }
    for migration in missing {
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
        tracing::info!(
            migration = migration.name,
            "a migration of the schema was applied"
        );
    }
    Ok(())
}

/// The numbers of the steps that were applied. One row holds them all, because each instance runs this query.
async fn applied(database: &dyn Database) -> Result<BTreeSet<u64>, DatabaseError> {
    let sql = "SELECT ifnull(group_concat(version), '') FROM schema_migrations";
    let rows = database.execute(sql, vec![]).await?;
    let numbers = rows
        .into_iter()
        .next()
        .map_or(Ok(String::new()), |mut row| row.text(0))?;
    Ok(numbers
        .split(',')
        .filter_map(|number| number.parse().ok())
        .collect())
}

/// A table, as a `CREATE TABLE` declares it.
struct Table {
    name: String,
    /// The name of each column, and its type and constraints.
    columns: Vec<(String, String)>,
}

/// The tables that a migration file creates.
fn tables(sql: &str) -> Vec<Table> {
    statements(sql)
        .iter()
        .filter_map(|statement| {
            let declared = statement.strip_prefix("CREATE TABLE IF NOT EXISTS ")?;
            let (name, columns) = declared.split_once('(')?;
            Some(Table {
                name: name.trim().to_owned(),
                columns: columns.lines().filter_map(column).collect(),
            })
        })
        .collect()
}

/// The column that a line of a `CREATE TABLE` declares, if it declares one.
fn column(line: &str) -> Option<(String, String)> {
    let (name, definition) = line.trim().trim_end_matches(',').split_once(' ')?;
    let is_column = !name.starts_with(')') && name != "PRIMARY";
    is_column.then(|| (name.to_owned(), definition.trim().to_owned()))
}

/// Adds the columns that an existing table lacks.
async fn add_missing_columns(database: &dyn Database, table: &Table) -> Result<(), DatabaseError> {
    let present = present_columns(database, &table.name).await?;
    if present.is_empty() {
        // There is no such table yet.
        return Ok(());
    }
    for (name, definition) in &table.columns {
        if present.contains(name) {
            continue;
        }
        let sql = format!("ALTER TABLE {} ADD COLUMN {name} {definition}", table.name);
        if let Err(error) = database.execute(&sql, vec![]).await {
            // Another instance may have added it meanwhile.
            let present = present_columns(database, &table.name).await?;
            if !present.contains(name) {
                return Err(error);
            }
        }
    }
    Ok(())
}

async fn present_columns(
    database: &dyn Database,
    table: &str,
) -> Result<Vec<String>, DatabaseError> {
    let sql = "SELECT name FROM pragma_table_info(?1)";
    let rows = database.execute(sql, vec![table.into()]).await?;
    rows.into_iter().map(|mut row| row.text(0)).collect()
}

/// The statements of a migration file. Its comments may hold semicolons; its strings may hold neither semicolons nor
/// `--`. A trigger ends with a line `END;`.
fn statements(sql: &str) -> Vec<String> {
    let code: Vec<&str> = sql
        .lines()
        .map(|line| line.split("--").next().unwrap_or_default().trim_end())
        .filter(|line| !line.is_empty())
        .collect();
    let code = code.join("\n");
    let mut statements: Vec<String> = Vec::new();
    for piece in code.split(';').map(str::trim).filter(|p| !p.is_empty()) {
        match statements.last_mut().filter(|last| is_within_trigger(last)) {
            Some(trigger) => *trigger += &format!(";\n{piece}"),
            None => statements.push(piece.to_owned()),
        }
    }
    statements
}

fn is_within_trigger(statement: &str) -> bool {
    statement.starts_with("CREATE TRIGGER") && !statement.ends_with("\nEND")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Row, Value,
        clock::SystemClock,
        native::{SqliteFile, block_on},
    };

    fn rows(database: &SqliteFile, sql: &str) -> Vec<Row> {
        block_on(database.execute(sql, vec![])).unwrap()
    }

    fn new_database(folder: &tempfile::TempDir) -> SqliteFile {
        let database = SqliteFile::open(&folder.path().join("new.db")).unwrap();
        block_on(apply(&database, &SystemClock)).unwrap();
        database
    }

    /// A database of the first release, with a row in each table.
    fn old_database(folder: &tempfile::TempDir) -> SqliteFile {
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
        database
    }

    #[test]
    fn a_new_database_gets_every_table() {
        let folder = tempfile::tempdir().unwrap();
        let database = new_database(&folder);
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
    fn a_trigger_is_one_statement() {
        let sql = "CREATE TABLE a (b); -- c;\nCREATE TRIGGER d AFTER INSERT ON a\nBEGIN\n  DELETE FROM a;\n  \
                   DELETE FROM a;\nEND;\nDROP TABLE a;";
        let found = statements(sql);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[1].ends_with("DELETE FROM a;\nEND"));
    }

    #[test]
    fn an_older_database_keeps_its_rows() {
        let folder = tempfile::tempdir().unwrap();
        let database = old_database(&folder);
        block_on(apply(&database, &SystemClock)).unwrap();
        assert_eq!(
            rows(
                &database,
                "SELECT project_id, snapshot, version, updated_at, rev FROM loro_snapshots"
            ),
            [Row(vec![
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
            [Row(vec![
                Value::Text("t".into()),
                Value::Null,
                Value::Null,
                Value::Null
            ])]
        );
    }

    #[test]
    fn an_upgraded_table_has_the_columns_of_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (old_database(&folder), new_database(&folder));
        block_on(apply(&old, &SystemClock)).unwrap();
        let declared = MIGRATIONS.iter().flat_map(|m| tables(m.sql));
        let mut tables = 0;
        for table in declared {
            let sql = format!(
                "SELECT name, type, dflt_value FROM pragma_table_info('{}') ORDER BY name",
                table.name
            );
            let columns = rows(&new, &sql);
            assert_eq!(columns.len(), table.columns.len(), "{}", table.name);
            assert_eq!(rows(&old, &sql), columns, "{}", table.name);
            tables += 1;
        }
        let sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name <> 'schema_migrations'
                     AND name NOT LIKE 'sqlite%'";
        assert_eq!(rows(&new, sql)[0].integer(0).unwrap(), tables);
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

    /// A lower number that reaches a database after a higher one, as by a branch that was merged late, is applied too, and
    /// those that were applied are not applied again.
    #[test]
    fn each_step_that_is_not_recorded_is_applied() {
        for late in MIGRATIONS {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("new.db");
            let database = new_database(&folder);
            let tables = tables(late.sql);
            for Table { name, .. } in &tables {
                rows(&database, &format!("DROP TABLE {name}"));
            }
            let sql = format!(
                "DELETE FROM schema_migrations WHERE version = {}",
                late.version
            );
            rows(&database, &sql);
            rows(&database, "UPDATE schema_migrations SET applied_at = 1");
            // Several instances start with the new release at once.
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        let database = SqliteFile::open(&path).unwrap();
                        block_on(apply(&database, &SystemClock)).unwrap();
                    });
                }
            });
            for Table { name, .. } in &tables {
                rows(&database, &format!("SELECT * FROM {name}"));
            }
            let sql = "SELECT group_concat(version) FROM schema_migrations WHERE applied_at <> 1";
            let again = rows(&database, sql)[0].optional_text(0).unwrap();
            assert_eq!(again, Some(late.version.to_string()), "{}", late.name);
        }
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
        for migration in MIGRATIONS {
            let number = migration.name.split('_').next().unwrap();
            assert_eq!(number.parse(), Ok(migration.version));
        }
        assert!(MIGRATIONS.is_sorted_by(|one, next| one.version < next.version));
    }
}
