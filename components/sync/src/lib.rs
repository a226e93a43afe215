//! The component `sync`: the document of a project over HTTP, and the internal routes of the relay.
//!
//! It only connects: a request comes in, the library `rooms` does the work, an answer goes out. Callers wait neither
//! for the notice to the relays nor for compaction.

mod compaction;
mod document;
mod health;
mod log;
mod merging;
mod problems;
mod relay;
mod request;

use door::routes::Sync;
use request::{Answer, Request};

door::http_component!(route);

async fn route(request: Request<'_>) -> Answer<'_> {
    match request.route() {
        Sync::Health => Ok(health::check(request.ports()).await),
        Sync::Document { project } => document::get(&request, project).await,
        Sync::Update { project } => document::post(&request, project).await,
        Sync::Append => log::append(&request).await,
        Sync::State { project } => log::state(&request, project).await,
        Sync::Lacking { project } => log::lacking(&request, project).await,
        Sync::Waiting { project } => log::waiting(&request, project).await,
        Sync::Updates { project } => log::updates(&request, project).await,
        Sync::Heads => relay::heads(&request).await,
        Sync::Access => relay::access(&request).await,
        Sync::Line => door::line(&request, |asked| Box::pin(route(asked))),
        Sync::Merge { project } | Sync::Work { project } => {
            merging::answer(&request, project).await
        }
        Sync::Compact { project } => compaction::compact_now(&request, project).await,
        Sync::Sweep => compaction::sweep(&request).await,
    }
}
