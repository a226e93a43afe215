//! Makes a project from an archive.

use std::collections::HashMap;

use async_trait::async_trait;
use auth::{
    Role,
    imports::{self, Reservation},
    projects::{self, MAX_NAME, NewProject},
};
use platform::{DatabaseError, Ports};
use problem::Problem;
use quota::QuotaError;
use rooms::{
    Quarantined, RoomError,
    supervise::{self, MergeError, Merger},
};
use tasks::{
    AssetError, AssetStore, TaskError,
    rows::{self, PortableTask},
};
use thiserror::Error;
use wire::{EncodedState, Job, Outcome, Update};

use crate::{
    batches::batches,
    contents::{ArchiveError, Contents},
    purge::{give_up, new_token, purge_reserved},
};

/// The name under which an import writes into the room.
const ORIGIN: &str = "import";

/// The result of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The number of tasks.
    pub tasks: usize,
    /// The number of assets.
    pub assets: usize,
}

/// The reason why no project was made.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The archive is refused.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A project has, or had, this id.
    #[error("the project id is taken")]
    Taken,
    /// Another import of this id is under way.
    #[error("another import of this project is under way")]
    UnderWay,
    /// The import took so long that another one of this id took over.
    #[error("another import of this project took over")]
    TakenOver,
    /// The quota of the owner does not allow the archive.
    #[error(transparent)]
    Quota(#[from] QuotaError),
    /// The document was not taken: it is too large, or one of its values is refused.
    #[error("{reason}")]
    NotTaken {
        /// The reason as a word for programs; empty if an update is not valid.
        code: String,
        /// The reason, in words for the caller.
        reason: String,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The document could not be stored.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// An asset could not be stored.
    #[error(transparent)]
    Asset(#[from] AssetError),
    /// The rest of an import that broke off could not be purged.
    #[error(transparent)]
    NotPurged(#[from] TaskError),
}

impl From<ImportError> for Problem {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Archive(error) => Self::bad_request(error.to_string()),
            ImportError::Taken => projects::id_is_taken(),
            ImportError::UnderWay | ImportError::TakenOver => projects::id_is_imported(),
            ImportError::Quota(error) => error.into(),
            ImportError::NotTaken { code, reason } => {
                quota::problem(&code, &reason).unwrap_or_else(|| Self::bad_request(reason))
            }
            ImportError::Database(error) => error.into(),
            ImportError::Asset(error) => error.into(),
            ImportError::NotPurged(error) => error.into(),
            ImportError::Room(error) => {
                tracing::error!(%error, "a document was not imported");
                Self::unavailable("The document cannot be stored just now.")
            }
        }
    }
}

/// Makes a project from an archive, for this owner. The archive and the owner's quota are checked before anything is
/// stored, and no user sees the project before it is whole. If storing fails, what was stored is purged, and the id is free
/// again. If that fails too, or the app is killed, another import of that id, or the [`sweep`](crate::sweep), purges it
/// later.
///
/// # Errors
/// See [`ImportError`].
pub async fn import(
    ports: Ports<'_>,
    project_id: &str,
    owner_id: &str,
    archive: &[u8],
) -> Result<Imported, ImportError> {
    let contents = Contents::read(archive)?;
    make(ports, project_id, (owner_id, &[]), &contents, archive.len()).await
}

/// Makes a project from an archive of a backup as [`import`] does, with the owner and the members that the archive
/// names.
///
/// # Errors
/// See [`ImportError`].
pub async fn restore(
    ports: Ports<'_>,
    project_id: &str,
    archive: &[u8],
) -> Result<Imported, ImportError> {
    let contents = Contents::read(archive)?;
    let owner = contents.project.owner_id.as_deref();
    let owner = owner.ok_or(ArchiveError::NoOwner)?;
    let members = contents.project.members.iter().map(|member| {
        let role = Role::parse(&member.role).ok_or(ArchiveError::Format)?;
        Ok((member.user_id.as_str(), role))
    });
    let members: Vec<_> = members.collect::<Result<_, ArchiveError>>()?;
    make(
        ports,
        project_id,
        (owner, &members),
        &contents,
        archive.len(),
    )
    .await
}

/// The owner and the members of a new project.
type People<'a> = (&'a str, &'a [(&'a str, Role)]);

async fn make(
    ports: Ports<'_>,
    project_id: &str,
    people: People<'_>,
    contents: &Contents<'_>,
    bytes: usize,
) -> Result<Imported, ImportError> {
    let blobs = contents.blobs.iter().map(|blob| blob.to_vec()).collect();
    let updates = rooms::joined(blobs).map_err(ArchiveError::Document)?;
    quota::check_new(ports, people.0, bytes as u64).await?;
    let token = new_token();
    let stored = async {
        match imports::reserve(ports.database, ports.clock, project_id, &token).await? {
            Reservation::Made => {}
            Reservation::Taken => return Err(ImportError::Taken),
            Reservation::UnderWay => return Err(ImportError::UnderWay),
        }
        quota::add_new(ports.database, people.0, bytes as u64).await?;
        // An import that broke off may have left something.
        purge_reserved(ports, project_id, &token).await?;
        let imported = store(ports, project_id, contents, updates).await?;
        publish(ports, project_id, &token, people, &contents.project.name).await?;
        Ok(imported)
    };
    let stored = stored.await;
    if stored.is_err()
        && let Err(error) = give_up(ports, project_id, &token).await
    {
        tracing::warn!(project = project_id, %error, "an import that failed was not purged");
    }
    stored
}

async fn store(
    ports: Ports<'_>,
    project_id: &str,
    contents: &Contents<'_>,
    updates: Vec<Vec<u8>>,
) -> Result<Imported, ImportError> {
    store_document(ports, project_id, updates).await?;
    store_quarantined(ports, project_id, contents).await?;
    let renamed = store_assets(ports, project_id, contents).await?;
    let mut first = 1;
    for tasks in batches(&contents.tasks, PortableTask::size) {
        let tasks: Vec<_> = tasks
            .iter()
            .map(|task| with_own_assets(task, &renamed))
            .collect();
        let now = ports.clock.unix_seconds();
        rows::adopt(ports.database, project_id, first, &tasks, now).await?;
        first += tasks.len() as i64;
    }
    Ok(Imported {
        tasks: contents.tasks.len(),
        assets: contents.assets.len(),
    })
}

/// Gives a project that is stored to its owner and its members.
async fn publish(
    ports: Ports<'_>,
    project_id: &str,
    token: &str,
    (owner_id, members): People<'_>,
    name: &str,
) -> Result<(), ImportError> {
    let (database, clock) = (ports.database, ports.clock);
    // The next count of the owner adds up the counts of their projects, so this project needs one.
    quota::count(ports, project_id).await?;
    imports::add_members(database, clock, project_id, token, members).await?;
    let name: String = name.chars().take(MAX_NAME).collect();
    let new = NewProject {
        project_id,
        name: &name,
        owner_id,
    };
    if imports::publish(database, clock, token, new).await? {
        Ok(())
    } else {
        Err(ImportError::TakenOver)
    }
}

async fn store_document(
    ports: Ports<'_>,
    project_id: &str,
    updates: Vec<Vec<u8>>,
) -> Result<(), ImportError> {
    for payload in updates {
        let update = Update {
            project: project_id.to_owned(),
            payload: payload.into(),
            serial: None,
        };
        let (database, clock, here) = (ports.database, ports.clock, Here(ports));
        let stored = rooms::append_surely(database, clock, &here, ORIGIN, vec![update]);
        let outcomes = stored.await?;
        match outcomes.into_iter().next() {
            Some(Outcome::Stored { .. }) => {}
            Some(Outcome::Refused { reason, code }) => {
                let code = code.unwrap_or_default();
                return Err(ImportError::NotTaken { code, reason });
            }
            _ => return Err(RoomError::Busy.into()),
        }
    }
    Ok(())
}

/// Stores the archive's quarantined updates in the quarantine of the new project. They are not applied, because the
/// owner may restore them.
async fn store_quarantined(
    ports: Ports<'_>,
    project_id: &str,
    contents: &Contents<'_>,
) -> Result<(), DatabaseError> {
    for update in &contents.quarantined {
        let told = update.told.clone();
        let quarantined = Quarantined {
            // The room gives it a new rev.
            rev: 0,
            bytes: update.payload.len() as u64,
            origin: told.origin,
            created_at: told.created_at,
            quarantined_at: told.quarantined_at,
            reason: told.reason,
        };
        let payload = update.payload.to_vec();
        rooms::adopt_quarantined(ports.database, project_id, &quarantined, payload).await?;
    }
    Ok(())
}

/// Compares overlapping updates in the import's own instance, because no other caller knows the room yet.
struct Here<'a>(Ports<'a>);

#[async_trait(?Send)]
impl Merger for Here<'_> {
    async fn run(&self, project: &str, job: &Job) -> Result<EncodedState, MergeError> {
        let (database, clock) = (self.0.database, self.0.clock);
        let state = supervise::work(database, clock, project, job, self.memory()).await;
        state.map(EncodedState::from).map_err(MergeError::Failed)
    }
}

/// The new ids of assets whose ids were taken.
type Renamed<'a> = HashMap<&'a str, String>;

async fn store_assets<'a>(
    ports: Ports<'_>,
    project_id: &str,
    contents: &Contents<'a>,
) -> Result<Renamed<'a>, ImportError> {
    let store = AssetStore::open(ports.database, ports.http, ports.config)?;
    let mut renamed = Renamed::new();
    for asset in &contents.assets {
        let told = &asset.told;
        let of = (project_id, told.task_id.as_deref());
        let now = ports.clock.unix_seconds();
        let bytes = asset.bytes.to_vec();
        let id = store.adopt(asset.id, of, &told.media_type, bytes, now);
        let id = id.await?;
        if id != asset.id {
            renamed.insert(asset.id, id);
        }
    }
    Ok(renamed)
}

/// Makes a copy of a task in which each asset whose id was taken has its new id.
fn with_own_assets(task: &PortableTask, renamed: &Renamed<'_>) -> PortableTask {
    let own = |text: &str| text_with_own_assets(text, renamed);
    PortableTask {
        params: own(&task.params),
        result_url: task.result_url.as_deref().map(own),
        result_data: task.result_data.as_deref().map(own),
        ..task.clone()
    }
}

/// A text of a task in which each asset whose id was taken has its new id.
fn text_with_own_assets(text: &str, renamed: &Renamed<'_>) -> String {
    let mut own = String::with_capacity(text.len());
    let is_of_id = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == '.';
    let mut rest = text;
    while let Some(start) = rest.find(is_of_id) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|char| !is_of_id(char)).unwrap_or(from.len());
        let (word, after) = from.split_at(end);
        own.push_str(before);
        own.push_str(renamed.get(word).map_or(word, String::as_str));
        rest = after;
    }
    own.push_str(rest);
    own
}
