//! The access of principals to projects.

use platform::{Ports, UnreadableSetting};

use crate::{
    denied::Denied,
    principal::{DEVELOPER, Principal},
    projects,
    role::{Grant, Role},
    sessions,
};

platform::settings! {
    /// Says whether opening a project that does not exist makes it, with the user who opened it as its owner: `true` or
    /// `false`. If it is not set, this happens in development only
    pub(crate) AUTO_CREATE_PROJECTS = "auto_create_projects", Unset, Boolean;
}

impl Principal {
    /// Finds what the principal may do in a project.
    ///
    /// # Errors
    /// If the principal may do nothing, or there is no such project.
    pub async fn access(&self, ports: Ports<'_>, project_id: &str) -> Result<Grant, Denied> {
        if !wire::is_project_id(project_id) {
            return Err(Denied::BadProjectId);
        }
        let found = projects::state(ports.database, project_id, self.user_id()).await?;
        let state = found
            .filter(|state| !state.is_deleted)
            .ok_or(Denied::NoSuchProject)?;
        let role = match self {
            Self::Server => Some(Role::Owner),
            Self::User { .. } => state.role,
            Self::Token {
                project_id: of,
                role,
                ..
            } => (of == project_id).then_some(*role),
        };
        Ok(Grant {
            role: role.ok_or(Denied::Forbidden)?,
            access_rev: state.access_rev,
        })
    }

    /// Finds what a principal that opens the project may do in it. If `auto_create_projects` allows it, a project that
    /// does not exist is made, and the user who opens it first owns it.
    ///
    /// # Errors
    /// See [`Principal::access`].
    pub async fn open(&self, ports: Ports<'_>, project_id: &str) -> Result<Grant, Denied> {
        match self.access(ports, project_id).await {
            Err(Denied::NoSuchProject) => {
                let owner = self.first_owner(ports)?.ok_or(Denied::NoSuchProject)?;
                let new = projects::NewProject {
                    project_id,
                    name: project_id,
                    owner_id: &owner,
                };
                projects::create(ports.database, ports.clock, new).await?;
                // Another caller may have made it first, and a deleted project stays deleted.
                self.access(ports, project_id).await
            }
            found => found,
        }
    }

    /// Returns whether the principal makes a project by opening it. If the setting for that cannot be read, it does not.
    pub fn makes_what_it_opens(&self, ports: Ports<'_>) -> bool {
        matches!(self.first_owner(ports), Ok(Some(_)))
    }

    /// The owner of a project that this principal makes by opening it; `None` if it may not.
    fn first_owner(&self, ports: Ports<'_>) -> Result<Option<String>, UnreadableSetting> {
        let automatic = match ports.config.read(AUTO_CREATE_PROJECTS)?.as_deref() {
            Some("true") => true,
            Some("false") => false,
            _ => ports.config.is_development(),
        };
        let owner = match self {
            Self::User { id, .. } => Some(id.clone()),
            // Without sessions every caller is that user.
            Self::Server if sessions::origin(ports.config)?.is_none() => Some(DEVELOPER.into()),
            _ => None,
        };
        Ok(owner.filter(|_| automatic))
    }

    /// The user's id; empty if the principal is not a user.
    pub fn user_id(&self) -> &str {
        match self {
            Self::User { id, .. } => id,
            // No user has this id.
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::world;
    use platform::native::block_on;

    fn user(id: &str) -> Principal {
        Principal::User {
            id: id.into(),
            expires_at: None,
        }
    }

    #[test]
    fn the_first_opener_owns_and_others_must_be_members() {
        let world = world(&[]);
        let ports = world.ports();
        let role = |who: &str| block_on(user(who).access(ports, "p")).map(|grant| grant.role);
        assert!(matches!(role("a"), Err(Denied::NoSuchProject)));
        let grant = block_on(user("a").open(ports, "p")).unwrap();
        assert_eq!(grant.role, Role::Owner);
        assert!(matches!(
            block_on(user("b").open(ports, "p")),
            Err(Denied::Forbidden)
        ));
        let set = |role| {
            block_on(projects::set_member(
                ports.database,
                ports.clock,
                "p",
                "b",
                role,
            ))
        };
        set(Role::Read).unwrap();
        assert_eq!(role("b").unwrap(), Role::Read);
        let later = block_on(user("b").access(ports, "p")).unwrap();
        assert!(later.access_rev > grant.access_rev);
        assert!(matches!(later.require(Role::Write), Err(Denied::ReadOnly)));
        set(Role::Write).unwrap();
        assert_eq!(role("b").unwrap(), Role::Write);
        assert!(
            block_on(projects::remove_member(
                ports.database,
                ports.clock,
                "p",
                "b"
            ))
            .unwrap()
        );
        assert!(matches!(role("b"), Err(Denied::Forbidden)));
        assert_eq!(
            block_on(Principal::Server.access(ports, "p")).unwrap().role,
            Role::Owner
        );
        block_on(projects::delete(ports.database, ports.clock, "p")).unwrap();
        for who in ["a", "b"] {
            assert!(matches!(
                block_on(user(who).open(ports, "p")),
                Err(Denied::NoSuchProject)
            ));
        }
    }

    #[test]
    fn opening_makes_a_project_only_if_the_setting_allows_it() {
        for (settings, made) in [
            (vec![], true),
            (vec![("auto_create_projects", "false")], false),
            (vec![("environment", "production")], false),
            (
                vec![
                    ("environment", "production"),
                    ("auto_create_projects", "true"),
                ],
                true,
            ),
            (
                vec![
                    ("environment", "production"),
                    ("auto_create_projects", "yes"),
                ],
                false,
            ),
        ] {
            let world = world(&settings);
            let opened = block_on(user("a").open(world.ports(), "p"));
            assert_eq!(opened.is_ok(), made, "{settings:?}");
        }
    }

    #[test]
    fn users_make_what_they_open_and_agents_do_not() {
        let token = Principal::Token {
            id: "t".into(),
            project_id: "p".into(),
            role: Role::Write,
            expires_at: None,
        };
        let sessions = ("better_auth_origin", "https://auth.example");
        let never = ("auto_create_projects", "false");
        for (settings, principal, owner) in [
            (vec![], user("a"), Some("a")),
            (vec![sessions], user("a"), Some("a")),
            (vec![never], user("a"), None),
            (vec![], token, None),
            // Without sessions every caller is one user, and the trusted backend makes projects for them.
            (vec![], Principal::Server, Some(DEVELOPER)),
            (vec![sessions], Principal::Server, None),
            (vec![never], Principal::Server, None),
        ] {
            let world = world(&settings);
            let ports = world.ports();
            assert_eq!(
                principal.makes_what_it_opens(ports),
                owner.is_some(),
                "{principal:?} {settings:?}"
            );
            let opened = block_on(principal.open(ports, "p"));
            assert_eq!(
                opened.is_ok(),
                owner.is_some(),
                "{principal:?} {settings:?}"
            );
            let made = block_on(projects::get(ports.database, "p")).unwrap();
            assert_eq!(
                made.map(|made| made.owner_id).as_deref(),
                owner,
                "{principal:?} {settings:?}"
            );
        }
    }

    #[test]
    fn a_token_is_good_for_its_project_only() {
        let world = world(&[]);
        let ports = world.ports();
        for project in ["p", "q"] {
            block_on(user("a").open(ports, project)).unwrap();
        }
        let token = Principal::Token {
            id: "t".into(),
            project_id: "p".into(),
            role: Role::Read,
            expires_at: None,
        };
        let role = |project| block_on(token.open(ports, project)).map(|grant| grant.role);
        assert_eq!(role("p").unwrap(), Role::Read);
        assert!(matches!(role("q"), Err(Denied::Forbidden)));
        assert!(matches!(role("r"), Err(Denied::NoSuchProject)));
        assert!(matches!(role("a/b"), Err(Denied::BadProjectId)));
    }
}
