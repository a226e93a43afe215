//! A task, and its status.

use auth::secrets;
use serde::Serialize;
use serde_json::Value;

/// The longest text of a task, such as a prompt, in characters.
pub(crate) const MAX_TEXT: usize = 16 * 1024;

/// The longest node id, in characters.
pub(crate) const MAX_NODE_ID: usize = 1024;

/// The status of a task: `pending -> processing -> completed | failed | cancelled`. A service that has no place
/// puts a task back to `pending`; a failed or cancelled one can be set back by its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The task waits for an instance that takes it up, or for a place at its service.
    Pending,
    /// The task is being submitted, or its service works on it.
    Processing,
    /// The task has its result.
    Completed,
    /// The task has no result and will not get one.
    Failed,
    /// The task was cancelled, by a user or because its time was up.
    Cancelled,
}

impl Status {
    /// The name of the status in the database, over HTTP and in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "pending" => Self::Pending,
            "processing" => Self::Processing,
            "completed" => Self::Completed,
            "failed" => Self::Failed,
            "cancelled" => Self::Cancelled,
            _ => return None,
        })
    }

    /// Returns whether the task is finished.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// A task, as in its row. Times are Unix seconds.
///
/// Serialised, it is what a list holds: the public columns, without the parameters and the data of the result, which may
/// be large and are read by a function each: [`rows::params`](crate::rows::params) and
/// [`rows::result_data`](crate::rows::result_data).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Task {
    /// The id: `task_<unix seconds>_<random>`.
    pub task_id: String,
    /// The project whose document shows the task.
    pub project_id: String,
    /// The type, such as `kling_video`.
    pub task_type: String,
    /// The status.
    pub status: Status,
    /// The service's name for the job, once the service has accepted it.
    pub external_task_id: Option<String>,
    /// The service, such as `kling`.
    pub external_service: Option<String>,
    /// The address of the result.
    pub result_url: Option<String>,
    /// The time at which the service deletes the result, if that is kept there alone.
    pub result_expires_at: Option<i64>,
    /// The last error, also while the task is tried again.
    pub error_message: Option<String>,
    /// The reason why the task waits, in words for its user, such as `waiting for a place at Kling`.
    pub message: Option<String>,
    /// The time at which the task was posted.
    pub created_at: i64,
    /// The time of the last change that users see.
    pub updated_at: i64,
    /// The time at which the task was finished.
    pub completed_at: Option<i64>,
    /// The errors in a row since the service last answered as it should. A claim that ended without an outcome counts
    /// as one.
    pub retry_count: i64,
    /// The most errors in a row before the task fails, until its service has accepted it. From then on only an error that
    /// concerns the job ends the task.
    pub max_retries: i64,
    /// The caller's words for the task.
    pub tags: Vec<String>,
    /// The caller's notes, an object.
    pub metadata: Option<Value>,
    /// The time at which the task is cancelled if it has not ended by then.
    pub cancel_at: Option<i64>,
    /// The events of which the agent is notified, with commas between; `None` stands for the ends.
    #[serde(skip)]
    pub notify_of: Option<String>,
    /// The node of the document for which the task was posted.
    #[serde(skip)]
    pub node_id: Option<String>,
    /// The address at which the agent is notified of the task's events.
    #[serde(skip)]
    pub callback_url: Option<String>,
    /// The count of changes that a document shows.
    #[serde(skip)]
    pub version: i64,
    /// The number of times that the user has set the task back.
    #[serde(skip)]
    pub run: i64,
    /// The number of submissions of this run that were begun.
    #[serde(skip)]
    pub attempts: i64,
    /// The end of the claim. It also identifies the claim: another of this task has the same end only if this one was given
    /// up in the same second.
    #[serde(skip)]
    pub lease_until: Option<i64>,
    /// The time at which the service accepted this run.
    #[serde(skip)]
    pub accepted_at: Option<i64>,
    /// The names of earlier runs' jobs, one a line. See [`Task::earlier_jobs`].
    #[serde(skip)]
    pub earlier_jobs: Option<String>,
    /// The place in the order in which the tasks of the project were posted; a retry counts as posted.
    #[serde(skip)]
    pub seq: i64,
    /// The number of times in a row that the service had no place for the task.
    #[serde(skip)]
    pub waits: i64,
    /// Says whether the claim was a try for one more place than the service is known to have.
    #[serde(skip)]
    pub is_probe: bool,
}

/// The most jobs of earlier runs that a service is asked about.
const MAX_EARLIER_JOBS: usize = 8;

impl Task {
    /// A task that is posted at this time, in Unix seconds, of no project and no type yet. Its parameters are stored
    /// beside it.
    pub fn new(now: i64) -> Self {
        Self {
            task_id: new_id(now),
            project_id: String::new(),
            task_type: String::new(),
            status: Status::Pending,
            external_task_id: None,
            external_service: None,
            result_url: None,
            result_expires_at: None,
            error_message: None,
            message: None,
            created_at: now,
            updated_at: now,
            completed_at: None,
            retry_count: 0,
            max_retries: 0,
            tags: Vec::new(),
            metadata: None,
            cancel_at: None,
            notify_of: None,
            node_id: None,
            callback_url: None,
            version: 0,
            run: 0,
            attempts: 0,
            lease_until: None,
            accepted_at: None,
            earlier_jobs: None,
            // The statement that stores the task sets the real number; until then the task counts as the last.
            seq: i64::MAX,
            waits: 0,
            is_probe: false,
        }
    }

    /// The engine's name for the job that a service does for this run of the task. A service that knows jobs by this
    /// name recognises a repeated submission by it, and the engine recognises a callback about an earlier run.
    pub fn job(&self) -> String {
        match self.run {
            0 => self.task_id.clone(),
            run => format!("{}-r{run}", self.task_id),
        }
    }

    /// The id of the task of a job.
    pub fn id_of_job(job: &str) -> &str {
        job.split_once("-r").map_or(job, |(task_id, _)| task_id)
    }

    /// A word that changes with everything that the answer to `GET /tasks/{id}` shows. A relay compares it.
    pub fn mark(&self) -> String {
        let Self {
            version,
            updated_at,
            retry_count,
            external_task_id,
            ..
        } = self;
        mark(
            *version,
            *updated_at,
            *retry_count,
            external_task_id.is_some(),
        )
    }

    /// The names of earlier runs' jobs, which may have been paid for: a service that can look jobs up is asked about
    /// them before this run begins another. First the service's names of jobs that it has accepted, then ours of jobs
    /// that may have reached it; newer ones before older ones.
    pub fn earlier_jobs(&self) -> Vec<&str> {
        let names = self.earlier_jobs.as_deref().unwrap_or_default();
        let (possible, mut accepted): (Vec<&str>, Vec<&str>) = names
            .lines()
            .rev()
            .filter(|name| !name.is_empty())
            .partition(|name| Self::id_of_job(name) == self.task_id);
        accepted.extend(possible);
        accepted.truncate(MAX_EARLIER_JOBS);
        accepted
    }

    /// Returns whether this run may have reached its service before, although the answer did not arrive.
    pub fn was_attempted(&self) -> bool {
        self.attempts > 1
    }
}

/// The mark of a task with these columns. A change of the row shows in it by the version, by the number of errors, by
/// the acceptance, or by another second.
pub(crate) fn mark(version: i64, updated_at: i64, retry_count: i64, is_accepted: bool) -> String {
    format!(
        "{version}.{updated_at}.{retry_count}.{}",
        u8::from(is_accepted)
    )
}

/// The most characters of an error that a row, and so a document, holds. A service may send megabytes.
const MAX_ERROR_CHARS: usize = 500;

/// The beginning of an error's text, as much of it as a row holds.
pub fn shortened(text: &str) -> &str {
    match text.char_indices().nth(MAX_ERROR_CHARS) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

/// Makes a new id for a task.
pub fn new_id(now: i64) -> String {
    format!("task_{now}_{}", secrets::word(12))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_names_its_task() {
        let id = new_id(1_700_000_000);
        assert!(id.starts_with("task_1700000000_"), "{id}");
        assert_eq!(Task::id_of_job(&id), id);
        assert_eq!(Task::id_of_job(&format!("{id}-r3")), id);
    }

    #[test]
    fn a_status_has_one_name() {
        for name in ["pending", "processing", "completed", "failed", "cancelled"] {
            assert_eq!(Status::parse(name).map(Status::as_str), Some(name));
        }
        assert_eq!(Status::parse("done"), None);
    }

    #[test]
    fn an_error_has_at_most_five_hundred_characters() {
        assert_eq!(shortened("no"), "no");
        let long = "\u{1f525}".repeat(501);
        assert_eq!(shortened(&long).chars().count(), 500);
        assert_eq!(shortened(&long[4..]), &long[4..]);
    }
}
