//! The projects that imports are making.
//!
//! While an import is under way, the row of its project has no owner, and the import's token as its name. No user sees
//! this project, because no user has an empty id, but its id is taken. If the import breaks off, its token becomes
//! useless after [`UNDER_WAY`]: another import of that id, or the sweep, takes the row over.

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

/// Reserves an id for the import with this token. An id whose earlier import broke off can be reserved, too.
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

/// Makes the project whose id is reserved by this token; `false` if the token no longer reserves it.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        principal::Principal,
        projects,
        world::{make_project, world},
    };
    use platform::native::{World, block_on};

    fn reserve(world: &World, project_id: &str, token: &str) -> Reservation {
        let ports = world.ports();
        block_on(super::reserve(
            ports.database,
            ports.clock,
            project_id,
            token,
        ))
        .unwrap()
    }

    fn is_reserved(world: &World, token: &str) -> bool {
        block_on(super::is_reserved(world.ports().database, "a", token)).unwrap()
    }

    fn members(world: &World) -> Vec<(String, Role)> {
        let members = block_on(projects::members(world.ports().database, "a")).unwrap();
        let member = |member: projects::Member| (member.user_id, member.role);
        members.into_iter().map(member).collect()
    }

    fn add(world: &World, token: &str, role: Role) {
        let ports = world.ports();
        let members = [("bob", role)];
        let added = add_members(ports.database, ports.clock, "a", token, &members);
        block_on(added).unwrap();
    }

    fn publish(world: &World, token: &str) -> bool {
        let ports = world.ports();
        let new = NewProject {
            project_id: "a",
            name: "a",
            owner_id: "ada",
        };
        block_on(super::publish(ports.database, ports.clock, token, new)).unwrap()
    }

    /// An import whose id another import has taken over makes no project, and neither adds nor deletes any of the other
    /// import's members.
    #[test]
    fn an_id_is_of_one_import_at_a_time() {
        let world = world(&[]);
        let database = world.ports().database;
        make_project(&world, "taken", "ada");
        assert_eq!(reserve(&world, "taken", "one"), Reservation::Taken);
        assert_eq!(reserve(&world, "a", "one"), Reservation::Made);
        world.clock.0.set(world.clock.0.get() + UNDER_WAY - 1);
        assert_eq!(reserve(&world, "a", "two"), Reservation::UnderWay);
        assert!(is_reserved(&world, "one") && !is_reserved(&world, "two"));
        world.clock.0.set(world.clock.0.get() + 1);
        assert_eq!(reserve(&world, "a", "two"), Reservation::Made);
        assert!(is_reserved(&world, "two") && !is_reserved(&world, "one"));
        add(&world, "one", Role::Write);
        assert_eq!(members(&world), []);
        add(&world, "two", Role::Read);
        add(&world, "two", Role::Write);
        block_on(drop_members(database, "a", "one")).unwrap();
        assert_eq!(members(&world), [("bob".to_owned(), Role::Write)]);
        assert!(!publish(&world, "one"));
        block_on(release(database, "a", "one")).unwrap();
        assert!(publish(&world, "two"));
        assert!(!is_reserved(&world, "two"));
        // The id is a project's now, so no import can change it.
        block_on(drop_members(database, "a", "two")).unwrap();
        block_on(release(database, "a", "two")).unwrap();
        assert!(!publish(&world, "two"));
        assert_eq!(reserve(&world, "a", "three"), Reservation::Taken);
        let bob = Principal::User {
            id: "bob".into(),
            expires_at: None,
        };
        let grant = block_on(bob.access(world.ports(), "a")).unwrap();
        assert!(grant.require(Role::Write).is_ok());
    }

    #[test]
    fn what_an_import_has_stored_goes_with_it() {
        let world = world(&[]);
        let database = world.ports().database;
        assert_eq!(reserve(&world, "a", "one"), Reservation::Made);
        add(&world, "one", Role::Read);
        block_on(drop_members(database, "a", "one")).unwrap();
        assert_eq!(members(&world), []);
        block_on(release(database, "a", "one")).unwrap();
        assert!(!is_reserved(&world, "one"));
        assert_eq!(reserve(&world, "a", "two"), Reservation::Made);
    }

    #[test]
    fn the_sweep_takes_over_the_imports_that_broke_off_first() {
        let world = world(&[]);
        let ports = world.ports();
        make_project(&world, "whole", "ada");
        for (project, at) in [("x", 3), ("y", 1), ("z", 2), ("young", 4)] {
            world.clock.0.set(at);
            assert_eq!(reserve(&world, project, "token"), Reservation::Made);
        }
        world.clock.0.set(UNDER_WAY + 3);
        let take = |limit| {
            let taken = take_abandoned(ports.database, ports.clock, "sweep", limit);
            let mut taken = block_on(taken).unwrap();
            taken.sort();
            taken
        };
        assert_eq!(take(2), ["y", "z"]);
        assert_eq!(take(2), ["x"]);
        assert!(take(2).is_empty());
    }
}
