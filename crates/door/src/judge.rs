//! The access of WebSockets to rooms: the relay asks before it opens a WebSocket, and again while it is open.

use auth::{Credentials, Denied, Grant, Principal, Role, origins::Page, sessions};
use platform::Ports;
use problem::Problem;
use wire::{AccessCheck, Verdict};

use crate::{
    admit::{may_act, refuse_rebound},
    readiness,
};

/// Judges one WebSocket for a relay.
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
    // While sessions cannot be checked, the role of a known user can still be checked.
    let known = known.as_deref().and_then(Principal::user_of_name);
    match (&denied, known) {
        (Denied::Unavailable { .. }, Some(user)) => match user.access(ports, &project).await {
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
        .of_client(check.client)
        .without_foreign_token(ports.config)?;
    let page = Page {
        origin: check.origin,
        site: None,
        host: check.host,
        reached: None,
    };
    if !may_act(ports, &credentials, &page) {
        return Err(Denied::CrossSite(page.refused_origin(ports.config)));
    }
    refuse_rebound(ports, &credentials, &page)?;
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

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use auth::projects;
    use platform::native::{MapConfig, World, block_on};

    fn judged(world: &World, check: AccessCheck) -> Verdict {
        block_on(judge(world.ports(), check))
    }

    #[test]
    fn pages_of_other_sites_get_no_socket() {
        let world = World::new(MapConfig::default());
        let check = |origin: Option<&str>| AccessCheck {
            project: "p".into(),
            origin: origin.map(str::to_owned),
            host: Some("127.0.0.1:8787".into()),
            ..AccessCheck::default()
        };
        for origin in [None, Some("http://127.0.0.1:8787")] {
            let verdict = judged(&world, check(origin));
            assert!(matches!(verdict, Verdict::Granted { write: true, .. }));
        }
        let evil = judged(&world, check(Some("https://evil.example")));
        assert!(matches!(evil, Verdict::Denied { status: 403, .. }));
        let mut rebound = check(None);
        rebound.host = Some("evil.example:8787".into());
        let rebound = judged(&world, rebound);
        assert!(matches!(rebound, Verdict::Denied { status: 403, .. }));
    }

    #[test]
    fn a_socket_that_is_open_makes_no_project() {
        let world = World::new(MapConfig::default());
        let check = |again| AccessCheck {
            project: "p".into(),
            again,
            ..AccessCheck::default()
        };
        let gone = judged(&world, check(true));
        assert!(matches!(gone, Verdict::Denied { status: 404, .. }));
        for again in [false, true] {
            let verdict = judged(&world, check(again));
            assert!(matches!(verdict, Verdict::Granted { .. }), "{again}");
        }
    }

    #[test]
    fn roles_are_known_while_sessions_are_not() {
        let settings = [("better_auth_origin", "https://auth.example")];
        let world = World::new(MapConfig::from_pairs(&settings));
        let ports = world.ports();
        let new = projects::NewProject {
            project_id: "p",
            name: "p",
            owner_id: "a",
        };
        block_on(projects::create(ports.database, ports.clock, new)).unwrap();
        let verdict = |known: Option<&str>| {
            let check = AccessCheck {
                project: "p".into(),
                cookie: Some("a=b".into()),
                again: true,
                principal: known.map(str::to_owned),
                ..AccessCheck::default()
            };
            match judged(&world, check) {
                Verdict::Denied { status, write, .. } => (status, write),
                granted => panic!("{granted:?}"),
            }
        };
        assert_eq!(verdict(None), (503, None));
        assert_eq!(verdict(Some("user:a")), (503, Some(true)));
        assert_eq!(verdict(Some("user:b")), (403, None));
        let read = projects::set_member(ports.database, ports.clock, "p", "b", Role::Read);
        block_on(read).unwrap();
        assert_eq!(verdict(Some("user:b")), (503, Some(false)));
        block_on(projects::delete(ports.database, ports.clock, "p")).unwrap();
        assert_eq!(verdict(Some("user:a")), (404, None));
    }

    #[test]
    fn a_setting_that_is_missing_or_unreadable_opens_no_socket() {
        let check = AccessCheck {
            project: "p".into(),
            ..AccessCheck::default()
        };
        for unreadable in ["environment", "better_auth_origin", "webhook_key"] {
            let world = World::new(MapConfig::default().with_unreadable(unreadable));
            let verdict = judged(&world, check.clone());
            assert!(
                matches!(verdict, Verdict::Denied { status: 503, .. }),
                "{unreadable}: {verdict:?}"
            );
        }
        let production = World::new(MapConfig::from_pairs(&[("environment", "production")]));
        let verdict = judged(&production, check);
        let Verdict::Denied {
            problem, header, ..
        } = verdict
        else {
            panic!("{verdict:?}");
        };
        assert!(problem.contains("better_auth_origin"), "{problem}");
        assert_eq!(header, None);
        let signed_out = World::new(MapConfig::from_pairs(&[(
            "better_auth_origin",
            "https://auth.example",
        )]));
        let check = AccessCheck {
            project: "p".into(),
            ..AccessCheck::default()
        };
        match judged(&signed_out, check) {
            Verdict::Denied { status, header, .. } => {
                let bearer = vec!["www-authenticate".to_owned(), "Bearer".to_owned()];
                assert_eq!((status, header), (401, Some(bearer)));
            }
            granted => panic!("{granted:?}"),
        }
    }
}
