//! `/projects/{project}/members/{user}`: who else may see or change a project.

use auth::{Role, door::Entered, projects};
use platform::{
    Ports, Problem,
    spin::{Incoming, Reply},
};
use serde_json::json;

use crate::{
    Answer,
    body::{Body, user_id, wrong},
    notice::Change,
    project::fresh,
};

/// Gives a user a role.
pub(crate) async fn set(ports: Ports<'_>, entered: &Entered, request: Incoming) -> Answer {
    let (project, user) = (entered.found.part(0), entered.found.part(1));
    let user = user_id(user, "user_id")?;
    let body = Body::read(request).await?;
    entered.still_may(ports).await?;
    let role = body.text("role")?.and_then(Role::parse);
    let role = role.ok_or_else(|| wrong("role", "must be read or write"))?;
    refuse_owner(ports, project, user).await?;
    projects::set_member(ports.database, ports.clock, project, user, role).await?;
    let reply = fresh(200, &json!({ "user_id": user, "role": role }));
    Ok((reply, Some(Change::Access(project.to_owned()))))
}

/// The owner is no member, and cannot be made one.
async fn refuse_owner(ports: Ports<'_>, project: &str, user: &str) -> Result<(), Problem> {
    let owned = projects::get(ports.database, project).await?;
    match owned.is_some_and(|project| project.owner_id == user) {
        true => Err(Problem::new(
            409,
            "is-owner",
            "The owner needs no role",
            "The owner may do everything. Give the project to another first.",
        )),
        false => Ok(()),
    }
}

/// Takes a user's role away, and revokes the tokens that they made. Members may do so to themselves.
pub(crate) async fn remove(ports: Ports<'_>, entered: &Entered) -> Answer {
    let (project, user) = (entered.found.part(0), entered.found.part(1));
    refuse_owner(ports, project, user).await?;
    if !projects::remove_member(ports.database, ports.clock, project, user).await? {
        return Err(Problem::not_found());
    }
    let reply = Reply::new(204).without_body();
    Ok((reply, Some(Change::Access(project.to_owned()))))
}
