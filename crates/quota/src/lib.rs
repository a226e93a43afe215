//! The quotas: how many bytes a project, and all projects of one owner, may keep, and how large a document may be.
//!
//! A quota never deletes anything that was saved; it only refuses new bytes. An append must not cost more because of
//! quotas, so it counts nothing: a document is counted when its log is looked at for compaction; an owner, and the
//! assets and tasks of a project, are counted at most once a minute. A count that finds a holder full notes that in the
//! table `quota_full`, which is usually empty, and in which every append looks (`rooms::append`). So a holder may
//! exceed its quota by the bytes that come between two counts.

#![forbid(unsafe_code)]

mod allowed;
mod full;
mod usage;

use platform::{Database, DatabaseError, Ports};
use problem::{Kind, Problem};
use serde::Serialize;
use thiserror::Error;

use crate::{
    allowed::Allowed,
    full::Full,
    usage::{Holder, Usage},
};

pub use allowed::{
    BYTES_OF_OPERATION, INSTANCE_MEMORY_MIB, ROOM_BYTES, instance_memory_mib, largest_room,
};
pub use full::{reasons_sql, takes_sql};

/// The code of a document that has reached its largest size.
pub const ROOM_FULL: &str = "room_full";

/// The code of a project, or an owner, that has used up its quota.
pub const QUOTA: &str = "quota";

/// The part of its limit, in percent, from which on a holder is nearly full.
const NEARLY: u64 = 80;

/// The most full holders that one round counts again. A later round goes on.
const RECOUNTS: u64 = 32;

/// The time after which a full holder is counted again, in seconds.
const RECOUNT_AFTER: i64 = 60;

/// The declarations of the settings.
pub fn settings() -> impl Iterator<Item = &'static platform::setting::Declaration> {
    allowed::SETTINGS.iter()
}

/// The bytes that a project keeps, and those that it may keep, for its users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The bytes of the document, the tasks and their results.
    pub bytes: u64,
    /// The most that they may be.
    pub bytes_allowed: u64,
    /// The bytes of the document as its largest size counts them: see [`ROOM_BYTES`].
    pub document_bytes: u64,
    /// The most that they may be.
    pub document_bytes_allowed: u64,
    /// The bytes of all projects of the owner.
    pub owner_bytes: u64,
    /// The most that they may be.
    pub owner_bytes_allowed: u64,
    /// Says whether one of the three has reached 80 %.
    pub nearly_full: bool,
    /// The code `room_full` or `quota` if edits are refused.
    pub full: Option<&'static str>,
}

/// A quota is used up, or could not be looked up.
#[derive(Debug, Error)]
pub enum QuotaError {
    /// The quota is used up; in words for a user.
    #[error("{0}")]
    Exceeded(String),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl From<QuotaError> for Problem {
    fn from(error: QuotaError) -> Self {
        match error {
            QuotaError::Exceeded(words) => Self::new(Kind::QUOTA, words),
            QuotaError::Database(error) => error.into(),
        }
    }
}

/// Makes the problem for an update that was refused with this code; `None` if the code is not that of a quota.
pub fn problem(code: &str, reason: &str) -> Option<Problem> {
    let kind = match code {
        ROOM_FULL => Kind::ROOM_FULL,
        QUOTA => Kind::QUOTA,
        _ => return None,
    };
    Some(Problem::new(kind, reason))
}

/// A project and its owner, counted.
struct Counted {
    owner: Option<Holder>,
    of_project: Usage,
    of_owner: Usage,
    allowed: Allowed,
}

impl Counted {
    fn full_project(&self) -> Option<Full> {
        let Usage { room, .. } = self.of_project;
        let total = self.of_project.total();
        Full::of(
            ROOM_FULL,
            "the document has reached its largest size",
            room,
            self.allowed.room,
        )
        .or_else(|| {
            let words = "the project has used up its quota";
            Full::of(QUOTA, words, total, self.allowed.project)
        })
    }

    fn full_owner(&self) -> Option<Full> {
        full_owner(self.of_owner, self.allowed)
    }

    fn report(&self) -> Report {
        let limits = [
            (self.of_project.total(), self.allowed.project),
            (self.of_project.room, self.allowed.room),
            (self.of_owner.total(), self.allowed.owner),
        ];
        let is_near = |(used, allowed): &(u64, u64)| *used >= allowed / 100 * NEARLY;
        let full = self.full_project().or_else(|| self.full_owner());
        Report {
            bytes: limits[0].0,
            bytes_allowed: limits[0].1,
            document_bytes: limits[1].0,
            document_bytes_allowed: limits[1].1,
            owner_bytes: limits[2].0,
            owner_bytes_allowed: limits[2].1,
            nearly_full: limits.iter().any(is_near),
            full: full.map(|full| full.code),
        }
    }
}

fn full_owner(usage: Usage, allowed: Allowed) -> Option<Full> {
    let words = "the projects of this owner have used up their quota";
    Full::of(QUOTA, words, usage.total(), allowed.owner)
}

/// Counts a project now, and its owner if the last count is older than a minute. From then on appends are refused if one
/// of them is full, and taken if neither is.
///
/// # Errors
/// If the database fails.
pub async fn count(ports: Ports<'_>, project: &str) -> Result<(), DatabaseError> {
    look(ports, project, true).await.map(drop)
}

/// Reports the bytes of a project, as they were at most a minute ago.
///
/// # Errors
/// If the database fails.
pub async fn report(ports: Ports<'_>, project: &str) -> Result<Report, DatabaseError> {
    Ok(look(ports, project, false).await?.report())
}

/// Takes this number of bytes for a task and what comes with it, or for an upload.
///
/// # Errors
/// If the project's quota, or its owner's, does not allow them, or the database fails.
pub async fn take(ports: Ports<'_>, project: &str, bytes: u64) -> Result<(), QuotaError> {
    let counted = allowed(ports, project, bytes).await?;
    let project = Holder::project(project);
    let owner = counted.owner.unwrap_or_else(|| project.clone());
    Ok(usage::add(ports.database, [&project, &owner], bytes).await?)
}

/// Checks that an owner may have a new project of this number of bytes.
///
/// # Errors
/// As those of [`take`].
pub async fn check_new(ports: Ports<'_>, owner: &str, bytes: u64) -> Result<(), QuotaError> {
    let usage = look_at_owner(ports, owner).await?;
    let allowed = Allowed::read(ports.config);
    refuse_above("This project", 0, bytes, allowed.project)?;
    refuse_above(OWNER, usage.total(), bytes, allowed.owner)
}

/// Adds the bytes of a new project to its owner's, until the next count finds them.
///
/// # Errors
/// If the database fails.
pub async fn add_new(
    database: &dyn Database,
    owner: &str,
    bytes: u64,
) -> Result<(), DatabaseError> {
    let owner = Holder::owner(owner);
    usage::add(database, [&owner, &owner], bytes).await
}

/// Checks that this number of bytes may come, and takes none of them.
///
/// # Errors
/// As those of [`take`].
pub async fn check(ports: Ports<'_>, project: &str, bytes: u64) -> Result<(), QuotaError> {
    allowed(ports, project, bytes).await.map(drop)
}

async fn allowed(ports: Ports<'_>, project: &str, bytes: u64) -> Result<Counted, QuotaError> {
    let counted = look(ports, project, false).await?;
    let Allowed { project, owner, .. } = counted.allowed;
    refuse_above("This project", counted.of_project.total(), bytes, project)?;
    refuse_above(OWNER, counted.of_owner.total(), bytes, owner)?;
    Ok(counted)
}

/// The words for an owner, who holds all of their projects together.
const OWNER: &str = "The owner of this project";

/// Refuses bytes with which a holder, named by `words`, would have more than is allowed.
fn refuse_above(words: &str, used: u64, bytes: u64, allowed: u64) -> Result<(), QuotaError> {
    if used.saturating_add(bytes) <= allowed {
        return Ok(());
    }
    Err(QuotaError::Exceeded(format!(
        "{words} keeps {} of the {} MiB that are allowed. Delete a project, or ask for a larger quota.",
        used >> 20,
        allowed >> 20
    )))
}

/// Counts full holders again, because something may have been deleted or a quota may have been raised. It does nothing
/// if none is full.
///
/// # Errors
/// If the database fails. A later call goes on.
pub async fn recount(ports: Ports<'_>) -> Result<(), DatabaseError> {
    let now = ports.clock.unix_seconds();
    let due = full::to_recount(ports.database, now - RECOUNT_AFTER, RECOUNTS).await?;
    for holder in due {
        match holder.split_once(':') {
            Some(("project", project)) => count(ports, project).await?,
            Some((_, owner)) => {
                let allowed = Allowed::read(ports.config);
                let usage = usage::count_owner(ports.database, owner, now).await?;
                let full = full_owner(usage, allowed);
                full::note(ports.database, &Holder(holder), full.as_ref(), now).await?;
            }
            None => {}
        }
    }
    Ok(())
}

/// Forgets a project that was deleted.
///
/// # Errors
/// If the database fails. Doing it again is harmless.
pub async fn forget(database: &dyn Database, project: &str) -> Result<(), DatabaseError> {
    let holder = Holder::project(project).0;
    for table in ["quota_usage", "quota_full"] {
        let sql = format!("DELETE FROM {table} WHERE holder = ?1");
        database.execute(&sql, vec![holder.as_str().into()]).await?;
    }
    Ok(())
}

/// Looks up the last counts, and counts again what is older than a minute; with `at_once`, the project in any case.
async fn look(ports: Ports<'_>, project: &str, at_once: bool) -> Result<Counted, DatabaseError> {
    let Ports {
        database,
        clock,
        config,
        ..
    } = ports;
    let now = clock.unix_seconds();
    let holder = Holder::project(project);
    let known = if at_once {
        None
    } else {
        usage::last(database, &holder).await?
    };
    let known = known.filter(|usage| usage.holds_at(now));
    let of_project = match known {
        Some(usage) => usage,
        None => usage::count_project(database, project, now).await?,
    };
    let owner_id = usage::owner(database, project).await?;
    let owner = owner_id.as_deref().map(Holder::owner);
    let mut of_owner = of_project;
    if let Some(id) = &owner_id {
        of_owner = look_at_owner(ports, id).await?;
    }
    let counted = Counted {
        owner,
        of_project,
        of_owner,
        allowed: Allowed::read(config),
    };
    // This happens even if neither was counted again, because the settings may have changed.
    full::note(database, &holder, counted.full_project().as_ref(), now).await?;
    if let Some(owner) = &counted.owner {
        full::note(database, owner, counted.full_owner().as_ref(), now).await?;
    }
    Ok(counted)
}

/// Looks up the last count of an owner, and counts again if it is older than a minute.
async fn look_at_owner(ports: Ports<'_>, owner: &str) -> Result<Usage, DatabaseError> {
    let now = ports.clock.unix_seconds();
    let known = usage::last(ports.database, &Holder::owner(owner)).await?;
    match known.filter(|usage| usage.holds_at(now)) {
        Some(usage) => Ok(usage),
        None => usage::count_owner(ports.database, owner, now).await,
    }
}
