//! The projects and their members. Every change of access counts up the project's `access_rev`, by which relays notice
//! it: in the same statement, or in a later one if the change is in another table.

use platform::{Clock, Database, DatabaseError, Row, Value};
use problem::{Kind, Problem};
use serde::Serialize;

use crate::role::Role;

/// A project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Project {
    /// The project's id.
    pub project_id: String,
    /// The project's name, for people.
    pub name: String,
    /// The id of the user who owns it.
    pub owner_id: String,
    /// The time at which it was made, in Unix seconds.
    pub created_at: i64,
    /// The time at which the name of the project, or the access to it, last changed, in Unix seconds.
    pub updated_at: i64,
}

/// A member of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// The user.
    pub user_id: String,
    /// The user's role: read or write.
    pub role: Role,
    /// The time at which the user became a member, in Unix seconds.
    pub created_at: i64,
}

/// A project to make.
#[derive(Debug, Clone, Copy)]
pub struct NewProject<'a> {
    /// The project's id. The caller has checked it (`wire::is_project_id`).
    pub project_id: &'a str,
    /// The project's name, for people.
    pub name: &'a str,
    /// The id of the user who will own it.
    pub owner_id: &'a str,
}

/// The state of a project, and the role of a user in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProjectState {
    pub(crate) role: Option<Role>,
    pub(crate) access_rev: u64,
    pub(crate) is_deleted: bool,
}

/// The longest name of a project, in characters.
pub const MAX_NAME: usize = 200;

/// The longest id of a user, in bytes.
const MAX_USER: usize = 255;

/// Returns whether a text can be a user's id.
pub fn is_user_id(id: &str) -> bool {
    (1..=MAX_USER).contains(&id.len()) && !id.chars().any(char::is_control)
}

/// The answer to a caller who imports a project under an id whose import is under way.
pub fn id_is_imported() -> Problem {
    let words = "A project of this id is being imported. If that import broke off, import it again in ten minutes.";
    Problem::new(Kind::PROJECT_EXISTS, words).with_header("retry-after", UNDER_WAY.to_string())
}

/// The answer to a caller whose project id is taken.
pub fn id_is_taken() -> Problem {
    let words = "A project has, or had, this id. Ids are not used twice.";
    Problem::new(Kind::PROJECT_EXISTS, words)
}

const COLUMNS: &str = "p.project_id, p.name, p.owner_id, p.created_at, p.updated_at";

/// The condition that the row is of a project that exists: it is neither deleted nor of an [import](crate::imports).
const EXISTS: &str = "deleted_at IS NULL AND owner_id <> ''";

/// The longest time that work may still go on after its project was deleted, and the longest time that an import may
/// take, in seconds.
pub(crate) const UNDER_WAY: i64 = 600;

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

/// Returns whether a statement finds rows; with `RETURNING`, whether it changes any.
pub(crate) async fn changes(
    database: &dyn Database,
    sql: &str,
    parameters: Vec<Value>,
) -> Result<bool, DatabaseError> {
    Ok(!database.execute(sql, parameters).await?.is_empty())
}

/// Makes a project; `false` if its id is or was taken.
///
/// # Errors
/// If the database fails.
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

/// Reads the state of a project, and the role of a user in it; `None` if no project ever had this id.
pub(crate) async fn state(
    database: &dyn Database,
    project_id: &str,
    user_id: &str,
) -> Result<Option<ProjectState>, DatabaseError> {
    let sql = "SELECT p.owner_id = ?2, m.role, p.access_rev, p.deleted_at IS NOT NULL
                 FROM projects p
                 LEFT JOIN project_members m ON m.project_id = p.project_id AND m.user_id = ?2
                WHERE p.project_id = ?1 AND p.owner_id <> ''";
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
    Ok(Some(ProjectState {
        role,
        access_rev: row.unsigned(2)?,
        is_deleted: row.integer(3)? != 0,
    }))
}

/// Reads the `access_rev` of each of these projects; 0 for a project that does not exist.
///
/// # Errors
/// If the database fails.
pub async fn access_revs(
    database: &dyn Database,
    projects: &[String],
) -> Result<Vec<u64>, DatabaseError> {
    let list = serde_json::Value::from(projects).to_string();
    let sql =
        "SELECT j.key, p.access_rev FROM json_each(?1) j JOIN projects p ON p.project_id = j.value
                WHERE p.owner_id <> ''";
    let mut revs = vec![0; projects.len()];
    for row in database.execute(sql, vec![list.into()]).await? {
        let index = usize::try_from(row.unsigned(0)?).unwrap_or(usize::MAX);
        if let Some(rev) = revs.get_mut(index) {
            *rev = row.unsigned(1)?;
        }
    }
    Ok(revs)
}

/// Reads a project, if it exists.
///
/// # Errors
/// If the database fails.
pub async fn get(
    database: &dyn Database,
    project_id: &str,
) -> Result<Option<Project>, DatabaseError> {
    let sql = format!("SELECT {COLUMNS} FROM projects p WHERE p.project_id = ?1 AND {EXISTS}");
    one(database, &sql, vec![project_id.into()]).await
}

/// The projects to list.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    /// The projects that this user owns or is a member of.
    User(&'a str),
    /// The project with this id alone.
    Project(&'a str),
    /// The projects of all users.
    All,
}

/// Lists up to `limit` projects in the order of their ids, beginning after the id `after`.
///
/// # Errors
/// If the database fails.
pub async fn list(
    database: &dyn Database,
    scope: Scope<'_>,
    after: &str,
    limit: u64,
) -> Result<Vec<Project>, DatabaseError> {
    let (condition, who) = match scope {
        Scope::User(id) => (
            "p.project_id IN (SELECT project_id FROM projects WHERE owner_id = ?3
                 UNION SELECT project_id FROM project_members WHERE user_id = ?3)",
            id,
        ),
        Scope::Project(id) => ("p.project_id = ?3", id),
        Scope::All => ("?3 = ''", ""),
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM projects p
          WHERE {condition} AND {EXISTS} AND p.project_id > ?1
          ORDER BY p.project_id LIMIT ?2"
    );
    let parameters = vec![after.into(), limit.into(), who.into()];
    let rows = database.execute(&sql, parameters).await?;
    rows.into_iter().map(project).collect()
}

/// Renames a project; `None` if it does not exist.
///
/// # Errors
/// If the database fails.
pub async fn rename(
    database: &dyn Database,
    clock: &dyn Clock,
    project_id: &str,
    name: &str,
) -> Result<Option<Project>, DatabaseError> {
    let sql = format!(
        "UPDATE projects AS p SET name = ?2, updated_at = ?3
          WHERE p.project_id = ?1 AND {EXISTS} RETURNING {}",
        COLUMNS.replace("p.", "")
    );
    let parameters = vec![project_id.into(), name.into(), clock.unix_seconds().into()];
    one(database, &sql, parameters).await
}

/// A change of a project's owner.
#[derive(Debug, Clone, Copy)]
pub struct Transfer<'a> {
    /// The owner as the caller read it. If the owner has changed meanwhile, the transfer changes nothing.
    pub from: &'a str,
    /// The new owner: a member, or the present owner.
    pub to: &'a str,
    /// Says whether the transfer revokes all tokens of the project.
    pub revoke_tokens: bool,
}

/// The condition that a transfer of project `?1` from `?2` to `?3` is still possible.
const TRANSFERABLE: &str = "EXISTS (
    SELECT 1 FROM projects WHERE project_id = ?1 AND owner_id = ?2 AND deleted_at IS NULL
       AND (?3 = ?2 OR EXISTS (SELECT 1 FROM project_members WHERE project_id = ?1 AND user_id = ?3)))";

/// Gives a project to another owner, and renames it if there is a name. The former owner may go on writing. The result
/// is `None`, and nothing has changed, if there is no such project, its owner has changed meanwhile, or the new owner
/// is not a member.
///
/// The former owner's role and the end of the tokens come first. If a later statement fails, the project still has its
/// owner, who can try again. The end of the tokens is counted before they are deleted, and once more with the new owner,
/// because the last statement may fail: then relays notice all the same that the tokens are gone.
///
/// # Errors
/// If the database fails.
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
        let sql = format!(
            "UPDATE projects SET access_rev = access_rev + 1 WHERE project_id = ?1 AND {TRANSFERABLE}"
        );
        database.execute(&sql, parties()).await?;
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

/// Deletes a project; `false` if there is none. The project is gone at once, and its id is never used again. Its
/// contents are purged later.
///
/// # Errors
/// If the database fails.
pub async fn delete(
    database: &dyn Database,
    clock: &dyn Clock,
    project_id: &str,
) -> Result<bool, DatabaseError> {
    let sql = format!(
        "UPDATE projects SET deleted_at = ?2, updated_at = 0, access_rev = access_rev + 1
          WHERE project_id = ?1 AND {EXISTS} RETURNING 1"
    );
    let parameters = vec![project_id.into(), clock.unix_seconds().into()];
    changes(database, &sql, parameters).await
}

/// Counts up a project's `access_rev`; `false` if there is no such project.
///
/// # Errors
/// If the database fails.
pub async fn touch(
    database: &dyn Database,
    clock: &dyn Clock,
    project_id: &str,
) -> Result<bool, DatabaseError> {
    let sql = format!(
        "UPDATE projects SET access_rev = access_rev + 1, updated_at = ?2
          WHERE project_id = ?1 AND {EXISTS} RETURNING 1"
    );
    let parameters = vec![project_id.into(), clock.unix_seconds().into()];
    changes(database, &sql, parameters).await
}

/// Lists the members of a project. The owner is not among them.
///
/// # Errors
/// If the database fails.
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
/// If the database fails. Doing it again is harmless.
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

/// Takes a user's role away, and revokes the tokens that they made; `false` if the user had no role. The owner's role
/// cannot be taken away.
///
/// # Errors
/// If the database fails. Doing it again is harmless.
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
    // From here on the tokens that the user made are not valid. They are deleted as well, because they would be valid
    // again if the user came back. They are deleted even if there was no role, because an earlier try may have died
    // between the statements.
    let sql = format!(
        "DELETE FROM project_tokens WHERE project_id = ?1 AND created_by = 'user:' || ?2 AND {NOT_OWNER}"
    );
    database.execute(&sql, parameters()).await?;
    touch(database, clock, project_id).await?;
    Ok(removed)
}

/// Takes up to `limit` deleted projects that may still have contents to purge.
///
/// # Errors
/// If the database fails.
pub async fn to_purge(
    database: &dyn Database,
    clock: &dyn Clock,
    limit: u64,
) -> Result<Vec<String>, DatabaseError> {
    // The projects that have waited longest come first. A project that fails, or must be purged again, goes to the end
    // of the queue.
    let sql = "UPDATE projects SET updated_at = ?2 WHERE project_id IN (
                   SELECT project_id FROM projects WHERE deleted_at IS NOT NULL AND purged_at IS NULL
                    ORDER BY updated_at LIMIT ?1)
               RETURNING project_id";
    let parameters = vec![limit.into(), clock.unix_seconds().into()];
    let rows = database.execute(sql, parameters).await?;
    rows.into_iter().map(|mut row| row.text(0)).collect()
}

/// Records that a deleted project's contents were purged. Work that was under way at the deletion may bring contents
/// back, so the project is done only once such work must have ended: this then deletes its members and tokens, too.
///
/// # Errors
/// If the database fails. Doing it again is harmless.
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
        world::{make_project, world},
    };
    use platform::{
        Ports,
        native::{KillableDatabase, SqliteFile, World, block_on},
    };

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
    fn the_id_of_a_user_is_a_short_text_on_one_line() {
        for (id, is_one) in [
            ("a", true),
            ("auth0|ä 1", true),
            (&"a".repeat(255), true),
            (&"a".repeat(256), false),
            ("", false),
            ("a\nb", false),
            ("a\u{7f}", false),
        ] {
            assert_eq!(is_user_id(id), is_one, "{id:?}");
        }
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
        // If two transfers run at once, and both have read that Ann is the owner, one wins.
        assert_eq!(given(&world, "ann", "bob", false).as_deref(), Some("bob"));
        assert_eq!(given(&world, "ann", "eve", false), None);
        let after = [
            ("ann".to_owned(), Role::Write),
            ("eve".to_owned(), Role::Read),
        ];
        assert_eq!(members_of(&world), after);
        // A transfer that comes too late does not bring back a user who has left meanwhile.
        let ports = world.ports();
        assert!(block_on(remove_member(ports.database, ports.clock, "p", "ann")).unwrap());
        assert_eq!(given(&world, "ann", "eve", false), None);
        assert_eq!(members_of(&world), after[1..]);
        // A transfer to the present owner changes nothing.
        assert_eq!(given(&world, "bob", "bob", false).as_deref(), Some("bob"));
        assert_eq!(members_of(&world), after[1..]);
    }

    #[test]
    fn tokens_end_with_their_maker_or_with_the_transfer() {
        let world = shared();
        let (of_ann, of_server) = (make_token(&world, "user:ann"), make_token(&world, "server"));
        // A refused transfer revokes no tokens.
        assert_eq!(given(&world, "ann", "stranger", true), None);
        assert_eq!(given(&world, "ann", "bob", false).as_deref(), Some("bob"));
        let of_bob = make_token(&world, "user:bob");
        assert!(holds(&world, &of_ann) && holds(&world, &of_server) && holds(&world, &of_bob));
        let ports = world.ports();
        let remove =
            |user| block_on(remove_member(ports.database, ports.clock, "p", user)).unwrap();
        assert!(remove("ann"));
        assert!(!holds(&world, &of_ann) && holds(&world, &of_server));
        // The token stays revoked when its maker comes back.
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

    #[test]
    fn a_transfer_that_breaks_off_has_counted_what_it_has_changed() {
        const STATEMENTS: u32 = 4;
        for (statement, happens) in (1..=STATEMENTS).flat_map(|at| [(at, false), (at, true)]) {
            let case = format!("killed at statement {statement}, {happens}");
            let (world, killable) = (world(&[]), KillableDatabase::new(SqliteFile::with_schema()));
            let ports = Ports {
                database: &killable,
                ..world.ports()
            };
            let (database, clock) = (ports.database, ports.clock);
            let new = NewProject {
                owner_id: "ann",
                ..again()
            };
            assert!(block_on(create(database, clock, new)).unwrap());
            block_on(set_member(database, clock, "p", "bob", Role::Write)).unwrap();
            let new = NewToken {
                project_id: "p",
                name: "agent",
                role: Role::Write,
                expires_at: None,
                created_by: "server",
            };
            let (_, token) = block_on(tokens::create(database, clock, new)).unwrap();
            let rev = || block_on(access_revs(database, &["p".to_owned()])).unwrap()[0];
            let owner = || block_on(get(database, "p")).unwrap().unwrap().owner_id;
            let holds = || block_on(tokens::verify(ports, &token)).unwrap().is_some();
            let give = || {
                let transfer = Transfer {
                    from: "ann",
                    to: "bob",
                    revoke_tokens: true,
                };
                block_on(give(database, clock, "p", None, transfer))
            };
            let before = rev();
            killable.kill_after(statement, happens);
            assert!(give().is_err(), "{case}");
            killable.revive();
            assert!(rev() > before || (holds() && owner() == "ann"), "{case}");
            if owner() == "ann" {
                assert!(give().unwrap().is_some(), "{case}");
            }
            assert!(owner() == "bob" && !holds(), "{case}");
        }
    }

    fn ids(projects: Vec<Project>) -> Vec<String> {
        projects
            .into_iter()
            .map(|project| project.project_id)
            .collect()
    }

    #[test]
    fn a_user_lists_their_own_projects_and_those_of_others_that_they_share() {
        let world = shared();
        make_project(&world, "q", "bob");
        make_project(&world, "r", "ann");
        let database = world.ports().database;
        let listed =
            |scope, after, limit| ids(block_on(list(database, scope, after, limit)).unwrap());
        for (scope, after, limit, expected) in [
            (Scope::User("ann"), "", 10, &["p", "r"][..]),
            (Scope::User("bob"), "", 10, &["p", "q"]),
            (Scope::User("eve"), "", 10, &["p"]),
            (Scope::User(""), "", 10, &[]),
            (Scope::User("bob"), "p", 10, &["q"]),
            (Scope::All, "", 10, &["p", "q", "r"]),
            (Scope::All, "", 2, &["p", "q"]),
            (Scope::All, "p", 1, &["q"]),
            (Scope::Project("q"), "", 10, &["q"]),
            (Scope::Project("none"), "", 10, &[]),
        ] {
            assert_eq!(
                listed(scope, after, limit),
                expected,
                "{scope:?} after {after:?}"
            );
        }
        assert!(block_on(delete(database, &world.clock, "p")).unwrap());
        assert_eq!(listed(Scope::All, "", 10), ["q", "r"]);
        assert!(listed(Scope::Project("p"), "", 10).is_empty());
    }

    #[test]
    fn every_change_of_access_counts_and_a_new_name_does_not() {
        let world = shared();
        let (database, clock) = (world.ports().database, &world.clock);
        let asked = ["none".to_owned(), "p".to_owned()];
        let rev = || {
            let revs = block_on(access_revs(database, &asked)).unwrap();
            assert_eq!((revs.len(), revs[0]), (2, 0));
            revs[1]
        };
        let mut before = rev();
        clock.0.set(7);
        let renamed = block_on(rename(database, clock, "p", "a new name"))
            .unwrap()
            .unwrap();
        assert_eq!(
            (renamed.name.as_str(), renamed.updated_at),
            ("a new name", 7)
        );
        assert_eq!(block_on(get(database, "p")).unwrap(), Some(renamed));
        assert_eq!(
            block_on(rename(database, clock, "none", "x")).unwrap(),
            None
        );
        assert_eq!(rev(), before);
        let changes: [(&str, &dyn Fn()); 5] = [
            ("a new role", &|| {
                block_on(set_member(database, clock, "p", "eve", Role::Write)).unwrap()
            }),
            ("a member less", &|| {
                assert!(block_on(remove_member(database, clock, "p", "eve")).unwrap())
            }),
            ("a new owner", &|| {
                assert_eq!(given(&world, "ann", "bob", false).as_deref(), Some("bob"))
            }),
            ("a token", &|| {
                assert!(block_on(touch(database, clock, "p")).unwrap())
            }),
            ("the end", &|| {
                assert!(block_on(delete(database, clock, "p")).unwrap())
            }),
        ];
        for (name, change) in changes {
            change();
            assert!(rev() > before, "{name}");
            before = rev();
        }
        assert_eq!(block_on(get(database, "p")).unwrap(), None);
        assert!(!block_on(delete(database, clock, "p")).unwrap());
        assert!(!block_on(touch(database, clock, "p")).unwrap());
        assert!(
            !block_on(create(database, clock, again())).unwrap(),
            "an id is never used again"
        );
    }

    /// The project `p` of another user.
    fn again() -> NewProject<'static> {
        NewProject {
            project_id: "p",
            name: "p",
            owner_id: "stranger",
        }
    }

    #[test]
    fn a_deleted_project_is_purged_until_work_that_was_under_way_has_ended() {
        let world = shared();
        let token = make_token(&world, "server");
        make_project(&world, "q", "ann");
        let (database, clock) = (world.ports().database, &world.clock);
        let due = |limit| block_on(to_purge(database, clock, limit)).unwrap();
        let purge = |project| block_on(purged(database, clock, project)).unwrap();
        assert!(due(10).is_empty());
        // A project that exists keeps everything, even if it is purged by mistake.
        purge("p");
        assert_eq!(members_of(&world).len(), 2);
        clock.0.set(1000);
        for project in ["p", "q"] {
            assert!(block_on(delete(database, clock, project)).unwrap());
        }
        clock.0.set(1000 + UNDER_WAY - 1);
        assert_eq!(due(10).len(), 2);
        purge("p");
        assert_eq!(
            members_of(&world).len(),
            2,
            "work may still bring contents back"
        );
        // The project that has waited longest comes first.
        block_on(database.execute(
            "UPDATE projects SET updated_at = 3 WHERE project_id = 'q'",
            vec![],
        ))
        .unwrap();
        assert_eq!(due(1), ["q"]);
        clock.0.set(1000 + UNDER_WAY);
        purge("p");
        assert!(members_of(&world).is_empty() && !holds(&world, &token));
        assert!(world.rows("SELECT 1 FROM project_tokens").is_empty());
        assert_eq!(due(10), ["q"]);
        purge("q");
        assert!(due(10).is_empty());
    }

    /// An older release, or a process that was killed between two statements, may have left such a token.
    #[test]
    fn a_token_whose_maker_is_gone_is_not_valid() {
        let world = shared();
        let token = make_token(&world, "user:gone");
        assert!(!holds(&world, &token));
        let listed = block_on(tokens::list(world.ports().database, "p")).unwrap();
        assert!(listed.is_empty(), "{listed:?}");
    }
}
