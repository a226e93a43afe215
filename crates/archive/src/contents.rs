//! The contents of an archive, checked before anything is stored.

use std::collections::HashSet;

use auth::{Role, projects};
use serde::{Deserialize, Serialize};
use tasks::rows::PortableTask;
use thiserror::Error;

use crate::{
    FORMAT,
    field::{LATEST, MAX_TEXT, is_text},
    tar::{self, TarError},
    task_file,
};

/// The most members of a project in an archive.
const MAX_MEMBERS: usize = 10_000;

/// The reason why an archive is refused, in words for its sender.
#[derive(Debug, Error, PartialEq)]
pub enum ArchiveError {
    /// The archive is not a tar archive, or is not whole.
    #[error("The archive cannot be read: {0}.")]
    Tar(String),
    /// The archive is not of a project, or is of a newer release.
    #[error("The archive has no project.json of a format that this server reads.")]
    Format,
    /// The archive names no owner, because it does not come from a backup.
    #[error("The archive names no owner: import it as a project of a user.")]
    NoOwner,
    /// A file in it is unknown or damaged.
    #[error("The archive's file {name:?} {reason}.")]
    File {
        /// The path in the archive.
        name: String,
        /// The words about what is wrong with the file. They complete the sentence that begins with the path.
        reason: &'static str,
    },
    /// The document cannot be read.
    #[error("The archive's document cannot be read: {0}")]
    Document(String),
}

impl From<TarError> for ArchiveError {
    fn from(error: TarError) -> Self {
        Self::Tar(error.to_string())
    }
}

/// The file `project.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ProjectFile {
    pub(crate) format: u32,
    pub(crate) name: String,
    /// The user who owns the project. Only the archives of a backup name users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) owner_id: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) members: Vec<MemberIn>,
}

/// A member of a project.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MemberIn {
    pub(crate) user_id: String,
    pub(crate) role: String,
}

/// The file `assets/{id}.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct AssetFile {
    pub(crate) media_type: String,
    /// The SHA-256 of the bytes, in hexadecimal.
    pub(crate) digest: String,
    pub(crate) task_id: Option<String>,
}

/// The file `quarantine/{number}.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct QuarantinedFile {
    pub(crate) origin: String,
    pub(crate) created_at: i64,
    pub(crate) quarantined_at: i64,
    pub(crate) reason: String,
}

/// A file about another file. That other file must come right after it.
enum About {
    Asset(AssetFile),
    Quarantined(QuarantinedFile),
}

/// An asset in an archive.
#[derive(Debug)]
pub(crate) struct AssetIn<'a> {
    pub(crate) id: &'a str,
    pub(crate) told: AssetFile,
    pub(crate) bytes: &'a [u8],
}

/// An update in quarantine in an archive.
#[derive(Debug)]
pub(crate) struct QuarantinedIn<'a> {
    pub(crate) told: QuarantinedFile,
    pub(crate) payload: &'a [u8],
}

/// The contents of a whole archive.
#[derive(Debug)]
pub(crate) struct Contents<'a> {
    pub(crate) project: ProjectFile,
    pub(crate) blobs: Vec<&'a [u8]>,
    pub(crate) quarantined: Vec<QuarantinedIn<'a>>,
    pub(crate) assets: Vec<AssetIn<'a>>,
    pub(crate) tasks: Vec<PortableTask>,
}

impl<'a> Contents<'a> {
    /// Reads and checks a whole archive. The paths in it only distinguish files: nothing is written to a file.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub(crate) fn read(archive: &'a [u8]) -> Result<Self, ArchiveError> {
        let entries = tar::read(archive)?;
        let mut project = None;
        // The path of the file that must come next, and the file about it.
        let mut awaited: Option<(&str, About)> = None;
        let (mut blobs, mut quarantined) = (Vec::new(), Vec::new());
        let (mut assets, mut tasks) = (Vec::new(), Vec::new());
        let mut ids = HashSet::new();
        for entry in entries {
            let (name, bytes) = (entry.name, entry.bytes);
            let wrong = |reason| wrong(name, reason);
            let unreadable = |_| wrong("is not the JSON that it should be");
            let about = match awaited.take() {
                Some((path, _)) if path != name => return Err(self::wrong(path, ALONE)),
                awaited => awaited.map(|(_, about)| about),
            };
            let described = name.strip_suffix(".json");
            match (name.split_once('/'), about) {
                (_, Some(About::Quarantined(told))) => {
                    let payload = bytes;
                    quarantined.push(QuarantinedIn { told, payload });
                }
                (_, Some(About::Asset(told))) => {
                    let asset = asset(name, told, bytes).map_err(wrong)?;
                    if !ids.insert(asset.id.to_owned()) {
                        return Err(wrong(TWICE));
                    }
                    assets.push(asset);
                }
                (None, _) if name == "project.json" && project.is_none() => {
                    let file: ProjectFile = serde_json::from_slice(bytes).map_err(unreadable)?;
                    check_users(&file).map_err(wrong)?;
                    project = Some(file);
                }
                (Some(("document", _)), _) => blobs.push((name, bytes)),
                (Some(("quarantine", _)), _) => {
                    let path = described.ok_or_else(|| wrong(ALONE))?;
                    let told = serde_json::from_slice(bytes).map_err(unreadable)?;
                    check_quarantined(&told).map_err(wrong)?;
                    awaited = Some((path, About::Quarantined(told)));
                }
                (Some(("assets", _)), _) => {
                    let path = described.ok_or_else(|| wrong(ALONE))?;
                    let told = serde_json::from_slice(bytes).map_err(unreadable)?;
                    awaited = Some((path, About::Asset(told)));
                }
                (Some(("tasks", _)), _) => {
                    let task: PortableTask = serde_json::from_slice(bytes).map_err(unreadable)?;
                    task_file::check(&task).map_err(wrong)?;
                    if !ids.insert(task.task_id.clone()) {
                        return Err(wrong(TWICE));
                    }
                    tasks.push(task);
                }
                _ => return Err(wrong("is not a part of a project")),
            }
        }
        if let Some((path, _)) = awaited {
            return Err(wrong(path, ALONE));
        }
        let project = project.filter(|project| (1..=FORMAT).contains(&project.format));
        let project = project.ok_or(ArchiveError::Format)?;
        blobs.sort_by_key(|(name, _)| *name);
        Ok(Self {
            project,
            blobs: blobs.into_iter().map(|(_, bytes)| bytes).collect(),
            quarantined,
            assets,
            tasks,
        })
    }
}

/// Refuses the file of this path.
fn wrong(path: &str, reason: &'static str) -> ArchiveError {
    ArchiveError::File {
        name: path.chars().take(120).collect(),
        reason,
    }
}

/// Makes an asset, if the bytes are those that its JSON file describes.
fn asset<'a>(path: &'a str, told: AssetFile, bytes: &'a [u8]) -> Result<AssetIn<'a>, &'static str> {
    let id = path.strip_prefix("assets/");
    let id = id.filter(|id| tasks::is_asset_id(id));
    let id = id.ok_or("has a name that is not the id of an asset")?;
    if told.digest != tasks::digest(bytes) {
        return Err("is damaged: its digest is not the one in the JSON file about it");
    }
    Ok(AssetIn { id, told, bytes })
}

/// The reason why the second file of a pair is refused if it comes alone, later, or not at all.
const ALONE: &str = "does not come right after the JSON file about it";

/// The reason why a second task or asset of the same id is refused.
const TWICE: &str = "has the same id as another file";

/// Checks the users that an archive of a backup names.
fn check_users(project: &ProjectFile) -> Result<(), &'static str> {
    let owner = project.owner_id.as_deref();
    let is_member = |member: &MemberIn| {
        projects::is_user_id(&member.user_id) && Role::parse(&member.role).is_some()
    };
    let are_valid = owner.is_none_or(projects::is_user_id)
        && project.members.len() <= MAX_MEMBERS
        && project.members.iter().all(is_member);
    if are_valid {
        Ok(())
    } else {
        Err("has an owner or a member that is not valid")
    }
}

/// Refuses an update that could not have been a row of the quarantine.
fn check_quarantined(update: &QuarantinedFile) -> Result<(), &'static str> {
    let is_time = |time: i64| (0..=LATEST).contains(&time);
    let is_valid = is_text(&update.origin)
        && update.reason.len() <= MAX_TEXT
        && is_time(update.created_at)
        && is_time(update.quarantined_at);
    if is_valid {
        Ok(())
    } else {
        Err("has a field that is not valid for an update in quarantine")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::tar::archive;

    type File<'a> = (&'a str, String);

    /// The words with which an archive of these files, behind a `project.json`, is refused; empty if it is taken.
    fn refusal(files: &[File<'_>]) -> String {
        let project = json!({ "format": FORMAT, "name": "a" }).to_string();
        let mut all = vec![("project.json", project.as_bytes())];
        all.extend(files.iter().map(|(name, text)| (*name, text.as_bytes())));
        let archive = archive(&all);
        let read = Contents::read(&archive);
        read.err().map_or(String::new(), |error| error.to_string())
    }

    fn task(change: impl FnOnce(&mut Value)) -> String {
        let mut task = json!({
            "task_id": "task_1", "task_type": "demo", "status": "failed", "params": "{}",
            "created_at": 1, "updated_at": 1, "retry_count": 0, "max_retries": 3,
        });
        change(&mut task);
        task.to_string()
    }

    fn about(text: &str) -> String {
        let digest = tasks::digest(text.as_bytes());
        json!({ "media_type": "image/png", "digest": digest }).to_string()
    }

    fn aside(created_at: i64) -> String {
        json!({ "origin": "r1", "created_at": created_at, "quarantined_at": 2, "reason": "no" })
            .to_string()
    }

    #[test]
    fn a_hostile_archive_is_refused_in_words() {
        let id = format!("asset_{}", "a1".repeat(13));
        let (path, json_path) = (format!("assets/{id}"), format!("assets/{id}.json"));
        let (bytes, none) = (|| "bytes".to_owned(), String::new);
        let right_after = format!("{path:?} does not come right after");
        let good = |at: &'static str| (at, task(|_| {}));
        let wrong = |field: &str, value: Value| ("tasks/1", task(|task| task[field] = value));
        let asset = || {
            [
                (json_path.as_str(), about("bytes")),
                (path.as_str(), bytes()),
            ]
        };
        let cases: Vec<(Vec<File<'_>>, &str)> = vec![
            (vec![good("tasks/1")], ""),
            (asset().into(), ""),
            // No path leads out of the archive.
            (
                vec![("../../etc/passwd", none())],
                "not a part of a project",
            ),
            (vec![("/etc/passwd", none())], "not a part of a project"),
            (vec![("tasks", none())], "not a part of a project"),
            (
                vec![
                    ("assets/../x.json", about("x")),
                    ("assets/../x", "x".into()),
                ],
                "has a name that is not the id of an asset",
            ),
            (vec![(&*path, bytes())], "does not come right after"),
            (
                vec![(&*json_path, about("bytes"))],
                "does not come right after",
            ),
            // Other folders' files come before or after the two, and not between them.
            (
                [
                    vec![good("tasks/1")],
                    asset().into(),
                    vec![("document/1", none())],
                ]
                .concat(),
                "",
            ),
            (
                vec![
                    (&*json_path, about("bytes")),
                    good("tasks/1"),
                    (&*path, bytes()),
                ],
                &right_after,
            ),
            (
                vec![
                    ("quarantine/1.json", aside(1)),
                    ("document/1", none()),
                    ("quarantine/1", bytes()),
                ],
                "\"quarantine/1\" does not come right after",
            ),
            (
                vec![(&*json_path, about("bytes")), (&*path, "others".into())],
                "its digest is not the one",
            ),
            ([asset(), asset()].concat(), "the same id as another file"),
            (
                vec![good("tasks/1"), good("tasks/2")],
                "the same id as another file",
            ),
            (
                vec![("project.json", "{}".into())],
                "is not a part of a project",
            ),
            (vec![("tasks/1", "[".repeat(5000))], "not the JSON"),
            (vec![("quarantine/1", bytes())], "does not come right after"),
            (
                vec![("quarantine/1.json", aside(1))],
                "does not come right after",
            ),
            (
                vec![("quarantine/1.json", aside(1)), ("quarantine/1", bytes())],
                "",
            ),
            (
                vec![("quarantine/1.json", aside(1)), ("quarantine/2", bytes())],
                "does not come right after",
            ),
            (
                vec![("quarantine/1.json", aside(-1))],
                "an update in quarantine",
            ),
            (vec![wrong("task_id", json!("../1"))], "an id or a type"),
            (vec![wrong("task_type", json!("a\nb"))], "an id or a type"),
            (vec![wrong("external_service", json!(""))], "a service"),
            (vec![wrong("status", json!("lost"))], "unknown status"),
            (vec![wrong("created_at", json!(i64::MAX))], "a time"),
            (vec![wrong("completed_at", json!(-1))], "a time"),
            (vec![wrong("params", json!("[]"))], "not the JSON"),
            (vec![wrong("result_data", json!("{"))], "not the JSON"),
            (vec![wrong("metadata", json!("{"))], "tags or metadata"),
            (vec![wrong("metadata", json!("[]"))], "tags or metadata"),
            (vec![wrong("tags", json!("[\"\"]"))], "tags or metadata"),
            (vec![wrong("node_id", json!("n".repeat(1024)))], ""),
            (vec![wrong("node_id", json!("n".repeat(1025)))], "a node"),
            (
                vec![wrong("error_message", json!("\u{e9}".repeat(500)))],
                "",
            ),
            (
                vec![wrong("error_message", json!("e".repeat(501)))],
                "an error message",
            ),
            (vec![wrong("result_url", json!("file:///x"))], "an address"),
            (vec![wrong("result_url", json!("/tasks/1"))], "an address"),
        ];
        for (files, words) in cases {
            let refused = refusal(&files);
            assert!(refused.contains(words), "{files:?}: {refused}");
            assert_eq!(refused.is_empty(), words.is_empty(), "{files:?}: {refused}");
        }
    }

    #[test]
    fn only_valid_users_may_be_named() {
        let taken = |project: Value| {
            let archive = archive(&[("project.json", project.to_string().as_bytes())]);
            Contents::read(&archive).is_ok()
        };
        let member = |id: &str, role: &str| json!([{ "user_id": id, "role": role }]);
        let of = |owner: Value, members: Value| json!({ "format": 1, "name": "a", "owner_id": owner, "members": members });
        assert!(taken(of(json!(null), json!([]))));
        assert!(taken(of(json!("ada"), member("bob", "write"))));
        assert!(!taken(of(json!(""), json!([]))));
        assert!(!taken(of(json!("a\n"), json!([]))));
        assert!(!taken(of(json!("ada"), member("bob", "owner"))));
        assert!(!taken(of(json!("ada"), member("", "read"))));
        assert!(!taken(json!({ "format": 2, "name": "a" })));
        assert!(!taken(json!({ "format": 0, "name": "a" })));
    }
}
