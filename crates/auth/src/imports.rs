//! Projects that an import is making.
//!
//! While an import is under way, the row of its project has no owner, and the import's token as its name. It is no
//! project to any user, because no user has an empty id, but its id is taken. If the import breaks off, its token is of no
//! use after [`UNDER_WAY`]: another import of that id, or the sweep, takes the row over.

use platform::{Clock, Database, DatabaseError, Value};
use serde_json::json;

use crate::{
    projects::{NewProject, UNDER_WAY, changes},
    role::Role,
};

/// The result of reserving an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reservation {
    /// The id is reserved for the import.
    Made,
    /// A project has, or had, this id.
    Taken,
    /// Another import of this id is under way.
    UnderWay,
}

/// Reserves an id for the import with this token; also one whose import broke off.
///
/// # Errors
/// If the database fails.
pub async fn reserve(
    database: &dyn Database,
    clock: &dyn Clock,
    project_id: &str,
    token: &str,
) -> Result<Reservation, DatabaseError> {
    let now = clock.unix_seconds();
    let sql = "INSERT INTO projects (project_id, name, owner_id, created_at, updated_at) VALUES (?1, ?2, '', ?3, ?3)
               ON CONFLICT (project_id) DO UPDATE SET name = excluded.name, updated_at = excluded.updated_at
                WHERE projects.owner_id = '' AND projects.updated_at <= ?4 RETURNING 1";
    let parameters = vec![
        project_id.into(),
        token.into(),
        now.into(),
        (now - UNDER_WAY).into(),
    ];
    if changes(database, sql, parameters).await? {
        return Ok(Reservation::Made);
    }
    let sql = "SELECT 1 FROM projects WHERE project_id = ?1 AND owner_id <> ''";
    let is_taken = changes(database, sql, vec![project_id.into()]).await?;
    Ok(if is_taken {
        Reservation::Taken
    } else {
        Reservation::UnderWay
    })
}

/// The condition that project `?1` is reserved by token `?2`.
const RESERVED: &str =
    "EXISTS (SELECT 1 FROM projects WHERE project_id = ?1 AND owner_id = '' AND name = ?2)";

fn reserved(project_id: &str, token: &str) -> Vec<Value> {
    vec![project_id.into(), token.into()]
}

/// Returns whether the id is still reserved by this token.
///
/// # Errors
/// If the database fails.
pub async fn is_reserved(
    database: &dyn Database,
    project_id: &str,
    token: &str,
) -> Result<bool, DatabaseError> {
    let sql = format!("SELECT 1 WHERE {RESERVED}");
    changes(database, &sql, reserved(project_id, token)).await
}

/// Stores the members of a project whose id is reserved by this token.
///
/// # Errors
/// If the database fails. Doing it again is harmless.
pub async fn add_members(
    database: &dyn Database,
    clock: &dyn Clock,
    project_id: &str,
    token: &str,
    members: &[(&str, Role)],
) -> Result<(), DatabaseError> {
    let members: Vec<_> = members
        .iter()
        .map(|(user, role)| json!([user, role.as_str()]))
        .collect();
    let sql = format!(
        "INSERT INTO project_members (project_id, user_id, role, created_at)
         SELECT ?1, json_extract(m.value, '$[0]'), json_extract(m.value, '$[1]'), ?4 FROM json_each(?3) m
          WHERE {RESERVED}
         ON CONFLICT (project_id, user_id) DO UPDATE SET role = excluded.role"
    );
    let rest = vec![
        json!(members).to_string().into(),
        clock.unix_seconds().into(),
    ];
    let parameters = [reserved(project_id, token), rest].concat();
    database.execute(&sql, parameters).await.map(drop)
}

/// Makes a project of the id that is reserved by this token; `false` if it is no longer reserved by it.
///
/// # Errors
/// If the database fails. The project may have been made all the same: then the id is not reserved any more.
pub async fn publish(
    database: &dyn Database,
    clock: &dyn Clock,
    token: &str,
    new: NewProject<'_>,
) -> Result<bool, DatabaseError> {
    let sql = "UPDATE projects SET name = ?3, owner_id = ?4, created_at = ?5, updated_at = ?5
                WHERE project_id = ?1 AND owner_id = '' AND name = ?2 RETURNING 1";
    let rest = vec![
        new.name.into(),
        new.owner_id.into(),
        clock.unix_seconds().into(),
    ];
    let parameters = [reserved(new.project_id, token), rest].concat();
    changes(database, sql, parameters).await
}

/// Deletes the members that an import has stored, if the id is reserved by this token.
///
/// # Errors
/// If the database fails. Doing it again is harmless.
pub async fn drop_members(
    database: &dyn Database,
    project_id: &str,
    token: &str,
) -> Result<(), DatabaseError> {
    let sql = format!("DELETE FROM project_members WHERE project_id = ?1 AND {RESERVED}");
    let parameters = reserved(project_id, token);
    database.execute(&sql, parameters).await.map(drop)
}

/// Frees an id that is reserved by this token. The caller has purged what the import stored.
///
/// # Errors
/// If the database fails. Doing it again is harmless.
pub async fn release(
    database: &dyn Database,
    project_id: &str,
    token: &str,
) -> Result<(), DatabaseError> {
    let sql = "DELETE FROM projects WHERE project_id = ?1 AND owner_id = '' AND name = ?2";
    let parameters = reserved(project_id, token);
    database.execute(sql, parameters).await.map(drop)
}

/// Takes over up to `limit` ids whose imports broke off, for the sweep with this token, which purges and releases them.
/// The longest waiting come first. If the sweep dies, a later one takes them over.
///
/// # Errors
/// If the database fails.
pub async fn take_abandoned(
    database: &dyn Database,
    clock: &dyn Clock,
    token: &str,
    limit: u64,
) -> Result<Vec<String>, DatabaseError> {
    let now = clock.unix_seconds();
    let sql = "UPDATE projects SET name = ?1, updated_at = ?2 WHERE project_id IN (
                   SELECT project_id FROM projects WHERE owner_id = '' AND updated_at <= ?3
                    ORDER BY updated_at LIMIT ?4)
               RETURNING project_id";
    let parameters = vec![
        token.into(),
        now.into(),
        (now - UNDER_WAY).into(),
        limit.into(),
    ];
    let rows = database.execute(sql, parameters).await?;
    rows.into_iter().map(|mut row| row.text(0)).collect()
}
