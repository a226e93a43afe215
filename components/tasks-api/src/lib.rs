//! The component `tasks`: generation tasks over HTTP, and the results that are kept here.
//!
//! It only wires. A new task is stored and answered; then, in the same instance, it is submitted.

mod asset;
mod list;
mod task;

use auth::{Denied, Grant, Principal, door::Entered, visit};
use platform::{
    Ports, Problem,
    spin::{Incoming, Reply, log_to_stderr},
};
use spin_sdk::{
    http::{IncomingRequest, ResponseOutparam},
    http_component,
};
use tasks::{Engine, Task};

mod entry {
    // What the macro makes around the function is unsafe code.
    #![allow(unsafe_code)]

    use super::*;

    #[http_component]
    async fn handle(request: IncomingRequest, out: ResponseOutparam) {
        log_to_stderr();
        visit::serve(request.into(), out, route, go_on).await;
    }
}

/// What goes on after the answer.
enum Afterwards {
    /// The task is new, or was set back.
    TakeUp(Box<Task>),
    /// The task was ended.
    Ended(Box<Task>),
}

type Answer = Result<(Reply, Option<Afterwards>), Problem>;

async fn route(ports: Ports<'_>, entered: &Entered, request: Incoming) -> Answer {
    let found = &entered.found;
    let (who, id) = (entered.principal()?, found.part(0));
    match (found.route.method, found.route.path) {
        ("GET", "/tasks") => Ok((list::get(ports, who, &request).await?, None)),
        ("POST", "/tasks") => task::post(ports, entered, request).await,
        ("GET", "/tasks/{task}") => Ok((task::get(ports, entered, id, &request).await?, None)),
        ("POST", "/tasks/{task}/cancel") => task::cancel(ports, who, id).await,
        ("POST", "/tasks/{task}/retry") => task::retry(ports, who, id).await,
        ("GET", "/assets/{asset}") => Ok((asset::get(ports, who, id, &request).await?, None)),
        _ => Err(Problem::not_found()),
    }
}

/// What somebody may do with a row of this project. A row of a project of others is not there.
async fn access(ports: Ports<'_>, who: &Principal, project: &str) -> Result<Grant, Problem> {
    match who.access(ports, project).await {
        Err(Denied::Forbidden | Denied::NoSuchProject) => Err(Problem::not_found()),
        other => Ok(other?),
    }
}

async fn go_on(ports: Ports<'_>, afterwards: Afterwards) {
    let engine = match Engine::open(ports).await {
        Ok(engine) => engine,
        // The poller takes it up.
        Err(error) => {
            tracing::error!(%error, "tasks cannot be worked on");
            return;
        }
    };
    match afterwards {
        Afterwards::TakeUp(task) => engine.take_up(&task).await,
        Afterwards::Ended(task) => engine.ended(&task).await,
    }
}
