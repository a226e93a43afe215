//! The roles of users and agents in a project.

use platform::DatabaseError;
use serde::{Serialize, Serializer};

use crate::denied::Denied;

/// A role in a project. Each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Allows seeing everything.
    Read,
    /// Allows changing the document and posting tasks.
    Write,
    /// Allows managing members and tokens, and renaming, giving away or deleting the project.
    Owner,
}

impl Role {
    /// The role's name in the database and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Owner => "owner",
        }
    }

    /// The role of this name, if members and tokens can have it.
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

/// The access of a principal to a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// The project's `access_rev` at which this grant was read.
    pub access_rev: u64,
}

impl Grant {
    /// Requires that the grant includes a role.
    ///
    /// # Errors
    /// If it does not.
    pub fn require(self, role: Role) -> Result<Self, Denied> {
        match role {
            role if self.role >= role => Ok(self),
            Role::Owner => Err(Denied::OwnerOnly),
            _ => Err(Denied::ReadOnly),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_includes_those_before_it() {
        let grant = |role| Grant {
            role,
            access_rev: 1,
        };
        let all = [Role::Read, Role::Write, Role::Owner];
        for (at, role) in all.into_iter().enumerate() {
            for (needed_at, needed) in all.into_iter().enumerate() {
                let found = grant(role).require(needed);
                match found {
                    Ok(found) => assert_eq!((found, needed_at <= at), (grant(role), true)),
                    Err(Denied::OwnerOnly) => {
                        assert_eq!((needed, role < needed), (Role::Owner, true))
                    }
                    Err(denied) => {
                        assert!(matches!(denied, Denied::ReadOnly), "{denied}");
                        assert_eq!((needed, role), (Role::Write, Role::Read));
                    }
                }
            }
            let given = Role::parse(role.as_str());
            assert_eq!(
                given,
                (role != Role::Owner).then_some(role),
                "every role but the owner's can be given: {role:?}"
            );
        }
    }
}
