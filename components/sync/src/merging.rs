//! Merging in an instance of its own: the app asks itself over HTTP, so that an update that traps
//! takes down the instance that answers and not the one that asks.

use http::{Method, Request, StatusCode};
use std::time::Duration;

use async_trait::async_trait;
use platform::{
    HttpClient, HttpError, Problem,
    clock::SystemClock,
    http_client::Limits,
    spin::{Incoming, Reply},
};
use rooms::{
    RoomError, State,
    supervise::{Job, MergeError, Merger},
};

use crate::{
    App,
    internal::{as_wire, cbor},
    problem,
};

/// A merge takes as long as its instance may. A document is as large as the memory of an instance allows.
const LIMITS: Limits = Limits {
    timeout: Duration::from_secs(300),
    max_bytes: usize::MAX,
};

/// Sends [`Job`]s to `/internal/merge/{project}` of this same app.
pub(crate) struct SelfMerger<H> {
    http: H,
    internal_token: Option<String>,
}

impl<H> SelfMerger<H> {
    pub(crate) fn new(http: H, internal_token: Option<String>) -> Self {
        Self {
            http,
            internal_token,
        }
    }
}

#[async_trait(?Send)]
impl<H: HttpClient> Merger for SelfMerger<H> {
    async fn run(&self, project: &str, job: &Job) -> Result<State, MergeError> {
        let (query, body) = match job {
            Job::Snapshot => ("job=snapshot".to_owned(), Vec::new()),
            Job::UpdatesSince(version) => ("job=updates".to_owned(), version.clone()),
            Job::Json => ("job=json".to_owned(), Vec::new()),
            Job::Compact => ("job=compact".to_owned(), Vec::new()),
            Job::Until(rev) => (format!("job=until&rev={rev}"), Vec::new()),
        };
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("/internal/merge/{project}?{query}"));
        if let Some(token) = &self.internal_token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let failed = |words: String| MergeError::Failed(RoomError::Merge(words));
        let request = request
            .body(body)
            .map_err(|error| failed(error.to_string()))?;
        let response = self
            .http
            .send(request, LIMITS)
            .await
            .map_err(|error| match error {
                HttpError::NoAnswer(words) => MergeError::Trapped(words),
                HttpError::NotSent(words) => MergeError::NoPlace(words),
                error @ HttpError::TooLarge => failed(error.to_string()),
            })?;
        match response.status() {
            StatusCode::OK => {
                let state: wire::State =
                    wire::decode(response.body()).map_err(|error| failed(error.to_string()))?;
                Ok(State {
                    rev: state.rev,
                    version: state.version.into(),
                    blobs: state.blobs.into_iter().map(Into::into).collect(),
                    revs: Vec::new(),
                })
            }
            StatusCode::INTERNAL_SERVER_ERROR => Err(MergeError::Trapped("status 500".into())),
            status => Err(failed(format!("status {status}"))),
        }
    }
}

/// `POST /internal/merge/{project}?job=…`: the other side.
pub(crate) async fn answer(app: &App, project: &str, request: Incoming) -> Result<Reply, Problem> {
    let rev = request.query("rev").and_then(|rev| rev.parse().ok());
    let job = match (request.query("job").unwrap_or_default().as_str(), rev) {
        ("snapshot", _) => Job::Snapshot,
        ("json", _) => Job::Json,
        ("compact", _) => Job::Compact,
        ("until", Some(rev)) => Job::Until(rev),
        ("updates", _) => Job::UpdatesSince(request.body(wire::MAX_UPDATE_BYTES).await?),
        _ => return Err(Problem::bad_request("There is no such job.")),
    };
    let state = rooms::supervise::work(&app.ports.database, &SystemClock, project, &job)
        .await
        .map_err(problem::of_room)?;
    Ok(cbor(wire::encode(&as_wire(state))))
}
