//! The component `tasks`: generation tasks over HTTP, and the results that are kept here.
//!
//! It only wires. A new task is stored and answered; then, in the same instance, it is submitted.

mod asset;
mod list;
mod task;

use platform::{
    Ports, Problem,
    spin::{Incoming, Reply, SpinConfig, SpinPorts, log_to_stderr},
};
use spin_sdk::{
    http::{IncomingRequest, Method, ResponseOutparam},
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
        serve(request.into(), out).await;
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

async fn serve(request: Incoming, out: ResponseOutparam) {
    let ports = match open().await {
        Ok(ports) => ports,
        Err(problem) => return Reply::from(problem).send(out).await,
    };
    match route(ports.all(), request).await {
        Ok((reply, afterwards)) => {
            reply.send(out).await;
            if let Some(afterwards) = afterwards {
                go_on(ports.all(), afterwards).await;
            }
        }
        Err(problem) => Reply::from(problem).send(out).await,
    }
}

async fn open() -> Result<SpinPorts, Problem> {
    auth::readiness::check(&SpinConfig)?;
    Ok(SpinPorts::open().await?)
}

async fn route(ports: Ports<'_>, request: Incoming) -> Answer {
    let path = request.path().to_owned();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match segments.as_slice() {
        ["tasks"] => {
            request.allow(&[Method::Get, Method::Head, Method::Post])?;
            match request.method() {
                Method::Post => task::post(ports, request).await,
                _ => Ok((list::get(ports, &request).await?, None)),
            }
        }
        ["tasks", id] => {
            request.allow(&[Method::Get, Method::Head])?;
            Ok((task::get(ports, id, &request).await?, None))
        }
        ["tasks", id, "cancel"] => {
            request.allow(&[Method::Post])?;
            task::cancel(ports, id).await
        }
        ["tasks", id, "retry"] => {
            request.allow(&[Method::Post])?;
            task::retry(ports, id).await
        }
        ["assets", id] => {
            request.allow(&[Method::Get, Method::Head])?;
            Ok((asset::get(ports, id, &request).await?, None))
        }
        _ => Err(Problem::not_found()),
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
