//! `/projects/{project}/tokens`: the bearer tokens of agents.

use auth::{
    Role,
    projects::{self, MAX_NAME},
    tokens::{self, NewToken},
};
use door::Reply;
use problem::{Fields, Problem};
use serde_json::json;

use crate::{
    change::Change,
    project::{fresh, role},
    request::{Answer, Request},
};

/// Lists the tokens of a project, without their secrets.
pub(crate) async fn list<'a>(request: &Request<'a>, project: &str) -> Answer<'a> {
    let tokens = tokens::list(request.ports().database, project).await?;
    Ok(fresh(200, &json!({ "tokens": tokens })))
}

/// Makes a token. Only this answer shows its secret.
pub(crate) async fn create<'a>(request: &Request<'a>, project: &str) -> Answer<'a> {
    let ports = request.ports();
    let body = request.fields().await?;
    let mut fields = Fields::new(&body, "");
    let role = role(&mut fields).unwrap_or(Role::Write);
    let name = fields.name("name", MAX_NAME).unwrap_or("agent");
    let now = ports.clock.unix_seconds();
    let expires_at = match (fields.seconds("expires_at"), fields.seconds("expires_in")) {
        (Some(_), Some(_)) => {
            fields.wrong("expires_in", "must not come with `expires_at`");
            None
        }
        (Some(at), None) if at <= now => {
            fields.wrong("expires_at", "must be in the future, in Unix seconds");
            None
        }
        (at, within) => at.or(within.map(|seconds| now.saturating_add(seconds))),
    };
    fields.check()?;
    let new = NewToken {
        project_id: project,
        name,
        role,
        expires_at,
        created_by: &request.principal()?.name(),
    };
    let (made, token) = tokens::create(ports.database, ports.clock, new).await?;
    let mut shown = json!(made);
    shown["token"] = json!(token);
    Ok(fresh(201, &shown))
}

/// Revokes a token.
pub(crate) async fn revoke<'a>(request: &Request<'a>, project: &str, token: &str) -> Answer<'a> {
    let ports = request.ports();
    let revoked = tokens::revoke(ports.database, project, token).await?;
    // The count goes up even if there was no such token, because an earlier try may have died between the two
    // statements.
    projects::touch(ports.database, ports.clock, project).await?;
    if !revoked {
        return Err(Problem::not_found());
    }
    Ok(Reply::empty(204).then(Change::Access.notify(ports, project.to_owned())))
}
