//! Merges in an instance of its own: the app sends itself a request, so that an update that traps ends the instance
//! that answers and not the one that asks.
//!
//! Each run has a random id. If the code of the instance panics, it reports that under this id before it dies; without a
//! report the reason of its death is not known.

use std::time::Duration;

use async_trait::async_trait;
use platform::{AskError, HttpError, Ports, http_client::Limits};
use problem::Kind;
use rooms::{
    Memory, RoomError, panics,
    supervise::{MergeError, Merger},
};
use wire::{EncodedState, Job};

use crate::{
    problems::{self, check_project_id},
    relay::{cbor, decode},
    request::{Answer, Request},
};

/// The time that a job may take if a caller waits for it, and the time for one that may compute a state that is not
/// cheap. An answer has no limit, because a document is as large as the memory of an instance allows.
const SHORT: Limits = Limits {
    timeout: Duration::from_secs(60),
    max_bytes: usize::MAX,
};
const LONG: Limits = Limits {
    timeout: Duration::from_secs(570),
    max_bytes: usize::MAX,
};

/// Sends [`Job`]s to this same app: long ones to `/internal/merge/{project}`, so that a host can tell them apart, and the
/// others to `/internal/rooms/{project}/work`.
pub(crate) struct SelfMerger<'a>(pub(crate) Ports<'a>);

#[async_trait(?Send)]
impl Merger for SelfMerger<'_> {
    async fn run(&self, project: &str, job: &Job) -> Result<EncodedState, MergeError> {
        let failed = |reason: String| MergeError::Failed(RoomError::Merge(reason));
        let run = panics::new_run();
        let (path, limits) = if job.is_long() {
            (format!("/internal/merge/{project}?run={run}"), LONG)
        } else {
            (format!("/internal/rooms/{project}/work?run={run}"), SHORT)
        };
        let answer = match self.0.ask_self(&path, wire::encode(job), limits).await {
            Ok(answer) => answer,
            Err(AskError::Http(HttpError::NoAnswer(reason))) => {
                return Err(self.died(&run, reason).await);
            }
            Err(AskError::Http(HttpError::NotSent(reason))) => {
                return Err(MergeError::NoPlace(reason));
            }
            Err(error) => return Err(failed(error.to_string())),
        };
        match answer.status().as_u16() {
            200 => EncodedState::from_body(answer.into_body())
                .map_err(|error| failed(error.to_string())),
            500 => Err(self.died(&run, "status 500".to_owned()).await),
            503 if is_of_kind(answer.body(), Kind::STATE_UNAVAILABLE) => {
                Err(MergeError::Failed(RoomError::StateUnavailable))
            }
            // An instance that has started answers with this problem. Any other 503 is of a host that had no place for one.
            503 if !is_of_kind(answer.body(), Kind::UNAVAILABLE) => Err(MergeError::Busy),
            status => Err(failed(format!("status {status}"))),
        }
    }

    fn memory(&self) -> Memory {
        Memory::of_app(self.0.config)
    }
}

impl SelfMerger<'_> {
    /// The failure of a run that gave no answer.
    async fn died(&self, run: &str, reason: String) -> MergeError {
        match panics::take(self.0.database, self.0.clock, run).await {
            Ok(Some(panic)) => MergeError::Panicked(panic),
            Ok(None) => MergeError::Died(reason),
            Err(error) => MergeError::Failed(error.into()),
        }
    }
}

/// Returns whether a body is a problem of this kind.
fn is_of_kind(body: &[u8], kind: Kind) -> bool {
    let body: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    body.is_some_and(|body| {
        let name = body["type"]
            .as_str()
            .and_then(|name| name.rsplit(':').next());
        name == Some(kind.name)
    })
}

/// `POST /internal/rooms/{project}/work` and `POST /internal/merge/{project}`: runs a [`Job`] in this instance.
pub(crate) async fn answer<'a>(request: &Request<'a>, project: &str) -> Answer<'a> {
    check_project_id(project)?;
    if let Some(run) = request.head().parameter("run") {
        let texts = [run.to_owned(), project.to_owned()];
        door::report_panics(panics::REPORT, texts, panics::MAX_REASON);
    }
    let ports = request.ports();
    // A job holds at most an update or a client's version vector, which came in a body of at most this size.
    let body = request.body(wire::MAX_APPEND_BYTES).await?;
    let job: Job = decode(&body)?;
    let memory = Memory::of_app(ports.config);
    let state = rooms::supervise::work(ports.database, ports.clock, project, &job, memory)
        .await
        .map_err(problems::of_room)?;
    Ok(cbor(wire::encode(&state)))
}
