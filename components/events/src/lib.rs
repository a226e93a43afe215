//! The component `events`: when a task has changed, brings its project's document up to date at once.
//!
//! It only connects the trigger with a library. The trigger hands over one message after the other, so nothing slow is
//! done here. If a message is lost or fails, the poller brings the document up to date.

use door::{Admitted, Message};
use problem::Problem;
use projection::Memory;
use spin_sdk::redis_component;

mod entry {
    // The macro generates unsafe code around the function.
    #![allow(unsafe_code)]

    use super::*;

    #[redis_component]
    async fn handle(message: Vec<u8>) -> Result<(), String> {
        door::receive(message, project).await
    }
}

async fn project(admitted: Admitted<'_, Message>) -> Result<(), Problem> {
    let Some(project) = tasks::project_of_event(&admitted.route().0) else {
        tracing::warn!("a message is not a task event");
        return Ok(());
    };
    let ports = admitted.ports();
    let (database, clock, pubsub) = (ports.database, ports.clock, ports.pubsub);
    let memory = Memory::of_app(ports.config);
    let projected = projection::project(database, clock, pubsub, memory, &project).await;
    projected.map_err(|error| {
        tracing::warn!(project, %error, "a document was not brought up to date");
        Problem::unavailable("The document cannot be written just now.")
    })
}
