//! Brings documents up to date with their tasks, if no event did.

use door::{Admitted, Reply, routes::Poller};
use futures_util::{StreamExt, stream};
use platform::Ports;
use problem::Problem;
use rooms::{Memory, RoomError};

use crate::self_request::ask_self;

/// The most projects whose documents one round brings up to date, and the most at once.
const PROJECTIONS: u64 = 256;
const AT_ONCE: usize = 4;

/// Brings up to date the documents that do not show the newest state of their tasks.
pub(crate) async fn project_due(ports: Ports<'_>) {
    let due = projection::due(ports.database, ports.clock, PROJECTIONS).await;
    let due = due.unwrap_or_else(|error| {
        tracing::error!(%error, "the due projections could not be read");
        Vec::new()
    });
    stream::iter(due)
        .for_each_concurrent(AT_ONCE, |project| async move {
            if let Err(reason) = project_elsewhere(ports, &project).await {
                tracing::warn!(project, reason, "a document was not brought up to date");
            }
        })
        .await;
}

/// Brings a document up to date in an instance of its own, because a merge may trap; or in this one, if the host does
/// not let the app call itself.
async fn project_elsewhere(ports: Ports<'_>, project: &str) -> Result<(), String> {
    match ask_self(ports, &format!("/internal/projections/{project}")).await {
        Ok(200) => Ok(()),
        Ok(status) => {
            // If an update traps, a compaction finds it and moves it aside.
            let compaction = format!("/internal/rooms/{project}/compact");
            let compacted = ask_self(ports, &compaction).await;
            Err(format!("status {status}; compaction: {compacted:?}"))
        }
        Err(error) if error.is_not_sent() => {
            let projected = project_here(ports, project).await;
            projected.map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Deletes old assets that a document does not show, in an instance of its own or in this one.
pub(crate) async fn look_elsewhere(ports: Ports<'_>, project: &str) -> Result<(), String> {
    let path = format!("/internal/projections/{project}?look=assets");
    match ask_self(ports, &path).await {
        Ok(200) => Ok(()),
        Ok(status) => Err(format!("status {status}")),
        Err(error) if error.is_not_sent() => {
            let memory = Memory::of_app(ports.config);
            let looked = projection::drop_unneeded(ports, memory, project).await;
            looked.map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// `POST /internal/projections/{project}`: brings one document up to date in this instance, and deletes old assets that
/// it does not show if the request says so.
pub(crate) async fn answer<'a>(
    request: &Admitted<'a, Poller>,
    project: &str,
) -> Result<Reply<'a>, Problem> {
    let ports = request.ports();
    if !wire::is_project_id(project) {
        return Err(Problem::bad_project_id());
    }
    let mut done = project_here(ports, project).await;
    if done.is_ok() && request.head().parameter("look") == Some("assets") {
        let memory = Memory::of_app(ports.config);
        done = projection::drop_unneeded(ports, memory, project).await;
    }
    match done {
        Ok(()) => Ok(Reply::new(200)),
        Err(error) => {
            tracing::warn!(project, %error, "a document was not brought up to date");
            let words = "The document cannot be read or written just now.";
            Err(Problem::unavailable(words))
        }
    }
}

async fn project_here(ports: Ports<'_>, project: &str) -> Result<(), RoomError> {
    let Ports {
        database,
        clock,
        pubsub,
        config,
        ..
    } = ports;
    let memory = Memory::of_app(config);
    projection::project(database, clock, pubsub, memory, project).await
}
