//! What a task is.

use auth::secrets;
use serde::Serialize;
use serde_json::Value;

/// How far a task is. `pending -> processing -> completed | failed | cancelled`; only a failed or
/// cancelled task can be set back, by its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nobody has taken it up yet.
    Pending,
    /// It is being submitted, or its service is at work.
    Processing,
    /// It has its result.
    Completed,
    /// It has no result and will get none.
    Failed,
    /// Its user wants no result any more.
    Cancelled,
}

impl Status {
    /// Its name in the database, over HTTP and in documents.
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

    /// Whether it changes no more by itself.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// A task as its row has it. Times are Unix seconds.
///
/// Serialised, it is what `GET /tasks/{id}` answers: the public columns, no more.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Task {
    /// `task_<unix seconds>_<random>`.
    pub task_id: String,
    /// The project whose document shows it.
    pub project_id: String,
    /// What kind, such as `kling_video`.
    pub task_type: String,
    /// How far it is.
    pub status: Status,
    /// What its service calls it, once it has accepted it.
    pub external_task_id: Option<String>,
    /// Its service, such as `kling`.
    pub external_service: Option<String>,
    /// Its parameters, as JSON text.
    pub params: String,
    /// The address of its result.
    pub result_url: Option<String>,
    /// More about its result, as JSON text.
    pub result_data: Option<String>,
    /// The last error. Also of a task that is tried again.
    pub error_message: Option<String>,
    /// When it was posted.
    pub created_at: i64,
    /// When the row changed last.
    pub updated_at: i64,
    /// When it was finished.
    pub completed_at: Option<i64>,
    /// Errors in a row since its service last answered as it should. A claim that ended without a word is one.
    pub retry_count: i64,
    /// How many errors in a row are tried again, until its service has accepted it. From then on only an error that
    /// concerns the job ends it.
    pub max_retries: i64,
    /// The node of the document that it was posted for.
    #[serde(skip)]
    pub node_id: Option<String>,
    /// Whom to tell when it is finished.
    #[serde(skip)]
    pub callback_url: Option<String>,
    /// Counts the changes that a document shows.
    #[serde(skip)]
    pub version: i64,
    /// How often its user has set it back.
    #[serde(skip)]
    pub run: i64,
    /// How often this run was begun to be submitted.
    #[serde(skip)]
    pub attempts: i64,
    /// Until when it is claimed. No two claims of a task have the same, so it also names the claim.
    #[serde(skip)]
    pub lease_until: Option<i64>,
    /// When its service accepted this run.
    #[serde(skip)]
    pub accepted_at: Option<i64>,
    /// The names of earlier runs' jobs, ours or the service's, a line each. See [`Task::earlier_jobs`].
    #[serde(skip)]
    pub earlier_jobs: Option<String>,
}

/// The most jobs of earlier runs that a service is asked about.
const MAX_EARLIER_JOBS: usize = 8;

impl Task {
    /// Its parameters. They were an object when the task was posted.
    pub fn params(&self) -> Value {
        serde_json::from_str(&self.params).unwrap_or_default()
    }

    /// The name of the job that a service does for this run of the task. Services that know jobs by
    /// our names can tell a repeated submission by it, and a callback of an earlier run is known as
    /// such.
    pub fn job(&self) -> String {
        match self.run {
            0 => self.task_id.clone(),
            run => format!("{}-r{run}", self.task_id),
        }
    }

    /// The task of a job's name.
    pub fn id_of_job(job: &str) -> &str {
        job.split_once("-r").map_or(job, |(task_id, _)| task_id)
    }

    /// The names of earlier runs' jobs, which may have been paid for: a service that can tell is asked about them before this run begins
    /// another. Those that the service has accepted come first, then those that may have reached it; the newest before older ones.
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

    /// Whether this run may have reached its service before, without us having its answer.
    pub fn was_attempted(&self) -> bool {
        self.attempts > 1
    }
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

/// A new id for a task.
pub(crate) fn new_id(now: i64) -> String {
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
