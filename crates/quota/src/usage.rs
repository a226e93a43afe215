//! Counts bytes, and keeps each sum in a row for a minute.

use auth::conditions;
use platform::{Database, DatabaseError, Row};

use crate::allowed::BYTES_OF_OPERATION;

/// The time that a count holds, in seconds.
const HOLDS: i64 = 60;

/// The holder of a quota: its name is the key of its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder(pub(crate) String);

impl Holder {
    pub(crate) fn project(project: &str) -> Self {
        Self(format!("project:{project}"))
    }

    pub(crate) fn owner(owner: &str) -> Self {
        Self(format!("owner:{owner}"))
    }
}

/// The bytes that a holder keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    /// The bytes of documents.
    pub(crate) document: u64,
    /// The bytes that count towards the largest size of a document; 0 for an owner.
    pub(crate) room: u64,
    /// The bytes of assets and tasks.
    pub(crate) rest: u64,
    counted_at: i64,
}

impl Usage {
    fn of(row: &Row) -> Result<Self, DatabaseError> {
        Ok(Self {
            document: row.unsigned(0)?,
            room: row.unsigned(1)?,
            rest: row.unsigned(2)?,
            counted_at: row.integer(3)?,
        })
    }

    pub(crate) fn total(self) -> u64 {
        self.document.saturating_add(self.rest)
    }

    pub(crate) fn holds_at(self, now: i64) -> bool {
        self.counted_at > now - HOLDS
    }
}

/// The last count; `None` if there is none.
pub(crate) async fn last(
    database: &dyn Database,
    holder: &Holder,
) -> Result<Option<Usage>, DatabaseError> {
    let sql = "SELECT document, room, rest, counted_at FROM quota_usage WHERE holder = ?1";
    let rows = database
        .execute(sql, vec![holder.0.as_str().into()])
        .await?;
    rows.first().map(Usage::of).transpose()
}

/// The owner of a project; `None` if there is no such project, or if it is still being imported.
pub(crate) async fn owner(
    database: &dyn Database,
    project: &str,
) -> Result<Option<String>, DatabaseError> {
    let sql = format!(
        "SELECT {} WHERE {}",
        conditions::owner("?1"),
        conditions::exists("?1")
    );
    let rows = database.execute(&sql, vec![project.into()]).await?;
    rows.into_iter()
        .next()
        .map(|mut row| row.text(0))
        .transpose()
}

/// Counts the bytes of a project. Assets and tasks are counted at most once a minute, because they may be many.
///
/// The views `document_bytes` and `task_bytes` say what a project keeps, so this names no table of documents or tasks.
pub(crate) async fn count_project(
    database: &dyn Database,
    project: &str,
    now: i64,
) -> Result<Usage, DatabaseError> {
    let sql = format!(
        "WITH known (rest, at) AS (
             SELECT rest, rest_counted_at FROM quota_usage
              WHERE holder = ?1 AND rest_counted_at > ?3 - {HOLDS})
         INSERT INTO quota_usage (holder, document, room, rest, counted_at, rest_counted_at)
         SELECT ?1, ifnull(sum(kept), 0),
                ifnull(sum(state + 2 * newer + {BYTES_OF_OPERATION} * operations), 0),
                CASE WHEN EXISTS (SELECT 1 FROM known) THEN (SELECT rest FROM known)
                     ELSE ifnull((SELECT sum(kept) FROM task_bytes WHERE project_id = ?2), 0) END,
                ?3, ifnull((SELECT at FROM known), ?3)
           FROM document_bytes WHERE project_id = ?2
         ON CONFLICT (holder) DO UPDATE SET
             document = excluded.document, room = excluded.room, rest = excluded.rest,
             counted_at = excluded.counted_at, rest_counted_at = excluded.rest_counted_at
         RETURNING document, room, rest, counted_at"
    );
    let holder = Holder::project(project);
    let parameters = vec![holder.0.into(), project.into(), now.into()];
    counted(database, &sql, parameters).await
}

/// Counts the bytes of an owner: the sum of the last counts of the owner's projects.
pub(crate) async fn count_owner(
    database: &dyn Database,
    owner: &str,
    now: i64,
) -> Result<Usage, DatabaseError> {
    let sql = format!(
        "INSERT INTO quota_usage (holder, document, rest, counted_at, rest_counted_at)
        SELECT ?1, ifnull(sum(u.document), 0), ifnull(sum(u.rest), 0), ?3, ?3
          FROM ({}) p JOIN quota_usage u ON u.holder = 'project:' || p.project_id
         WHERE true
        ON CONFLICT (holder) DO UPDATE SET
            document = excluded.document, rest = excluded.rest,
            counted_at = excluded.counted_at, rest_counted_at = excluded.rest_counted_at
        RETURNING document, room, rest, counted_at",
        conditions::owned("?2")
    );
    let holder = Holder::owner(owner);
    let parameters = vec![holder.0.into(), owner.into(), now.into()];
    counted(database, &sql, parameters).await
}

async fn counted(
    database: &dyn Database,
    sql: &str,
    parameters: Vec<platform::Value>,
) -> Result<Usage, DatabaseError> {
    let rows = database.execute(sql, parameters).await?;
    let missing = || DatabaseError::Unexpected("a count is missing".into());
    Usage::of(rows.first().ok_or_else(missing)?)
}

/// Adds bytes that are about to be kept, until the next count finds them.
pub(crate) async fn add(
    database: &dyn Database,
    holders: [&Holder; 2],
    bytes: u64,
) -> Result<(), DatabaseError> {
    let sql = "UPDATE quota_usage SET rest = rest + ?3 WHERE holder IN (?1, ?2)";
    let [project, owner] = holders.map(|holder| holder.0.as_str().into());
    let parameters = vec![project, owner, bytes.into()];
    database.execute(sql, parameters).await.map(drop)
}
