//! `/projects/{project}/tokens`: what agents come with.

use auth::{
    Role,
    door::Entered,
    projects,
    tokens::{self, NewToken},
};
use platform::{
    Ports, Problem,
    spin::{Incoming, Reply},
};
use serde_json::json;

use crate::{
    Answer,
    body::{Body, wrong},
    notice::Change,
    project::fresh,
};

/// The tokens of a project, without what is secret of them.
pub(crate) async fn list(ports: Ports<'_>, entered: &Entered) -> Answer {
    let tokens = tokens::list(ports.database, entered.found.part(0)).await?;
    Ok((fresh(200, &json!({ "tokens": tokens })), None))
}

/// Makes a token. This is the only time that it is shown.
pub(crate) async fn create(ports: Ports<'_>, entered: &Entered, request: Incoming) -> Answer {
    let body = Body::read(request).await?;
    entered.still_may(ports).await?;
    let role = match body.text("role")? {
        None => Role::Write,
        Some(role) => Role::parse(role).ok_or_else(|| wrong("role", "must be read or write"))?,
    };
    let now = ports.clock.unix_seconds();
    let expires_at = match (body.positive("expires_at")?, body.positive("expires_in")?) {
        (Some(_), Some(_)) => {
            return Err(wrong("expires_in", "must not come with `expires_at`"));
        }
        (Some(at), None) if at <= now => {
            return Err(wrong(
                "expires_at",
                "must be in the future, in Unix seconds",
            ));
        }
        (at, within) => at.or(within.map(|seconds| now.saturating_add(seconds))),
    };
    let new = NewToken {
        project_id: entered.found.part(0),
        name: body.name()?.unwrap_or("agent"),
        role,
        expires_at,
        created_by: &entered.principal()?.name(),
    };
    let (made, token) = tokens::create(ports.database, ports.clock, new).await?;
    let mut shown = json!(made);
    shown["token"] = json!(token);
    Ok((fresh(201, &shown), None))
}

/// Revokes a token.
pub(crate) async fn revoke(ports: Ports<'_>, entered: &Entered) -> Answer {
    let (project, token) = (entered.found.part(0), entered.found.part(1));
    let revoked = tokens::revoke(ports.database, project, token).await?;
    // Also where there was none: an earlier try may have died between the two.
    projects::touch(ports.database, ports.clock, project).await?;
    if !revoked {
        return Err(Problem::not_found());
    }
    let reply = Reply::new(204).without_body();
    Ok((reply, Some(Change::Access(project.to_owned()))))
}
