//! `/projects` and `/projects/{project}`.

use auth::{
    Denied, Principal, Role,
    door::Entered,
    projects::{self, NewProject, Of, Project},
    secrets,
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

/// Renames a project, or gives it to another, who had it then may go on writing.
pub(crate) async fn update(ports: Ports<'_>, entered: &Entered, request: Incoming) -> Answer {
    let id = entered.found.part(0);
    let body = Body::read(request).await?;
    entered.still_may(ports).await?;
    let (name, owner_id) = (body.name()?, body.user("owner_id")?);
    let before = find(ports, id).await?;
    if owner_id.is_some_and(|owner| owner != before.owner_id) {
        let former = &before.owner_id;
        projects::set_member(ports.database, ports.clock, id, former, Role::Write).await?;
    }
    let project = projects::update(ports.database, ports.clock, id, name, owner_id).await?;
    let project = project.ok_or(Denied::NoSuchProject)?;
    let grant = entered.principal()?.access(ports, id).await?;
    let change = owner_id.is_some().then(|| Change::Access(id.to_owned()));
    Ok((fresh(200, &shown(&project, grant.role)), change))
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
