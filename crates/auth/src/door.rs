//! The door: what every request of the public routes, and every WebSocket, has to pass.

use platform::{Ports, Problem};
use wire::{AccessCheck, Verdict};

use crate::{
    Credentials, Denied, Grant, Principal, Role,
    origins::Page,
    readiness,
    routes::{self, Found, Names, Need},
    sessions,
};

/// What the door looks at of a request.
#[derive(Clone, Default)]
pub struct Asked {
    /// The method, in capitals.
    pub method: String,
    /// The path, still percent-encoded.
    pub path: String,
    /// Who says to be asking.
    pub credentials: Credentials,
    /// Which page asks.
    pub page: Page,
}

/// A request that passed.
#[derive(Debug)]
pub struct Entered {
    /// The route, and the parts of the path.
    pub found: Found,
    /// Who asks; nobody, where the route wants nobody.
    pub principal: Option<Principal>,
    /// By what that is known.
    credentials: Credentials,
}

impl Entered {
    /// Who asks.
    ///
    /// # Errors
    /// Where nobody does, which the door has seen to.
    pub fn principal(&self) -> Result<&Principal, Denied> {
        self.principal.as_ref().ok_or(Denied::Unauthenticated)
    }

    /// Finds out again who asks, once something has been waited for: meanwhile a token may have been revoked, and a
    /// token or a session may have ended.
    ///
    /// # Errors
    /// When the credentials hold no more.
    pub async fn principal_again(&self, ports: Ports<'_>) -> Result<Principal, Denied> {
        self.credentials.principal(ports, sessions::KNOWN_FOR).await
    }

    /// Finds out again who asks, and whether the route's project may still be worked on so, once the body has come:
    /// that may have taken a minute. Returns who it is.
    ///
    /// # Errors
    /// When it may not any more.
    pub async fn still_may(&self, ports: Ports<'_>) -> Result<Principal, Denied> {
        let principal = self.principal_again(ports).await?;
        let grant = principal.access(ports, self.found.part(0)).await?;
        grant.require(needed(&self.found, &principal))?;
        Ok(principal)
    }
}

/// Lets a request in, or not. Where the route names its project in the path, access to it is part of that.
///
/// # Errors
/// Where it may not.
pub async fn enter(ports: Ports<'_>, asked: &Asked) -> Result<Entered, Denied> {
    let found = routes::find(&asked.method, &asked.path)?;
    let route = found.route;
    if matches!(route.need, Need::Nothing | Need::Signature) {
        return Ok(Entered {
            found,
            principal: None,
            credentials: Credentials::default(),
        });
    }
    let credentials = asked
        .credentials
        .clone()
        .without_foreign_token(ports.config)?;
    if route.method != "GET" && !may_act(ports, &credentials, &asked.page) {
        return Err(Denied::CrossSite);
    }
    keep_out_the_rebound(ports, &credentials, &asked.page)?;
    let principal = credentials.principal(ports, sessions::KNOWN_FOR).await?;
    let grant = match route.names {
        // A page of another site may look, in vain, but make nothing.
        Names::Opens if may_act(ports, &credentials, &asked.page) => {
            Some(principal.open(ports, found.part(0)).await?)
        }
        Names::Project | Names::Opens => Some(principal.access(ports, found.part(0)).await?),
        Names::Nothing | Names::Row => None,
    };
    if let Some(grant) = grant {
        grant.require(needed(&found, &principal))?;
    }
    Ok(Entered {
        found,
        principal: Some(principal),
        credentials,
    })
}

/// The role that a route wants of this principal.
fn needed(found: &Found, principal: &Principal) -> Role {
    match found.route.need {
        Need::OwnOrSelf if matches!(principal, Principal::User { id, .. } if id == found.part(1)) => {
            Role::Read
        }
        Need::Nothing | Need::Signature | Need::Somebody | Need::Read => Role::Read,
        Need::Write => Role::Write,
        Need::Own | Need::OwnOrSelf => Role::Owner,
    }
}

/// Where nobody needs to be known, a page that only seems to be ours must not read either.
fn keep_out_the_rebound(
    ports: Ports<'_>,
    credentials: &Credentials,
    page: &Page,
) -> Result<(), Denied> {
    let everybody = credentials.bearer.is_none() && sessions::origin(ports.config)?.is_none();
    match everybody && page.may_be_rebound(ports.config) {
        true => Err(Denied::CrossSite),
        false => Ok(()),
    }
}

/// A page acts by cookies, or in a development by being there; a token it must have been given.
fn may_act(ports: Ports<'_>, credentials: &Credentials, page: &Page) -> bool {
    credentials.bearer.is_some() || page.may_act(ports.config)
}

/// Looks at what a relay asks about a WebSocket.
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
    // While sessions cannot be checked, what a known user may do still can be.
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
        problem: problem.body().to_string(),
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
    let (max_age, opens) = match check.again {
        true => (sessions::KNOWN_FOR_SOCKETS, false),
        false => (sessions::KNOWN_FOR, true),
    };
    let principal = credentials.principal(ports, max_age).await?;
    let grant = match opens {
        true => principal.open(ports, &check.project).await?,
        false => principal.access(ports, &check.project).await?,
    };
    Ok((principal, grant))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{projects, tokens, world::World};
    use platform::native::block_on;

    fn asked(method: &str, path: &str) -> Asked {
        Asked {
            method: method.into(),
            path: path.into(),
            ..Asked::default()
        }
    }

    #[test]
    fn a_page_of_another_site_may_read_nothing_and_do_nothing() {
        let world = World::new(&[]);
        let mut post = asked("POST", "/sync/p");
        post.page.host = Some("127.0.0.1:8787".into());
        assert!(block_on(enter(world.ports(), &post)).is_ok());
        let mut rebound = asked("GET", "/sync/p");
        rebound.page.host = Some("evil.example:8787".into());
        let refused = block_on(enter(world.ports(), &rebound));
        assert!(matches!(refused, Err(Denied::CrossSite)));
        post.page.origin = Some("https://evil.example".into());
        // A token that is none of ours, as such a page may send one along, makes nothing better.
        for token in [None, Some("made up")] {
            post.credentials.bearer = token.map(str::to_owned);
            let refused = block_on(enter(world.ports(), &post));
            assert!(matches!(refused, Err(Denied::CrossSite)));
        }
        let check = |origin: Option<&str>| AccessCheck {
            project: "p".into(),
            origin: origin.map(str::to_owned),
            host: Some("127.0.0.1:8787".into()),
            ..AccessCheck::default()
        };
        let verdict = |origin| block_on(judge(world.ports(), check(origin)));
        for origin in [None, Some("http://127.0.0.1:8787")] {
            assert!(matches!(
                verdict(origin),
                Verdict::Granted { write: true, .. }
            ));
        }
        let evil = verdict(Some("https://evil.example"));
        assert!(matches!(evil, Verdict::Denied { status: 403, .. }));
    }

    #[test]
    fn what_cannot_be_known_is_refused() {
        let world = World::new(&[("better_auth_origin", "https://auth.example")]);
        let mut get = asked("GET", "/tasks");
        assert!(matches!(
            block_on(enter(world.ports(), &get)),
            Err(Denied::Unauthenticated)
        ));
        get.credentials.cookie = Some("a=b".into());
        assert!(matches!(
            block_on(enter(world.ports(), &get)),
            Err(Denied::Unavailable(_))
        ));
        // A token that is none is not passed over for the cookie.
        get.credentials.bearer = Some("lst_x_y".into());
        assert!(matches!(
            block_on(enter(world.ports(), &get)),
            Err(Denied::Unauthenticated)
        ));
        let health = asked("GET", "/health");
        assert!(block_on(enter(world.ports(), &health)).is_ok());
    }

    #[test]
    fn roles_are_known_while_sessions_are_not() {
        let world = World::new(&[("better_auth_origin", "https://auth.example")]);
        let ports = world.ports();
        world.project("p", "a");
        let verdict = |who: Option<&str>| {
            let check = AccessCheck {
                project: "p".into(),
                cookie: Some("a=b".into()),
                again: true,
                principal: who.map(str::to_owned),
                ..AccessCheck::default()
            };
            match block_on(judge(ports, check)) {
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
    fn what_ended_while_a_request_was_under_way_holds_no_more() {
        let world = World::new(&[("better_auth_origin", "https://auth.example")]);
        let ports = world.ports();
        world.project("p", "a");
        let new = |expires_at| tokens::NewToken {
            project_id: "p",
            name: "agent",
            role: Role::Write,
            expires_at,
            created_by: "user:a",
        };
        for expires_at in [None, Some(100)] {
            let made = tokens::create(ports.database, ports.clock, new(expires_at));
            let (made, token) = block_on(made).unwrap();
            let mut post = asked("POST", "/sync/p");
            post.credentials.bearer = Some(token);
            let entered = block_on(enter(ports, &post)).unwrap();
            assert!(block_on(entered.still_may(ports)).is_ok());
            match expires_at {
                Some(end) => world.clock.0.set(end),
                None => {
                    let revoked = tokens::revoke(ports.database, "p", &made.token_id);
                    assert!(block_on(revoked).unwrap());
                }
            }
            let late = block_on(entered.still_may(ports));
            assert!(matches!(late, Err(Denied::Unauthenticated)), "{late:?}");
        }
    }

    #[test]
    fn a_setting_that_cannot_be_read_opens_no_door() {
        let settings = [
            ("better_auth_origin", "https://auth.example"),
            ("agent_token", "trusted"),
        ];
        for (unreadable, given) in [
            ("better_auth_origin", &[][..]),
            ("agent_token", &settings[..]),
            ("auto_create_projects", &[]),
        ] {
            let world = World::with_unreadable(given, unreadable);
            let mut get = asked("GET", "/sync/p");
            get.credentials.bearer = (unreadable == "agent_token").then(|| "trusted".into());
            let refused = block_on(enter(world.ports(), &get));
            assert!(
                matches!(refused, Err(Denied::Unreadable(_))),
                "{unreadable}: {refused:?}"
            );
        }
        // Nobody is user `dev` where it is not known that this is a development.
        let world = World::with_unreadable(&[], "environment");
        let refused = block_on(enter(world.ports(), &asked("GET", "/tasks")));
        assert!(matches!(refused, Err(Denied::NotConfigured(_))));
        let check = AccessCheck {
            project: "p".into(),
            ..AccessCheck::default()
        };
        for unreadable in ["environment", "better_auth_origin", "webhook_key"] {
            let world = World::with_unreadable(&[], unreadable);
            let verdict = block_on(judge(world.ports(), check.clone()));
            assert!(
                matches!(verdict, Verdict::Denied { status: 503, .. }),
                "{unreadable}: {verdict:?}"
            );
        }
    }

    #[test]
    fn the_token_of_the_server_may_everything() {
        let world = World::new(&[
            ("better_auth_origin", "https://auth.example"),
            ("agent_token", "trusted"),
        ]);
        let mut post = asked("POST", "/projects");
        post.credentials.bearer = Some("trusted".into());
        let entered = block_on(enter(world.ports(), &post)).unwrap();
        assert_eq!(entered.principal, Some(Principal::Server));
        post.credentials.bearer = Some("truste".into());
        assert!(block_on(enter(world.ports(), &post)).is_err());
    }
}
