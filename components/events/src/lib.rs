//! The component `events`: a task has changed, and its project's document shows it at once.
//!
//! It only wires. The trigger hands over one message after the other, so nothing slow is done here; what is lost, or
//! fails, the poller makes up for.

use door::{Admitted, Message};
use problem::Problem;
use spin_sdk::redis_component;

mod entry {
    // What the macro makes around the function is unsafe code.
    #![allow(unsafe_code)]

    use super::*;

    #[redis_component]
    async fn handle(message: Vec<u8>) -> Result<(), String> {
        door::hear(message, project).await
    }
}

async fn project(admitted: Admitted<'_, Message>) -> Result<(), Problem> {
    let Some(project) = tasks::project_of_event(&admitted.route().0) else {
        tracing::warn!("a message that is no event");
        return Ok(());
    };
    let ports = admitted.ports();
    let projected = projection::project(ports.database, ports.clock, ports.pubsub, &project).await;
    projected.map_err(|error| {
        tracing::warn!(project, %error, "tasks not projected");
        Problem::unavailable("The document cannot be written just now.")
    })
}
