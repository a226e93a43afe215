//! The component `sync`: the document of a project over HTTP, and the internal routes of the relay.
//!
//! It only wires: a request comes in, the library `rooms` does the work, an answer goes out. What
//! need not be waited for (telling other relays, compaction) happens after the answer.

mod afterwards;
mod document;
mod health;
mod internal;
mod merging;
mod problem;

use auth::visit::{self, Visit};
use platform::{
    Problem,
    spin::{Incoming, Reply, SpinConfig, SpinPorts, log_to_stderr},
};
use spin_sdk::{
    http::{IncomingRequest, ResponseOutparam},
    http_component,
};

use merging::SelfMerger;

/// What this instance works with.
struct App {
    ports: SpinPorts,
}

impl App {
    /// Brings the schema of the database up to date.
    async fn open() -> Result<Self, Problem> {
        let ports = SpinPorts::open().await?;
        Ok(Self { ports })
    }

    /// For appends.
    fn open_unchecked() -> Result<Self, Problem> {
        let ports = SpinPorts::open_unchecked()?;
        Ok(Self { ports })
    }

    fn merger(&self) -> SelfMerger<'_> {
        SelfMerger(self.ports.all())
    }
}

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

type Answer = (Reply, Option<(App, afterwards::Afterwards)>);

async fn serve(request: Incoming, out: ResponseOutparam) {
    let path = request.path().to_owned();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    if let ["internal", rest @ ..] = segments.as_slice() {
        let answer = internal(rest, request).await;
        return finish(answer, out, |reply| reply).await;
    }
    let mut visit = Visit::of(&request);
    if path == "/health" {
        let reply = match request.allow(&health::METHODS) {
            Ok(()) => health::check().await,
            Err(problem) => problem.into(),
        };
        return visit.dress(reply).send(out).await;
    }
    if let Some(reply) = visit.answer() {
        return visit.dress(reply).send(out).await;
    }
    let answer = public(&mut visit, request).await;
    finish(answer, out, |reply| visit.dress(reply)).await;
}

async fn finish(
    answer: Result<Answer, Problem>,
    out: ResponseOutparam,
    dress: impl Fn(Reply) -> Reply,
) {
    match answer {
        Ok((reply, work)) => {
            dress(reply).send(out).await;
            if let Some((app, work)) = work {
                work.run(&app).await;
            }
        }
        Err(problem) => dress(problem.into()).send(out).await,
    }
}

async fn internal(rest: &[&str], request: Incoming) -> Result<Answer, Problem> {
    // Whether somebody may come in is answered with the setting that is missing.
    if rest != ["access"] {
        auth::readiness::check(&SpinConfig)?;
    }
    visit::check_internal(&request)?;
    internal::route(rest, request).await
}

async fn public(visit: &mut Visit, request: Incoming) -> Result<Answer, Problem> {
    let app = App::open().await?;
    let entered = visit.enter(app.ports.all()).await?;
    let project = entered.found.part(0);
    match (entered.found.route.method, entered.found.route.path) {
        ("GET", "/sync/{project}") => {
            let reply = document::get(&app, project, &request).await?;
            Ok((reply, None))
        }
        ("POST", "/sync/{project}") => {
            let (reply, work) = document::post(&app, &entered, request).await?;
            Ok((reply, Some((app, work))))
        }
        _ => Err(Problem::not_found()),
    }
}
