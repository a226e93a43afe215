//! Projects and their members. What changes who may do what counts up the project's `access_rev`, by which relays
//! find out: in the same statement, or, where it is in another table, in the next.

use platform::{Clock, Database, DatabaseError, Row, Value};
use serde::Serialize;

use crate::Role;

/// A project, as somebody sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Project {
    /// Its id.
    pub project_id: String,
    /// What people call it.
    pub name: String,
    /// The user whose it is.
    pub owner_id: String,
    /// When it was made, in Unix seconds.
    pub created_at: i64,
    /// When it was last renamed, given away or shared, in Unix seconds.
    pub updated_at: i64,
}

/// A member of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// The user.
    pub user_id: String,
    /// What they may do: read or write.
    pub role: Role,
    /// Since when, in Unix seconds.
    pub created_at: i64,
}

/// What a project is to be.
#[derive(Debug, Clone, Copy)]
pub struct NewProject<'a> {
    /// Its id, which can name one.
    pub project_id: &'a str,
    /// What people call it.
    pub name: &'a str,
    /// The user whose it is.
    pub owner_id: &'a str,
}

/// How a user stands to a project.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) role: Option<Role>,
    pub(crate) access_rev: u64,
    pub(crate) is_deleted: bool,
}

const COLUMNS: &str = "p.project_id, p.name, p.owner_id, p.created_at, p.updated_at";

/// How long something that was begun before a project's end may go on, in seconds.
const UNDER_WAY: i64 = 600;

fn project(mut row: Row) -> Result<Project, DatabaseError> {
    Ok(Project {
        project_id: row.text(0)?,
        name: row.text(1)?,
        owner_id: row.text(2)?,
        created_at: row.integer(3)?,
        updated_at: row.integer(4)?,
    })
}

async fn one(
    database: &dyn Database,
    sql: &str,
    parameters: Vec<Value>,
) -> Result<Option<Project>, DatabaseError> {
    let rows = database.execute(sql, parameters).await?;
    rows.into_iter().next().map(project).transpose()
}

/// Whether a statement with `RETURNING` found something to change.
async fn changes(
    database: &dyn Database,
    sql: &str,
    parameters: Vec<Value>,
) -> Result<bool, DatabaseError> {
    Ok(!database.execute(sql, parameters).await?.is_empty())
}

/// Makes a project; `false` where its id is taken, or was once.
///
/// # Errors
/// When the database fails.
pub async fn create(
    database: &dyn Database,
    clock: &dyn Clock,
    new: NewProject<'_>,
) -> Result<bool, DatabaseError> {
    let sql = "INSERT INTO projects (project_id, name, owner_id, created_at, updated_at)
               VALUES (?1, ?2, ?3, ?4, ?4) ON CONFLICT (project_id) DO NOTHING RETURNING 1";
    let parameters = vec![
        new.project_id.into(),
        new.name.into(),
        new.owner_id.into(),
        clock.unix_seconds().into(),
    ];
    changes(database, sql, parameters).await
}

/// How a user stands to a project; `None` where there never was one of this id.
pub(crate) async fn standing(
    database: &dyn Database,
    project_id: &str,
    user_id: &str,
) -> Result<Option<Standing>, DatabaseError> {
    let sql = "SELECT p.owner_id = ?2, m.role, p.access_rev, p.deleted_at IS NOT NULL
                 FROM projects p
                 LEFT JOIN project_members m ON m.project_id = p.project_id AND m.user_id = ?2
                WHERE p.project_id = ?1";
    let rows = database
        .execute(sql, vec![project_id.into(), user_id.into()])
        .await?;
    let Some(mut row) = rows.into_iter().next() else {
        return Ok(None);
    };
    let role = match (row.integer(0)?, row.optional_text(1)?) {
        (0, None) => None,
        (0, Some(role)) => Some(Role::read(&role)?),
        _ => Some(Role::Owner),
    };
    Ok(Some(Standing {
        role,
        access_rev: row.unsigned(2)?,
        is_deleted: row.integer(3)? != 0,
    }))
}

/// The count of changes of who may do what, of each of these projects; 0 for one that is not there.
///
/// # Errors
/// When the database fails.
pub async fn access_revs(
    database: &dyn Database,
    projects: &[String],
) -> Result<Vec<u64>, DatabaseError> {
    let list = serde_json::Value::from(projects).to_string();
    let sql =
        "SELECT j.key, p.access_rev FROM json_each(?1) j JOIN projects p ON p.project_id = j.value";
    let mut revs = vec![0; projects.len()];
    for row in database.execute(sql, vec![list.into()]).await? {
        let index = usize::try_from(row.unsigned(0)?).unwrap_or(usize::MAX);
        if let Some(rev) = revs.get_mut(index) {
            *rev = row.unsigned(1)?;
        }
    }
    Ok(revs)
}

/// A project, if it is there.
///
/// # Errors
/// When the database fails.
pub async fn get(
    database: &dyn Database,
    project_id: &str,
) -> Result<Option<Project>, DatabaseError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM projects p WHERE p.project_id = ?1 AND p.deleted_at IS NULL"
    );
    one(database, &sql, vec![project_id.into()]).await
}

/// Whose projects to list.
#[derive(Debug, Clone, Copy)]
pub enum Of<'a> {
    /// Those that this user owns or is a member of.
    User(&'a str),
    /// This one.
    Project(&'a str),
    /// All.
    Everybody,
}

/// Up to `limit` projects in the order of their ids, from the one after `after`.
///
/// # Errors
/// When the database fails.
pub async fn list(
    database: &dyn Database,
    of: Of<'_>,
    after: &str,
    limit: u64,
) -> Result<Vec<Project>, DatabaseError> {
    let (condition, who) = match of {
        Of::User(id) => (
            "p.project_id IN (SELECT project_id FROM projects WHERE owner_id = ?3
                 UNION SELECT project_id FROM project_members WHERE user_id = ?3)",
            id,
        ),
        Of::Project(id) => ("p.project_id = ?3", id),
        Of::Everybody => ("?3 = ''", ""),
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM projects p
          WHERE {condition} AND p.deleted_at IS NULL AND p.project_id > ?1
          ORDER BY p.project_id LIMIT ?2"
    );
    let parameters = vec![after.into(), limit.into(), who.into()];
    let rows = database.execute(&sql, parameters).await?;
    rows.into_iter().map(project).collect()
}

/// Renames a project, or gives it away, or both; `None` where there is none.
///
/// # Errors
/// When the database fails.
pub async fn update(
    database: &dyn Database,
    clock: &dyn Clock,
    project_id: &str,
    name: Option<&str>,
    owner_id: Option<&str>,
) -> Result<Option<Project>, DatabaseError> {
    let sql = format!(
        "UPDATE projects AS p SET name = ifnull(?2, name), owner_id = ifnull(?3, owner_id), updated_at = ?4,
                access_rev = access_rev + (?3 IS NOT NULL)
          WHERE p.project_id = ?1 AND p.deleted_at IS NULL RETURNING {}",
        COLUMNS.replace("p.", "")
    );
    let parameters = vec![
        project_id.into(),
        name.into(),
        owner_id.into(),
        clock.unix_seconds().into(),
    ];
    one(database, &sql, parameters).await
}

/// Deletes a project: from now on it is not there, and its id is not used again. What it had is to be
/// purged. `false` where there is none.
///
/// # Errors
/// When the database fails.
pub async fn delete(
    database: &dyn Database,
    clock: &dyn Clock,
    project_id: &str,
) -> Result<bool, DatabaseError> {
    let sql = "UPDATE projects SET deleted_at = ?2, updated_at = 0, access_rev = access_rev + 1
                WHERE project_id = ?1 AND deleted_at IS NULL RETURNING 1";
    let parameters = vec![project_id.into(), clock.unix_seconds().into()];
    changes(database, sql, parameters).await
}

/// Counts up a project's `access_rev`; `false` where there is none.
///
/// # Errors
/// When the database fails.
pub async fn touch(
    database: &dyn Database,
    clock: &dyn Clock,
    project_id: &str,
) -> Result<bool, DatabaseError> {
    let sql = "UPDATE projects SET access_rev = access_rev + 1, updated_at = ?2
                WHERE project_id = ?1 AND deleted_at IS NULL RETURNING 1";
    let parameters = vec![project_id.into(), clock.unix_seconds().into()];
    changes(database, sql, parameters).await
}

/// The members of a project, the owner not among them.
///
/// # Errors
/// When the database fails.
pub async fn members(
    database: &dyn Database,
    project_id: &str,
) -> Result<Vec<Member>, DatabaseError> {
    let sql = "SELECT user_id, role, created_at FROM project_members WHERE project_id = ?1
                  AND user_id <> (SELECT owner_id FROM projects WHERE project_id = ?1)
                ORDER BY created_at, user_id";
    let rows = database.execute(sql, vec![project_id.into()]).await?;
    rows.into_iter()
        .map(|mut row| {
            Ok(Member {
                user_id: row.text(0)?,
                role: Role::read(&row.text(1)?)?,
                created_at: row.integer(2)?,
            })
        })
        .collect()
}

/// Gives a user a role in a project.
///
/// # Errors
/// When the database fails. Doing it again is harmless.
pub async fn set_member(
    database: &dyn Database,
    clock: &dyn Clock,
    project_id: &str,
    user_id: &str,
    role: Role,
) -> Result<(), DatabaseError> {
    let sql = "INSERT INTO project_members (project_id, user_id, role, created_at) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT (project_id, user_id) DO UPDATE SET role = excluded.role";
    let parameters = vec![
        project_id.into(),
        user_id.into(),
        role.as_str().into(),
        clock.unix_seconds().into(),
    ];
    database.execute(sql, parameters).await?;
    touch(database, clock, project_id).await.map(|_| ())
}

/// Takes a user's role away; `false` where there was none.
///
/// # Errors
/// When the database fails. Doing it again is harmless.
pub async fn remove_member(
    database: &dyn Database,
    clock: &dyn Clock,
    project_id: &str,
    user_id: &str,
) -> Result<bool, DatabaseError> {
    let sql = "DELETE FROM project_members WHERE project_id = ?1 AND user_id = ?2 RETURNING 1";
    let parameters = vec![project_id.into(), user_id.into()];
    let removed = changes(database, sql, parameters).await?;
    // Also where there was none: an earlier try may have died between the two.
    touch(database, clock, project_id).await?;
    Ok(removed)
}

/// Deleted projects that may still have something, to be seen to now.
///
/// # Errors
/// When the database fails.
pub async fn to_purge(
    database: &dyn Database,
    clock: &dyn Clock,
    limit: u64,
) -> Result<Vec<String>, DatabaseError> {
    // Those that wait longest: what fails, or is to be done again, comes behind the others.
    let sql = "UPDATE projects SET updated_at = ?2 WHERE project_id IN (
                   SELECT project_id FROM projects WHERE deleted_at IS NOT NULL AND purged_at IS NULL
                    ORDER BY updated_at LIMIT ?1)
               RETURNING project_id";
    let parameters = vec![limit.into(), clock.unix_seconds().into()];
    let rows = database.execute(sql, parameters).await?;
    rows.into_iter().map(|mut row| row.text(0)).collect()
}

/// The rest of a deleted project was just deleted. Some time after its end, for what was under way then may have
/// brought something back, its members and tokens are deleted too, and nothing is left to be purged.
///
/// # Errors
/// When the database fails. Doing it again is harmless.
pub async fn purged(
    database: &dyn Database,
    clock: &dyn Clock,
    project_id: &str,
) -> Result<(), DatabaseError> {
    let now = clock.unix_seconds();
    for table in ["project_members", "project_tokens"] {
        let sql = format!(
            "DELETE FROM {table} WHERE project_id = ?1
                AND EXISTS (SELECT 1 FROM projects WHERE project_id = ?1 AND deleted_at <= ?2)"
        );
        let parameters = vec![project_id.into(), (now - UNDER_WAY).into()];
        database.execute(&sql, parameters).await?;
    }
    let sql = "UPDATE projects SET purged_at = ?2 WHERE project_id = ?1 AND deleted_at <= ?3";
    let parameters = vec![project_id.into(), now.into(), (now - UNDER_WAY).into()];
    database.execute(sql, parameters).await.map(|_| ())
}
