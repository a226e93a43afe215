//! The component `events`: a task has changed, and its project's document shows it at once.
//!
//! It only wires. Messages come one after the other, so nothing slow is done here; what is lost, or fails,
//! the poller finds.

use platform::{
    clock::SystemClock,
    spin::{SpinPorts, log_to_stderr},
};
use spin_sdk::redis_component;

mod entry {
    // What the macro makes around the function is unsafe code.
    #![allow(unsafe_code)]

    use super::*;

    #[redis_component]
    async fn handle(message: Vec<u8>) -> Result<(), rooms::RoomError> {
        log_to_stderr();
        project(&message).await
    }
}

async fn project(message: &[u8]) -> Result<(), rooms::RoomError> {
    let Some(project) = tasks::project_of_event(message) else {
        tracing::warn!("a message that is no event");
        return Ok(());
    };
    let ports = SpinPorts::open().await?;
    let projected =
        projection::project(&ports.database, &SystemClock, &ports.pubsub, &project).await;
    if let Err(error) = &projected {
        tracing::warn!(project, %error, "tasks not projected");
    }
    projected
}
