//! `/projects` and `/projects/{project}`: lists, makes, reads, changes and deletes projects.

use auth::{
    Denied, Principal, Role,
    projects::{self, MAX_NAME, NewProject, Project, Scope, Transfer},
    secrets, tokens,
};
use door::Reply;
use platform::Ports;
use problem::{Fields, Kind, Problem};
use serde_json::{Value, json};

use crate::{
    change::Change,
    request::{Answer, Request},
};

/// The most projects in one answer.
const LIMIT: u64 = 200;

/// Lists the caller's projects by their ids, page by page.
pub(crate) async fn list<'a>(request: &Request<'a>) -> Answer<'a> {
    let principal = request.principal()?;
    let limit = request.head().limit(LIMIT, LIMIT)?;
    let after = request.head().parameter("cursor").unwrap_or_default();
    let scope = match &principal {
        Principal::User { id, .. } => Scope::User(id),
        Principal::Token { project_id, .. } => Scope::Project(project_id),
        Principal::Server => Scope::All,
    };
    // One row more shows whether there is another page.
    let mut found = projects::list(request.ports().database, scope, after, limit + 1).await?;
    let has_more = found.len() as u64 > limit;
    found.truncate(limit as usize);
    let next = found.last().filter(|_| has_more);
    let next = next.map(|project| project.project_id.clone());
    Ok(fresh(
        200,
        &json!({ "projects": found, "next_cursor": next }),
    ))
}

/// Makes a project. The caller owns it; the trusted backend names the owner.
pub(crate) async fn create<'a>(request: &Request<'a>) -> Answer<'a> {
    let ports = request.ports();
    let body = request.fields().await?;
    let principal = request.principal()?;
    let caller = principal.as_owner()?;
    let mut fields = Fields::new(&body, "");
    let owner_id = caller.or_else(|| user(&mut fields, "owner_id"));
    if owner_id.is_none() && body.get("owner_id").is_none_or(Value::is_null) {
        fields.wrong(
            "owner_id",
            "must be the id of the user who will own the project",
        );
    }
    let name = fields.name("name", MAX_NAME);
    let given = fields.value("project_id");
    if given.is_some_and(|id| !id.is_string()) {
        fields.wrong("project_id", "must be a string");
    }
    fields.check()?;
    let made = secrets::word(20);
    let project_id = given.and_then(Value::as_str).unwrap_or(&made);
    if !wire::is_project_id(project_id) {
        return Err(Problem::bad_project_id());
    }
    let new = NewProject {
        project_id,
        name: name.unwrap_or(project_id),
        owner_id: owner_id.unwrap_or_default(),
    };
    if !projects::create(ports.database, ports.clock, new).await? {
        return Err(projects::id_is_taken());
    }
    let project = find(ports, project_id).await?;
    let reply = fresh(201, &shown(&project, Role::Owner));
    let location = request.location(&format!("/projects/{project_id}"));
    Ok(reply.header("location", location))
}

/// Reads a project and its members.
pub(crate) async fn get<'a>(request: &Request<'a>, id: &str) -> Answer<'a> {
    let ports = request.ports();
    let grant = request.principal()?.access(ports, id).await?;
    let project = find(ports, id).await?;
    let mut shown = shown(&project, grant.role);
    shown["members"] = json!(projects::members(ports.database, id).await?);
    shown["usage"] = json!(quota::report(ports, id).await?);
    Ok(fresh(200, &shown))
}

/// Renames a project, or gives it to a member, or both.
pub(crate) async fn update<'a>(request: &Request<'a>, id: &str) -> Answer<'a> {
    let ports = request.ports();
    let body = request.fields().await?;
    let mut fields = Fields::new(&body, "");
    let name = fields.name("name", MAX_NAME);
    let owner_id = user(&mut fields, "owner_id");
    let revoke_tokens = fields.flag("revoke_tokens");
    if revoke_tokens && body.get("owner_id").is_none_or(Value::is_null) {
        fields.wrong("revoke_tokens", "must come with `owner_id`");
    }
    fields.check()?;
    if let Some(to) = owner_id {
        return give(request, id, name, to, revoke_tokens).await;
    }
    let project = match name {
        Some(name) => projects::rename(ports.database, ports.clock, id, name).await?,
        None => projects::get(ports.database, id).await?,
    };
    let project = project.ok_or(Denied::NoSuchProject)?;
    Ok(fresh(200, &shown(&project, Role::Owner)))
}

/// Gives a project to a member. The former owner may go on writing. The answer has the number of the project's tokens
/// that are still valid.
async fn give<'a>(
    request: &Request<'a>,
    id: &str,
    name: Option<&str>,
    to: &str,
    revoke_tokens: bool,
) -> Answer<'a> {
    let (ports, principal) = (request.ports(), request.principal()?);
    // A user who passed the door is the owner, or was a moment ago.
    let before = find(ports, id).await?;
    let from = match &principal {
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
        return Err(if find(ports, id).await?.owner_id == *from {
            let words = "must be the id of a member: give them a role first";
            Problem::invalid_field("owner_id", words)
        } else {
            let words = "The project was given to another user meanwhile.";
            Problem::new(Kind::OWNER_CHANGED, words)
        });
    };
    let grant = principal.access(ports, id).await?;
    let now = ports.clock.unix_seconds();
    let tokens = tokens::list(ports.database, id).await?;
    let remaining = tokens.iter().filter(|token| token.holds_at(now)).count();
    let mut shown = shown(&project, grant.role);
    shown["tokens_remaining"] = json!(remaining);
    Ok(fresh(200, &shown).then(Change::Access.notify(ports, id.to_owned())))
}

/// Deletes a project. It is gone at once, and everything in it soon after.
pub(crate) async fn delete<'a>(request: &Request<'a>, id: &str) -> Answer<'a> {
    let ports = request.ports();
    if !projects::delete(ports.database, ports.clock, id).await? {
        return Err(Denied::NoSuchProject.into());
    }
    tracing::info!(project = id, "a project was deleted");
    Ok(Reply::empty(204).then(Change::Deleted.notify(ports, id.to_owned())))
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

/// A field that holds a user's id.
fn user<'b>(fields: &mut Fields<'b>, field: &str) -> Option<&'b str> {
    let id = fields.value(field)?.as_str();
    if id.is_none() {
        fields.wrong(field, "must be a string");
    }
    id.filter(|id| user_id(fields, field, id))
}

/// Checks that a text can be a user's id; else reports the field.
pub(crate) fn user_id(fields: &mut Fields<'_>, field: &str, id: &str) -> bool {
    let fits = projects::is_user_id(id);
    if !fits {
        fields.wrong(field, "must be the id of a user, of 1 to 255 bytes");
    }
    fits
}

/// The field `role` of a member or a token; `None` if it is missing or wrong.
pub(crate) fn role(fields: &mut Fields<'_>) -> Option<Role> {
    let role = fields.value("role")?.as_str().and_then(Role::parse);
    if role.is_none() {
        fields.wrong("role", ROLES);
    }
    role
}

/// The message for a role that is not valid.
pub(crate) const ROLES: &str = "must be read or write";

/// Makes a JSON answer that no cache keeps.
pub(crate) fn fresh<'a>(status: u16, body: &Value) -> Reply<'a> {
    Reply::json(status, body).header("cache-control", "no-store")
}
