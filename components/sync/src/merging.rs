//! Merging in an instance of its own: the app sends itself a request, so that an update that traps ends the instance
//! that answers and not the one that asks.

use std::time::Duration;

use async_trait::async_trait;
use platform::{AskError, HttpError, Ports, http_client::Limits};
use rooms::{
    RoomError,
    supervise::{MergeError, Merger},
};
use wire::{EncodedState, Job};

use crate::{
    Answer, Request,
    problems::{self, check_project_id},
    relay::{cbor, decode},
};

/// A merge takes as long as its instance may. A document is as large as the memory of an instance allows.
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
        match answer.status().as_u16() {
            200 => EncodedState::from_body(answer.into_body())
                .map_err(|error| failed(error.to_string())),
            500 => Err(MergeError::Trapped("status 500".into())),
            status => Err(failed(format!("status {status}"))),
        }
    }
}

/// `POST /internal/merge/{project}`: runs a [`Job`] in this instance.
pub(crate) async fn answer<'a>(request: &Request<'a>, project: &str) -> Answer<'a> {
    check_project_id(project)?;
    let ports = request.ports();
    // A job holds at most a client's version vector, which came in a body of at most this size.
    let body = request.body(wire::MAX_APPEND_BYTES).await?;
    let job: Job = decode(&body)?;
    let state = rooms::supervise::work(ports.database, ports.clock, project, &job)
        .await
        .map_err(problems::of_room)?;
    Ok(cbor(wire::encode(&state)))
}
