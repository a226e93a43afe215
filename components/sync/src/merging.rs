//! Merging in an instance of its own: the app asks itself over HTTP, so that an update that traps
//! takes down the instance that answers and not the one that asks.

use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use platform::{
    AskError, HttpError, Ports, Problem,
    clock::SystemClock,
    http_client::Limits,
    spin::{Incoming, Reply},
};
use rooms::{
    RoomError,
    supervise::{MergeError, Merger},
};
use wire::{EncodedState, Job};

use crate::{
    App,
    internal::{cbor, decode},
    problem,
};

/// A merge takes as long as its instance may. The memory of an instance limits the size of a document.
const LIMITS: Limits = Limits {
    timeout: Duration::from_secs(300),
    max_bytes: usize::MAX,
};

/// Sends [`Job`]s to `/internal/merge/{project}` of this same app.
pub(crate) struct SelfMerger<'a>(pub(crate) Ports<'a>);

#[async_trait(?Send)]
impl Merger for SelfMerger<'_> {
    async fn run(&self, project: &str, job: &Job) -> Result<EncodedState, MergeError> {
        let failed = |reason: String| MergeError::Failed(RoomError::Merge(reason));
        let path = format!("/internal/merge/{project}");
        let answer = self.0.ask_ourselves(&path, wire::encode(job), LIMITS).await;
        let answer = answer.map_err(|error| match error {
            AskError::Http(HttpError::NoAnswer(reason)) => MergeError::Trapped(reason),
            AskError::Http(HttpError::NotSent(reason)) => MergeError::NoPlace(reason),
            error => failed(error.to_string()),
        })?;
        match answer.status() {
            StatusCode::OK => EncodedState::from_body(answer.into_body())
                .map_err(|error| failed(error.to_string())),
            StatusCode::INTERNAL_SERVER_ERROR => Err(MergeError::Trapped("status 500".into())),
            status => Err(failed(format!("status {status}"))),
        }
    }
}

/// `POST /internal/merge/{project}`: runs a [`Job`] in this instance.
pub(crate) async fn answer(app: &App, project: &str, request: Incoming) -> Result<Reply, Problem> {
    // A job holds at most a client's version vector, which came in a body of at most this size.
    let body = request.body(wire::MAX_APPEND_BYTES).await?;
    let job: Job = decode(&body)?;
    let state = rooms::supervise::work(&app.ports.database, &SystemClock, project, &job)
        .await
        .map_err(problem::of_room)?;
    Ok(cbor(wire::encode(&state)))
}
