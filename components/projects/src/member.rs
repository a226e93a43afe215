//! `/projects/{project}/members/{user}`: users who may read or write a project besides its owner.

use auth::{Role, projects};
use door::Reply;
use platform::Ports;
use problem::{Fields, Kind, Problem};
use serde_json::json;

use crate::{
    change::Change,
    project::{ROLES, fresh, role, user_id},
    request::{Answer, Request},
};

/// Gives a user a role.
pub(crate) async fn set<'a>(request: &Request<'a>, project: &str, user: &str) -> Answer<'a> {
    let ports = request.ports();
    let body = request.fields().await?;
    let mut fields = Fields::new(&body, "");
    user_id(&mut fields, "user_id", user);
    let role = role(&mut fields);
    if fields.value("role").is_none() {
        fields.wrong("role", ROLES);
    }
    fields.check()?;
    refuse_owner(ports, project, user).await?;
    let role = role.unwrap_or(Role::Read);
    projects::set_member(ports.database, ports.clock, project, user, role).await?;
    let reply = fresh(200, &json!({ "user_id": user, "role": role }));
    Ok(reply.then(Change::Access.notify(ports, project.to_owned())))
}

/// Refuses a change of the owner's role, because the owner is not a member and cannot become one.
async fn refuse_owner(ports: Ports<'_>, project: &str, user: &str) -> Result<(), Problem> {
    let owned = projects::get(ports.database, project).await?;
    if owned.is_some_and(|project| project.owner_id == user) {
        let words = "The owner may do everything. Give the project to another user first.";
        return Err(Problem::new(Kind::IS_OWNER, words));
    }
    Ok(())
}

/// Takes a user's role away, and revokes the tokens that they made. Members may do so to themselves.
pub(crate) async fn remove<'a>(request: &Request<'a>, project: &str, user: &str) -> Answer<'a> {
    let ports = request.ports();
    refuse_owner(ports, project, user).await?;
    if !projects::remove_member(ports.database, ports.clock, project, user).await? {
        return Err(Problem::not_found());
    }
    Ok(Reply::empty(204).then(Change::Access.notify(ports, project.to_owned())))
}
