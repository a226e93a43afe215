//! The tokens of agents. Each is for one project and has a role; the database has only its digest.
//!
//! A token is `lst_{id}_{secret}`. No check of a token is cached, so a revoked token is refused at once.

use platform::{Clock, Database, DatabaseError, Ports, Row};
use serde::Serialize;

use crate::{principal::Principal, role::Role, secrets};

/// A token without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Token {
    /// The token's id.
    pub token_id: String,
    /// The name that its maker gave it.
    pub name: String,
    /// The role of its agent in the project: read or write.
    pub role: Role,
    /// The id of the user who made it; `None` if the trusted backend did.
    pub created_by: Option<String>,
    /// The time at which it was made, in Unix seconds.
    pub created_at: i64,
    /// The end of the token, in Unix seconds; `None` if it never ends.
    pub expires_at: Option<i64>,
    /// The time at which it was last used, in Unix seconds, to within a minute.
    pub last_used_at: Option<i64>,
}

impl Token {
    /// Returns whether the token is valid at this time, in Unix seconds.
    pub fn holds_at(&self, now: i64) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

/// A token to make.
#[derive(Debug, Clone)]
pub struct NewToken<'a> {
    /// The project's id.
    pub project_id: &'a str,
    /// The name that its maker gives it.
    pub name: &'a str,
    /// The role of its agent in the project: read or write.
    pub role: Role,
    /// The end of the token, in Unix seconds; `None` if it never ends.
    pub expires_at: Option<i64>,
    /// The name of the principal that makes it.
    pub created_by: &'a str,
}

const COLUMNS: &str = "token_id, name, role, created_at, expires_at, last_used_at, created_by";

/// The condition that the user who made a token of `project_tokens t` still belongs to the project.
const MAKER_BELONGS: &str = "(t.created_by NOT LIKE 'user:%'
     OR EXISTS (SELECT 1 FROM projects p
                 WHERE p.project_id = t.project_id AND p.owner_id = substr(t.created_by, 6))
     OR EXISTS (SELECT 1 FROM project_members m
                 WHERE m.project_id = t.project_id AND m.user_id = substr(t.created_by, 6)))";

/// The resolution of `last_used_at`, in seconds, so that not every use costs a write.
const USE_RESOLUTION: i64 = 60;

const PREFIX: &str = "lst_";
const ID: usize = 16;
const SECRET: usize = 43;

/// Makes a token. The second value is the whole token; this is the only time that it can be read.
///
/// # Errors
/// If the database fails. A token that was stored all the same is of no use, because its secret is lost.
pub async fn create(
    database: &dyn Database,
    clock: &dyn Clock,
    new: NewToken<'_>,
) -> Result<(Token, String), DatabaseError> {
    let token = Token {
        token_id: secrets::word(ID),
        name: new.name.to_owned(),
        role: new.role,
        created_by: maker(new.created_by),
        created_at: clock.unix_seconds(),
        expires_at: new.expires_at,
        last_used_at: None,
    };
    let shown = format!("{PREFIX}{}_{}", token.token_id, secrets::word(SECRET));
    database
        .execute(
            "INSERT INTO project_tokens (token_id, project_id, name, role, digest, created_by, created_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            vec![
                token.token_id.as_str().into(),
                new.project_id.into(),
                new.name.into(),
                new.role.as_str().into(),
                secrets::digest(&shown).into(),
                new.created_by.into(),
                token.created_at.into(),
                new.expires_at.into(),
            ],
        )
        .await?;
    Ok((token, shown))
}

/// Lists the tokens of a project, oldest first.
///
/// # Errors
/// If the database fails.
pub async fn list(database: &dyn Database, project_id: &str) -> Result<Vec<Token>, DatabaseError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM project_tokens t WHERE project_id = ?1 AND {MAKER_BELONGS}
          ORDER BY created_at, token_id"
    );
    let rows = database.execute(&sql, vec![project_id.into()]).await?;
    rows.into_iter().map(token).collect()
}

/// Revokes a token of a project; `false` if there is none.
///
/// # Errors
/// If the database fails.
pub async fn revoke(
    database: &dyn Database,
    project_id: &str,
    token_id: &str,
) -> Result<bool, DatabaseError> {
    let sql = "DELETE FROM project_tokens WHERE token_id = ?1 AND project_id = ?2 RETURNING 1";
    let rows = database
        .execute(sql, vec![token_id.into(), project_id.into()])
        .await?;
    Ok(!rows.is_empty())
}

/// Returns whether this looks like a token that was made here.
pub fn is_like_ours(given: &str) -> bool {
    given.starts_with(PREFIX)
}

/// Finds the agent of a token; `None` if there is no such token, it has ended, or its maker has left the project.
///
/// # Errors
/// If the database fails.
pub async fn verify(ports: Ports<'_>, given: &str) -> Result<Option<Principal>, DatabaseError> {
    let id = given
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once('_'));
    let Some((id, _)) = id.filter(|_| given.len() == PREFIX.len() + ID + 1 + SECRET) else {
        return Ok(None);
    };
    let sql = format!(
        "SELECT {COLUMNS}, project_id, digest FROM project_tokens t WHERE token_id = ?1 AND {MAKER_BELONGS}"
    );
    let rows = ports.database.execute(&sql, vec![id.into()]).await?;
    let Some(mut row) = rows.into_iter().next() else {
        return Ok(None);
    };
    let (project_id, digest) = (row.text(7)?, row.text(8)?);
    let token = token(row)?;
    let now = ports.clock.unix_seconds();
    let is_it = secrets::same(&digest, &secrets::digest(given));
    if !is_it || !token.holds_at(now) {
        return Ok(None);
    }
    if token
        .last_used_at
        .is_none_or(|used| now - used >= USE_RESOLUTION)
    {
        let sql = "UPDATE project_tokens SET last_used_at = ?2 WHERE token_id = ?1";
        let used = ports
            .database
            .execute(sql, vec![id.into(), now.into()])
            .await;
        if let Err(error) = used {
            tracing::warn!(token = id, %error, "the use of a token was not recorded");
        }
    }
    Ok(Some(Principal::Token {
        id: token.token_id,
        project_id,
        role: token.role,
        expires_at: token.expires_at,
    }))
}

fn token(mut row: Row) -> Result<Token, DatabaseError> {
    Ok(Token {
        token_id: row.text(0)?,
        name: row.text(1)?,
        role: Role::read(&row.text(2)?)?,
        created_at: row.integer(3)?,
        expires_at: row.optional_integer(4)?,
        last_used_at: row.optional_integer(5)?,
        created_by: maker(&row.text(6)?),
    })
}

/// The id of a user from the name of a principal.
fn maker(principal: &str) -> Option<String> {
    principal.strip_prefix("user:").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{make_project, world};
    use platform::native::block_on;

    #[test]
    fn the_use_of_a_token_is_recorded_to_the_minute() {
        let world = world(&[]);
        let ports = world.ports();
        make_project(&world, "p", "u");
        let new = NewToken {
            project_id: "p",
            name: "agent",
            role: Role::Read,
            expires_at: None,
            created_by: "user:u",
        };
        let (_, token) = block_on(create(ports.database, ports.clock, new)).unwrap();
        let used = || block_on(list(ports.database, "p")).unwrap()[0].last_used_at;
        assert_eq!(used(), None);
        for (now, recorded) in [(100, 100), (159, 100), (160, 160), (219, 160), (1000, 1000)] {
            world.clock.0.set(now);
            assert!(block_on(verify(ports, &token)).unwrap().is_some());
            assert_eq!(used(), Some(recorded), "at {now}");
        }
    }

    #[test]
    fn a_token_is_its_project_s_until_it_ends_or_is_revoked() {
        let world = world(&[]);
        let ports = world.ports();
        for project_id in ["p", "q"] {
            make_project(&world, project_id, "u");
        }
        let new = |project_id, expires_at| NewToken {
            project_id,
            name: "agent",
            role: Role::Write,
            expires_at,
            created_by: "user:u",
        };
        let made = |project, end| {
            block_on(create(ports.database, ports.clock, new(project, end))).unwrap()
        };
        let verified = |token: &str| block_on(verify(ports, token)).unwrap();
        let (first, token) = made("p", None);
        let (_, ending) = made("q", Some(100));
        assert_eq!(
            verified(&token),
            Some(Principal::Token {
                id: first.token_id.clone(),
                project_id: "p".into(),
                role: Role::Write,
                expires_at: None
            })
        );
        assert!(verified(&ending).is_some());
        for wrong in [
            "",
            "lst_",
            &token[1..],
            &token[..token.len() - 1],
            &format!("{token}a"),
            &format!("{}{}", &token[..token.len() - 1], "-"),
            &format!("{}{}", &token[..21], &ending[21..]),
        ] {
            assert_eq!(verified(wrong), None, "{wrong}");
        }
        let listed = block_on(list(ports.database, "p")).unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].last_used_at, Some(0));
        assert_eq!(listed[0].created_by.as_deref(), Some("u"));
        assert_eq!(first.created_by.as_deref(), Some("u"));
        let rows = world.rows("SELECT * FROM project_tokens");
        assert!(!format!("{rows:?}").contains(&token), "the token is stored");
        world.clock.0.set(100);
        assert_eq!(verified(&ending), None);
        assert!(!block_on(revoke(ports.database, "q", &first.token_id)).unwrap());
        assert!(block_on(revoke(ports.database, "p", &first.token_id)).unwrap());
        assert_eq!(verified(&token), None);
    }
}
