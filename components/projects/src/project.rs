//! `/projects` and `/projects/{project}`.

use auth::{
    Denied, Principal, Role,
    door::Entered,
    projects::{self, NewProject, Of, Project, Transfer},
    secrets, tokens,
};
use platform::{
    Ports, Problem,
    spin::{Incoming, Reply},
};
use serde_json::{Value, json};

use crate::{
    Answer,
    body::{Body, wrong},
    notice::Change,
};

/// The most projects in one answer.
const LIMIT: u64 = 200;

/// The projects of whoever asks, by their ids, page by page.
pub(crate) async fn list(ports: Ports<'_>, entered: &Entered, request: &Incoming) -> Answer {
    let principal = entered.principal()?;
    let limit = match request.query("limit").map(|limit| limit.parse::<u64>()) {
        None => LIMIT,
        Some(Ok(limit)) if (1..=LIMIT).contains(&limit) => limit,
        Some(_) => {
            let words = format!("`limit` is a whole number from 1 to {LIMIT}.");
            return Err(Problem::bad_request(words));
        }
    };
    let after = request.query("cursor").unwrap_or_default();
    let of = match principal {
        Principal::User { id, .. } => Of::User(id),
        Principal::Token { project_id, .. } => Of::Project(project_id),
        Principal::Server => Of::Everybody,
    };
    // One more tells whether there is another page.
    let mut found = projects::list(ports.database, of, &after, limit + 1).await?;
    let has_more = found.len() as u64 > limit;
    found.truncate(limit as usize);
    let next = found.last().filter(|_| has_more);
    let next = next.map(|project| project.project_id.clone());
    Ok((
        fresh(200, &json!({ "projects": found, "next_cursor": next })),
        None,
    ))
}

/// Makes a project. Whoever asks owns it.
pub(crate) async fn create(ports: Ports<'_>, entered: &Entered, request: Incoming) -> Answer {
    let body = Body::read(request).await?;
    let principal = entered.principal_again(ports).await?;
    let owner_id = match &principal {
        Principal::User { id, .. } => id.as_str(),
        Principal::Server => body
            .user("owner_id")?
            .ok_or_else(|| wrong("owner_id", "must say whose it is to be"))?,
        Principal::Token { .. } => {
            return Err(Problem::new(
                403,
                "users-only",
                "Not with this token",
                "A token is of one project, and makes no other.",
            ));
        }
    };
    let made;
    let project_id = match body.text("project_id")? {
        Some(id) => id,
        None => {
            made = secrets::word(20);
            &made
        }
    };
    if !wire::is_project_id(project_id) {
        return Err(Problem::bad_project_id());
    }
    let new = NewProject {
        project_id,
        name: body.name()?.unwrap_or(project_id),
        owner_id,
    };
    if !projects::create(ports.database, ports.clock, new).await? {
        return Err(Problem::new(
            409,
            "project-exists",
            "The id is taken",
            "There is, or was, a project of this id. Ids are not used twice.",
        ));
    }
    let project = find(ports, project_id).await?;
    let reply = fresh(201, &shown(&project, Role::Owner));
    let reply = reply.header("location", format!("/projects/{project_id}"));
    Ok((reply, None))
}

/// A project, and who may do what in it.
pub(crate) async fn get(ports: Ports<'_>, entered: &Entered) -> Answer {
    let id = entered.found.part(0);
    let grant = entered.principal()?.access(ports, id).await?;
    let project = find(ports, id).await?;
    let mut shown = shown(&project, grant.role);
    shown["members"] = json!(projects::members(ports.database, id).await?);
    Ok((fresh(200, &shown), None))
}

/// Renames a project, or gives it to a member, or both.
pub(crate) async fn update(ports: Ports<'_>, entered: &Entered, request: Incoming) -> Answer {
    let id = entered.found.part(0);
    let body = Body::read(request).await?;
    let principal = entered.still_may(ports).await?;
    let (name, owner_id) = (body.name()?, body.user("owner_id")?);
    let revoke_tokens = body.flag("revoke_tokens")?;
    if let Some(to) = owner_id {
        return give(ports, &principal, id, name, to, revoke_tokens).await;
    }
    if revoke_tokens {
        return Err(wrong("revoke_tokens", "goes with `owner_id`"));
    }
    let project = match name {
        Some(name) => projects::rename(ports.database, ports.clock, id, name).await?,
        None => projects::get(ports.database, id).await?,
    };
    let project = project.ok_or(Denied::NoSuchProject)?;
    Ok((fresh(200, &shown(&project, Role::Owner)), None))
}

/// Gives a project to a member. The former owner may go on writing. The answer tells how many tokens of the project
/// still hold.
async fn give(
    ports: Ports<'_>,
    principal: &Principal,
    id: &str,
    name: Option<&str>,
    to: &str,
    revoke_tokens: bool,
) -> Answer {
    // A user who came this far is the owner, or was a moment ago.
    let before = find(ports, id).await?;
    let from = match principal {
        Principal::User { id, .. } => id,
        _ => &before.owner_id,
    };
    let transfer = Transfer {
        from,
        to,
        revoke_tokens,
    };
    let given = projects::give(ports.database, ports.clock, id, name, transfer).await?;
    let Some(project) = given else {
        return Err(match find(ports, id).await?.owner_id == *from {
            true => wrong(
                "owner_id",
                "must be the id of a member: give them a role first",
            ),
            false => Problem::new(
                409,
                "owner-changed",
                "The owner has changed",
                "The project was given to another meanwhile.",
            ),
        });
    };
    let grant = principal.access(ports, id).await?;
    let now = ports.clock.unix_seconds();
    let tokens = tokens::list(ports.database, id).await?;
    let remaining = tokens.iter().filter(|token| token.holds_at(now)).count();
    let mut shown = shown(&project, grant.role);
    shown["tokens_remaining"] = json!(remaining);
    Ok((fresh(200, &shown), Some(Change::Access(id.to_owned()))))
}

/// Deletes a project. It is gone at once, and what it had soon after.
pub(crate) async fn delete(ports: Ports<'_>, entered: &Entered) -> Answer {
    let id = entered.found.part(0);
    if !projects::delete(ports.database, ports.clock, id).await? {
        return Err(Denied::NoSuchProject.into());
    }
    tracing::info!(project = id, "project deleted");
    let change = Change::Deleted(id.to_owned());
    Ok((Reply::new(204).without_body(), Some(change)))
}

async fn find(ports: Ports<'_>, id: &str) -> Result<Project, Problem> {
    let found = projects::get(ports.database, id).await?;
    Ok(found.ok_or(Denied::NoSuchProject)?)
}

fn shown(project: &Project, role: Role) -> Value {
    let mut shown = json!(project);
    shown["role"] = json!(role);
    shown
}

/// An answer that is not to be kept.
pub(crate) fn fresh(status: u16, body: &Value) -> Reply {
    Reply::json(status, body).header("cache-control", "no-store")
}
