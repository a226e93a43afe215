//! The component `poller`: everything that is due.
//!
//! `POST /internal/poll` answers 202 and goes on: submissions and polls of tasks, agents to be told, documents
//! that do not show their tasks yet, rooms to compact, and what deleted projects had. Any number may run at once.
//!
//! What may need all the memory of an instance, or trap, has one of its own: the poller asks its own app for it.
//! `POST /internal/submissions/{service}` makes one submission: 200, or 204 if none is due.
//! `POST /internal/projections/{project}` brings one document up to date.

use std::time::Duration;

use futures_util::{StreamExt, join, stream};
use http::StatusCode;
use platform::{
    HttpClient, HttpError, Ports, Problem,
    clock::SystemClock,
    http_client::Limits,
    spin::{Incoming, Reply, SpinConfig, SpinHttpClient, SpinPorts, log_to_stderr},
};
use spin_sdk::{
    http::{IncomingRequest, Method, ResponseOutparam},
    http_component,
};
use tasks::{Engine, TaskError};

/// The most projects whose documents one round brings up to date, and how many at once.
const PROJECTIONS: u64 = 256;
const AT_ONCE: usize = 4;

/// The most deleted projects that one round purges.
const PURGES: u64 = 16;

/// How long a request to ourselves may take.
const OURSELVES: Limits = Limits {
    timeout: Duration::from_secs(60),
    max_bytes: 64 * 1024,
};

mod entry {
    // What the macro makes around the function is unsafe code.
    #![allow(unsafe_code)]

    use super::*;

    #[http_component]
    async fn handle(request: IncomingRequest, out: ResponseOutparam) {
        log_to_stderr();
        serve(request.into(), out).await;
    }
}

async fn serve(request: Incoming, out: ResponseOutparam) {
    let ports = match open(&request).await {
        Ok(ports) => ports,
        Err(problem) => return Reply::from(problem).send(out).await,
    };
    let path = request.path().to_owned();
    match path.strip_prefix("/internal/") {
        Some("poll") => {
            Reply::new(202).send(out).await;
            poll(&ports).await;
        }
        Some(rest) if rest.starts_with("submissions/") => {
            let service = rest.trim_start_matches("submissions/");
            let reply = submit_next(&ports, service).await;
            reply.unwrap_or_else(Reply::from).send(out).await;
        }
        Some(rest) if rest.starts_with("projections/") => {
            let project = rest.trim_start_matches("projections/");
            let reply = project_one(&ports, project).await;
            reply.unwrap_or_else(Reply::from).send(out).await;
        }
        _ => Reply::from(Problem::not_found()).send(out).await,
    }
}

async fn open(request: &Incoming) -> Result<SpinPorts, Problem> {
    auth::readiness::check(&SpinConfig)?;
    auth::visit::check_internal(request)?;
    request.allow(&[Method::Post])?;
    Ok(SpinPorts::open().await?)
}

async fn poll(ports: &SpinPorts) {
    let engine = match Engine::open(ports.all()).await {
        Ok(engine) => engine,
        Err(error) => {
            tracing::error!(%error, "tasks cannot be worked on");
            return;
        }
    };
    join!(
        engine.tick(),
        project_due(ports),
        sweep_rooms(ports.all()),
        purge(ports)
    );
}

async fn submit_next(ports: &SpinPorts, service: &str) -> Result<Reply, Problem> {
    let engine = Engine::open(ports.all()).await?;
    let is_one_due = engine.submit_next(service).await?;
    Ok(Reply::new(if is_one_due { 200 } else { 204 }))
}

/// Brings the documents up to date that no event did.
async fn project_due(ports: &SpinPorts) {
    let due = projection::due(&ports.database, &SystemClock, PROJECTIONS).await;
    let due = due.unwrap_or_else(|error| {
        tracing::error!(%error, "due projections not found");
        Vec::new()
    });
    stream::iter(due)
        .for_each_concurrent(AT_ONCE, |project| async move {
            if let Err(reason) = project_elsewhere(ports, &project).await {
                tracing::warn!(project, reason, "tasks not projected");
            }
        })
        .await;
}

/// Projects in an instance of its own, for a merge may trap; here, where the host does not let us ask
/// ourselves.
async fn project_elsewhere(ports: &SpinPorts, project: &str) -> Result<(), String> {
    match ask_ourselves(&format!("/internal/projections/{project}")).await {
        Ok(StatusCode::OK) => Ok(()),
        Ok(status) => {
            // If an update traps, a compaction finds out which, and moves it aside.
            let compaction = format!("/internal/rooms/{project}/compact");
            let compacted = ask_ourselves(&compaction).await;
            Err(format!("status {status}; compaction: {compacted:?}"))
        }
        Err(HttpError::NotSent(_)) => project_here(ports, project)
            .await
            .map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

async fn project_one(ports: &SpinPorts, project: &str) -> Result<Reply, Problem> {
    if !wire::is_project_id(project) {
        return Err(Problem::bad_project_id());
    }
    match project_here(ports, project).await {
        Ok(()) => Ok(Reply::new(200)),
        Err(error) => {
            tracing::warn!(project, %error, "tasks not projected");
            Err(Problem::unavailable(
                "The document cannot be written just now.",
            ))
        }
    }
}

async fn project_here(ports: &SpinPorts, project: &str) -> Result<(), rooms::RoomError> {
    projection::project(&ports.database, &SystemClock, &ports.pubsub, project).await
}

/// Deletes what deleted projects had.
async fn purge(ports: &SpinPorts) {
    let due = auth::projects::to_purge(&ports.database, &SystemClock, PURGES).await;
    let due = due.unwrap_or_else(|error| {
        tracing::error!(%error, "deleted projects not found");
        Vec::new()
    });
    for project in due {
        if let Err(error) = purge_one(ports, &project).await {
            tracing::warn!(project, %error, "a deleted project is not gone yet");
        }
    }
}

async fn purge_one(ports: &SpinPorts, project: &str) -> Result<(), TaskError> {
    rooms::delete(&ports.database, project).await?;
    tasks::delete(ports.all(), project).await?;
    Ok(auth::projects::purged(&ports.database, &SystemClock, project).await?)
}

/// Asks for the compaction of the rooms that are due.
async fn sweep_rooms(ports: Ports<'_>) {
    let due = rooms::sweep(ports.database, &SystemClock, 1).await;
    if due.is_ok_and(|due| due.is_empty()) {
        return;
    }
    if let Err(error) = ask_ourselves("/internal/sweep").await {
        tracing::warn!(%error, "rooms not swept");
    }
}

async fn ask_ourselves(path: &str) -> Result<StatusCode, HttpError> {
    let mut request = http::Request::post(path);
    let token = auth::internal::token(&SpinConfig);
    if let Some(token) = token.map_err(|error| HttpError::NotSent(error.to_string()))? {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request
        .body(Vec::new())
        .map_err(|error| HttpError::NotSent(error.to_string()))?;
    let answer = SpinHttpClient.send(request, OURSELVES).await?;
    Ok(answer.status())
}
