//! What somebody may do in a project.

use platform::{DatabaseError, Ports, UnreadableSetting};
use serde::{Serialize, Serializer};

use crate::{Denied, Principal, principal::DEVELOPER, projects, sessions};

/// What somebody may do. Each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// See everything.
    Read,
    /// Change the document and post tasks.
    Write,
    /// Say who may do what, and delete it.
    Owner,
}

impl Role {
    /// Its name in the database and to clients.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Owner => "owner",
        }
    }

    /// The role that a member or a token can be given by this name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "read" => Some(Self::Read),
            "write" => Some(Self::Write),
            _ => None,
        }
    }

    pub(crate) fn read(name: &str) -> Result<Self, DatabaseError> {
        Self::parse(name).ok_or_else(|| DatabaseError::Unexpected(format!("role {name:?}")))
    }
}

impl Serialize for Role {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What a principal may do in a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Its role.
    pub role: Role,
    /// The project's count of changes of who may do what.
    pub access_rev: u64,
}

impl Grant {
    /// Whether it includes a role.
    ///
    /// # Errors
    /// Where it does not.
    pub fn require(self, role: Role) -> Result<Self, Denied> {
        match role {
            role if self.role >= role => Ok(self),
            Role::Owner => Err(Denied::OwnerOnly),
            _ => Err(Denied::ReadOnly),
        }
    }
}

impl Principal {
    /// What it may do in a project.
    ///
    /// # Errors
    /// Where that is nothing, or there is no such project.
    pub async fn access(&self, ports: Ports<'_>, project_id: &str) -> Result<Grant, Denied> {
        if !wire::is_project_id(project_id) {
            return Err(Denied::BadProjectId);
        }
        let found = projects::standing(ports.database, project_id, self.user_id()).await?;
        let standing = found
            .filter(|standing| !standing.is_deleted)
            .ok_or(Denied::NoSuchProject)?;
        let role = match self {
            Self::Server => Some(Role::Owner),
            Self::User { .. } => standing.role,
            Self::Token {
                project_id: of,
                role,
                ..
            } => (of == project_id).then_some(*role),
        };
        Ok(Grant {
            role: role.ok_or(Denied::Forbidden)?,
            access_rev: standing.access_rev,
        })
    }

    /// The same, for somebody who opens it: where `auto_create_projects` says so, a project that is not
    /// there is made, and its first opener owns it.
    ///
    /// # Errors
    /// As [`Principal::access`].
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
                // Another may have been first, and one that was deleted stays so.
                self.access(ports, project_id).await
            }
            found => found,
        }
    }

    /// Whether it makes a project by opening it. Where a setting that says so cannot be read, it makes none.
    pub fn makes_what_it_opens(&self, ports: Ports<'_>) -> bool {
        matches!(self.first_owner(ports), Ok(Some(_)))
    }

    /// Who is to own a project that this principal opens first, if it may be made so.
    fn first_owner(&self, ports: Ports<'_>) -> Result<Option<String>, UnreadableSetting> {
        let automatic = match ports.config.read("auto_create_projects")?.as_deref() {
            Some("true") => true,
            Some("false") => false,
            _ => ports.config.is_development(),
        };
        let owner = match self {
            Self::User { id, .. } => Some(id.clone()),
            // Everybody is that user.
            Self::Server if sessions::origin(ports.config)?.is_none() => Some(DEVELOPER.into()),
            _ => None,
        };
        Ok(owner.filter(|_| automatic))
    }

    /// The user; nobody, where it is no user.
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
    fn projects_are_made_by_opening_only_where_that_is_said() {
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
