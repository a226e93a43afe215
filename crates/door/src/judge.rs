//! Whether a WebSocket may be in a room: the relay asks before it opens one, and again while it is open.

use auth::{Credentials, Denied, Grant, Principal, Role, origins::Page, sessions};
use platform::Ports;
use problem::Problem;
use wire::{AccessCheck, Verdict};

use crate::{
    admit::{keep_out_the_rebound, may_act},
    readiness,
};

/// Judges what a relay asks about one WebSocket.
pub async fn judge(ports: Ports<'_>, check: AccessCheck) -> Verdict {
    let (project, known) = (check.project.clone(), check.principal.clone());
    let denied = match try_judge(ports, check).await {
        Ok((principal, grant)) => {
            return Verdict::Granted {
                principal: principal.name(),
                write: grant.role >= Role::Write,
                expires_at: principal.expires_at(),
                access_rev: grant.access_rev,
            };
        }
        Err(denied) => denied,
    };
    // While sessions cannot be checked, the role of a known user still can be.
    let known = known.as_deref().and_then(Principal::user_of_name);
    match (&denied, known) {
        (Denied::Unavailable(_), Some(user)) => match user.access(ports, &project).await {
            Ok(grant) => refused(denied, Some(grant.role >= Role::Write)),
            Err(denied) => refused(denied, None),
        },
        _ => refused(denied, None),
    }
}

fn refused(denied: Denied, write: Option<bool>) -> Verdict {
    let problem = Problem::from(denied);
    Verdict::Denied {
        status: problem.status(),
        problem: problem.body(),
        header: problem
            .header()
            .map(|(name, value)| [name.to_owned(), value.to_owned()].to_vec()),
        write,
    }
}

async fn try_judge(ports: Ports<'_>, check: AccessCheck) -> Result<(Principal, Grant), Denied> {
    if let Some(setting) = readiness::missing_setting(ports.config)? {
        return Err(Denied::NotConfigured(setting));
    }
    let credentials = Credentials::new(check.cookie, check.authorization.as_deref(), check.token)
        .without_foreign_token(ports.config)?;
    let page = Page {
        origin: check.origin,
        site: None,
        host: check.host,
        reached: None,
    };
    if !may_act(ports, &credentials, &page) {
        return Err(Denied::CrossSite);
    }
    keep_out_the_rebound(ports, &credentials, &page)?;
    if check.again {
        let principal = credentials.principal(ports, sessions::KNOWN_FOR_SOCKETS);
        let principal = principal.await?;
        let grant = principal.access(ports, &check.project).await?;
        return Ok((principal, grant));
    }
    let principal = credentials.principal(ports, sessions::KNOWN_FOR).await?;
    let grant = principal.open(ports, &check.project).await?;
    Ok((principal, grant))
}
