//! Makes an archive of a project.

use auth::projects::{self, Project};
use futures_util::{StreamExt, stream, stream::LocalBoxStream};
use platform::{DatabaseError, Ports};
use problem::Problem;
use rooms::{Quarantined, RoomError};
use serde_json::json;
use tasks::{AssetError, AssetStore, rows};
use thiserror::Error;

use crate::{
    FORMAT,
    batches::batches,
    contents::{AssetFile, MemberIn, ProjectFile, QuarantinedFile},
    tar,
};

/// The bytes of an asset that are in memory at one time.
const PIECE: u64 = 1024 * 1024;

/// The reason why an archive could not be made.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The document could not be read.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// An asset could not be read.
    #[error(transparent)]
    Asset(#[from] AssetError),
    /// A file cannot be in an archive, because its name is too long.
    #[error("the name {0:?} is too long for an archive")]
    Name(String),
}

impl From<ExportError> for Problem {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Database(error) => error.into(),
            ExportError::Asset(error) => error.into(),
            ExportError::Room(error) => {
                tracing::error!(%error, "a document was not exported");
                Self::unavailable("The document cannot be read just now.")
            }
            error @ ExportError::Name(_) => {
                tracing::error!(%error, "a project was not exported");
                Self::unavailable("A file of the project has a name that no archive can have.")
            }
        }
    }
}

/// A part of an archive, which is made when its turn comes.
enum Part {
    Ready(Vec<u8>),
    /// A file of the document.
    Blob(usize, Vec<u8>),
    /// The files of an update in quarantine.
    Quarantined(usize, Quarantined),
    /// A range of the bytes of an asset.
    Asset(String, std::ops::Range<u64>),
    Tasks(Vec<String>),
}

/// Makes an archive of a project, for its owner. The parts of the stream are the archive's bytes. If one cannot be
/// read, the stream ends without the archive's end, so that its reader notices.
///
/// # Errors
/// If the database fails.
pub async fn export<'a>(
    ports: Ports<'a>,
    project: &Project,
) -> Result<LocalBoxStream<'a, Vec<u8>>, ExportError> {
    let file = ProjectFile {
        format: FORMAT,
        name: project.name.clone(),
        owner_id: None,
        members: Vec::new(),
    };
    archive(ports, &project.project_id, &file).await
}

/// Makes an archive of a project as [`export`] does, for a backup: it names the owner and the members, too.
///
/// # Errors
/// If the database fails.
pub async fn back_up<'a>(
    ports: Ports<'a>,
    project: &Project,
) -> Result<LocalBoxStream<'a, Vec<u8>>, ExportError> {
    let members = projects::members(ports.database, &project.project_id).await?;
    let member = |member: projects::Member| MemberIn {
        user_id: member.user_id,
        role: member.role.as_str().to_owned(),
    };
    let file = ProjectFile {
        format: FORMAT,
        name: project.name.clone(),
        owner_id: Some(project.owner_id.clone()),
        members: members.into_iter().map(member).collect(),
    };
    archive(ports, &project.project_id, &file).await
}

async fn archive<'a>(
    ports: Ports<'a>,
    project_id: &str,
    project: &ProjectFile,
) -> Result<LocalBoxStream<'a, Vec<u8>>, ExportError> {
    let store = AssetStore::open(ports.database, ports.http, ports.config)?;
    let room = rooms::updates_after(ports.database, project_id, 0).await?;
    let mut parts = vec![Part::Ready(file(
        "project.json",
        json!(project).to_string().as_bytes(),
    )?)];
    // An update in quarantine has an empty payload here.
    let blobs = room.blobs.into_iter().filter(|blob| !blob.is_empty());
    for (at, blob) in blobs.enumerate() {
        parts.push(Part::Blob(at + 1, blob.to_vec()));
    }
    let quarantined = rooms::quarantined(ports.database, project_id, 0, i64::MAX as u64).await?;
    let quarantined = (1..).zip(quarantined);
    parts.extend(quarantined.map(|(at, update)| Part::Quarantined(at, update)));
    assets(&store, project_id, &mut parts).await?;
    tasks_of(ports, project_id, &mut parts).await?;
    parts.push(Part::Ready(tar::END.to_vec()));
    let project = project_id.to_owned();
    let made = stream::iter(parts).then(move |part| {
        let (store, project) = (store.clone(), project.clone());
        async move {
            let made = make(ports, &project, &store, part).await;
            made.inspect_err(|error| tracing::error!(project, %error, "an export broke off"))
                .ok()
        }
    });
    Ok(made
        .scan((), |(), part| std::future::ready(part))
        .boxed_local())
}

async fn make(
    ports: Ports<'_>,
    project: &str,
    store: &AssetStore<'_>,
    part: Part,
) -> Result<Vec<u8>, ExportError> {
    match part {
        Part::Ready(bytes) => Ok(bytes),
        Part::Blob(at, blob) => file(&format!("document/{at:06}.loro"), &blob),
        Part::Quarantined(at, update) => {
            let payload = rooms::quarantined_update(ports.database, project, update.rev).await?;
            let told = QuarantinedFile {
                origin: update.origin,
                created_at: update.created_at,
                quarantined_at: update.quarantined_at,
                reason: update.reason,
            };
            let name = format!("quarantine/{at:06}");
            let mut files = Vec::new();
            // The update may have been restored or deleted by now.
            if let Some(payload) = payload {
                let about = json!(told).to_string();
                files = file(&format!("{name}.json"), about.as_bytes())?;
                files.extend(file(&name, &payload)?);
            }
            Ok(files)
        }
        Part::Asset(id, range) => {
            let asset = store.read(&id, Some(range)).await?;
            let gone = || AssetError::NotFetched(format!("{id} is gone"));
            Ok(asset.ok_or_else(gone)?.bytes)
        }
        Part::Tasks(ids) => {
            let mut bytes = Vec::new();
            for task in rows::portable(ports.database, &ids).await? {
                let name = format!("tasks/{}.json", task.task_id);
                bytes.extend(file(&name, json!(task).to_string().as_bytes())?);
            }
            Ok(bytes)
        }
    }
}

async fn assets(
    store: &AssetStore<'_>,
    project_id: &str,
    parts: &mut Vec<Part>,
) -> Result<(), ExportError> {
    for asset in store.list(project_id).await? {
        let (id, length) = (asset.id, asset.length);
        let told = AssetFile {
            media_type: asset.media_type,
            digest: asset.digest,
            task_id: asset.task_id,
        };
        let mut head = file(
            &format!("assets/{id}.json"),
            json!(told).to_string().as_bytes(),
        )?;
        head.extend(header(&format!("assets/{id}"), length)?);
        parts.push(Part::Ready(head));
        for start in (0..length).step_by(PIECE as usize) {
            parts.push(Part::Asset(id.clone(), start..(start + PIECE).min(length)));
        }
        parts.push(Part::Ready(tar::padding(length)));
    }
    Ok(())
}

async fn tasks_of(
    ports: Ports<'_>,
    project_id: &str,
    parts: &mut Vec<Part>,
) -> Result<(), DatabaseError> {
    let tasks = rows::sizes(ports.database, project_id).await?;
    let ids = |batch: &[(String, usize)]| batch.iter().map(|(id, _)| id.clone()).collect();
    let batches = batches(&tasks, |(_, size)| *size).into_iter();
    parts.extend(batches.map(|batch| Part::Tasks(ids(batch))));
    Ok(())
}

/// A whole file: the header, the contents and the padding.
fn file(name: &str, bytes: &[u8]) -> Result<Vec<u8>, ExportError> {
    let length = bytes.len() as u64;
    let mut file = header(name, length)?;
    file.extend_from_slice(bytes);
    file.extend(tar::padding(length));
    Ok(file)
}

/// The header of a file. Without it, the contents would be read as headers, so a name that is too long ends the archive.
fn header(name: &str, length: u64) -> Result<Vec<u8>, ExportError> {
    tar::header(name, length).ok_or_else(|| ExportError::Name(name.to_owned()))
}
