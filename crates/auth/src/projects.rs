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

/// Renames a project; `None` where there is none.
///
/// # Errors
/// When the database fails.
pub async fn rename(
    database: &dyn Database,
    clock: &dyn Clock,
    project_id: &str,
    name: &str,
) -> Result<Option<Project>, DatabaseError> {
    let sql = format!(
        "UPDATE projects AS p SET name = ?2, updated_at = ?3
          WHERE p.project_id = ?1 AND p.deleted_at IS NULL RETURNING {}",
        COLUMNS.replace("p.", "")
    );
    let parameters = vec![project_id.into(), name.into(), clock.unix_seconds().into()];
    one(database, &sql, parameters).await
}

/// A change of a project's owner.
#[derive(Debug, Clone, Copy)]
pub struct Transfer<'a> {
    /// The owner that the caller knows of. If it is another one by now, nothing changes.
    pub from: &'a str,
    /// The owner to be: a member, or the present owner.
    pub to: &'a str,
    /// Whether all tokens of the project end.
    pub revoke_tokens: bool,
}

/// Whether a transfer of project `?1` from `?2` to `?3` is still possible.
const TRANSFERABLE: &str = "EXISTS (
    SELECT 1 FROM projects WHERE project_id = ?1 AND owner_id = ?2 AND deleted_at IS NULL
       AND (?3 = ?2 OR EXISTS (SELECT 1 FROM project_members WHERE project_id = ?1 AND user_id = ?3)))";

/// Gives a project away, and renames it where there is a name. The former owner may go on writing. `None` where there
/// is no such project, it has another owner by now, or the owner to be is no member: then nothing has changed.
///
/// The former owner's role and the end of the tokens come first. What fails after one of them leaves the project with
/// its owner, who can do it again.
///
/// # Errors
/// When the database fails.
pub async fn give(
    database: &dyn Database,
    clock: &dyn Clock,
    project_id: &str,
    name: Option<&str>,
    transfer: Transfer<'_>,
) -> Result<Option<Project>, DatabaseError> {
    let Transfer { from, to, .. } = transfer;
    let parties = || vec![project_id.into(), from.into(), to.into()];
    let now = clock.unix_seconds();
    let sql = format!(
        "INSERT INTO project_members (project_id, user_id, role, created_at)
         SELECT ?1, ?2, 'write', ?4 WHERE ?3 <> ?2 AND {TRANSFERABLE}
         ON CONFLICT (project_id, user_id) DO UPDATE SET role = excluded.role"
    );
    let parameters = [parties(), vec![now.into()]].concat();
    database.execute(&sql, parameters).await?;
    if transfer.revoke_tokens {
        let sql = format!("DELETE FROM project_tokens WHERE project_id = ?1 AND {TRANSFERABLE}");
        database.execute(&sql, parties()).await?;
    }
    let sql = format!(
        "UPDATE projects SET owner_id = ?3, name = ifnull(?4, name), updated_at = ?5, access_rev = access_rev + 1
          WHERE project_id = ?1 AND owner_id = ?2 AND {TRANSFERABLE} RETURNING {}",
        COLUMNS.replace("p.", "")
    );
    let parameters = [parties(), vec![name.into(), now.into()]].concat();
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

/// Takes a user's role away, and revokes the tokens that they made; `false` where there was no role. The owner has
/// none to be taken away.
///
/// # Errors
/// When the database fails. Doing it again is harmless.
pub async fn remove_member(
    database: &dyn Database,
    clock: &dyn Clock,
    project_id: &str,
    user_id: &str,
) -> Result<bool, DatabaseError> {
    const NOT_OWNER: &str =
        "NOT EXISTS (SELECT 1 FROM projects WHERE project_id = ?1 AND owner_id = ?2)";
    let parameters = || vec![project_id.into(), user_id.into()];
    let sql = format!(
        "DELETE FROM project_members WHERE project_id = ?1 AND user_id = ?2 AND {NOT_OWNER} RETURNING 1"
    );
    let removed = changes(database, &sql, parameters()).await?;
    // From now on these tokens hold no more. They are deleted too, lest they hold again once the user comes back.
    // Also where there was no role: an earlier try may have died between the statements.
    let sql = format!(
        "DELETE FROM project_tokens WHERE project_id = ?1 AND created_by = 'user:' || ?2 AND {NOT_OWNER}"
    );
    database.execute(&sql, parameters()).await?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        tokens::{self, NewToken},
        world::world,
    };
    use platform::native::{World, block_on};

    /// A world with a project `p` of `ann`, in which `bob` writes and `eve` reads.
    fn shared() -> World {
        let world = world(&[]);
        let ports = world.ports();
        let new = NewProject {
            project_id: "p",
            name: "a canvas",
            owner_id: "ann",
        };
        block_on(create(ports.database, ports.clock, new)).unwrap();
        for (user, role) in [("bob", Role::Write), ("eve", Role::Read)] {
            block_on(set_member(ports.database, ports.clock, "p", user, role)).unwrap();
        }
        world
    }

    fn given(world: &World, from: &str, to: &str, revoke_tokens: bool) -> Option<String> {
        let ports = world.ports();
        let transfer = Transfer {
            from,
            to,
            revoke_tokens,
        };
        let given = block_on(give(ports.database, ports.clock, "p", None, transfer)).unwrap();
        given.map(|project| project.owner_id)
    }

    fn members_of(world: &World) -> Vec<(String, Role)> {
        let members = block_on(members(world.ports().database, "p")).unwrap();
        let mut members: Vec<_> = members
            .into_iter()
            .map(|member| (member.user_id, member.role))
            .collect();
        members.sort();
        members
    }

    fn make_token(world: &World, created_by: &str) -> String {
        let ports = world.ports();
        let new = NewToken {
            project_id: "p",
            name: "agent",
            role: Role::Write,
            expires_at: None,
            created_by,
        };
        block_on(tokens::create(ports.database, ports.clock, new))
            .unwrap()
            .1
    }

    fn holds(world: &World, token: &str) -> bool {
        block_on(tokens::verify(world.ports(), token))
            .unwrap()
            .is_some()
    }

    #[test]
    fn a_project_goes_to_a_member_and_from_its_owner_alone() {
        let world = shared();
        assert_eq!(given(&world, "ann", "stranger", true), None);
        assert_eq!(given(&world, "bob", "eve", true), None);
        let before = [
            ("bob".to_owned(), Role::Write),
            ("eve".to_owned(), Role::Read),
        ];
        assert_eq!(members_of(&world), before);
        // Two at once, which both read that it is Ann's: one wins.
        assert_eq!(given(&world, "ann", "bob", false).as_deref(), Some("bob"));
        assert_eq!(given(&world, "ann", "eve", false), None);
        let after = [
            ("ann".to_owned(), Role::Write),
            ("eve".to_owned(), Role::Read),
        ];
        assert_eq!(members_of(&world), after);
        // Who has left meanwhile is not brought back by a transfer that comes too late.
        let ports = world.ports();
        assert!(block_on(remove_member(ports.database, ports.clock, "p", "ann")).unwrap());
        assert_eq!(given(&world, "ann", "eve", false), None);
        assert_eq!(members_of(&world), after[1..]);
        // To whom has it already: harmless.
        assert_eq!(given(&world, "bob", "bob", false).as_deref(), Some("bob"));
        assert_eq!(members_of(&world), after[1..]);
    }

    #[test]
    fn tokens_end_with_their_maker_or_with_the_transfer() {
        let world = shared();
        let (of_ann, of_server) = (make_token(&world, "user:ann"), make_token(&world, "server"));
        // A transfer that is refused ends none.
        assert_eq!(given(&world, "ann", "stranger", true), None);
        assert_eq!(given(&world, "ann", "bob", false).as_deref(), Some("bob"));
        let of_bob = make_token(&world, "user:bob");
        assert!(holds(&world, &of_ann) && holds(&world, &of_server) && holds(&world, &of_bob));
        let ports = world.ports();
        let remove =
            |user| block_on(remove_member(ports.database, ports.clock, "p", user)).unwrap();
        assert!(remove("ann"));
        assert!(!holds(&world, &of_ann) && holds(&world, &of_server));
        // Not by coming back either.
        block_on(set_member(
            ports.database,
            ports.clock,
            "p",
            "ann",
            Role::Write,
        ))
        .unwrap();
        assert!(!holds(&world, &of_ann));
        assert!(!remove("bob"), "the owner has no role to be taken away");
        assert!(holds(&world, &of_bob));
        assert_eq!(given(&world, "bob", "ann", true).as_deref(), Some("ann"));
        assert!(!holds(&world, &of_server) && !holds(&world, &of_bob));
        assert!(
            block_on(tokens::list(ports.database, "p"))
                .unwrap()
                .is_empty()
        );
    }

    /// As an older release left it, or a process that was killed between two statements.
    #[test]
    fn a_token_whose_maker_is_gone_holds_no_more() {
        let world = shared();
        let token = make_token(&world, "user:gone");
        assert!(!holds(&world, &token));
        let listed = block_on(tokens::list(world.ports().database, "p")).unwrap();
        assert!(listed.is_empty(), "{listed:?}");
    }
}
