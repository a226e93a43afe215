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

use platform::{
    Problem,
    clock::SystemClock,
    migrations,
    spin::{Incoming, Reply, SpinConfig, SpinDatabase, SpinHttpClient, SpinPubSub, log_to_stderr},
};
use spin_sdk::{
    http::{IncomingRequest, Method, ResponseOutparam},
    http_component,
};

use merging::SelfMerger;

/// The ports of this instance.
struct App {
    database: SpinDatabase,
    clock: SystemClock,
    pubsub: SpinPubSub,
    merger: SelfMerger<SpinHttpClient>,
}

impl App {
    /// Opens the database and brings its schema up to date.
    async fn open() -> Result<Self, Problem> {
        let app = Self::open_unchecked()?;
        migrations::apply(&app.database, &app.clock).await?;
        Ok(app)
    }

    /// Opens the database as it is: for appends, where one more statement shows.
    fn open_unchecked() -> Result<Self, Problem> {
        Ok(Self {
            database: SpinDatabase::open()?,
            clock: SystemClock,
            pubsub: SpinPubSub::default(),
            merger: SelfMerger::new(SpinHttpClient, auth::internal::token(&SpinConfig)),
        })
    }
}

mod entry {
    // What the macro makes around the function is unsafe code.
    #![allow(unsafe_code)]

    use super::*;

    #[http_component]
    async fn handle(request: IncomingRequest, out: ResponseOutparam) {
        log_to_stderr();
        let request = Incoming::from(request);
        match route(request).await {
            Ok((reply, work)) => {
                reply.send(out).await;
                if let Some((app, work)) = work {
                    work.run(&app).await;
                }
            }
            Err(problem) => Reply::from(problem).send(out).await,
        }
    }
}

type Answer = (Reply, Option<(App, afterwards::Afterwards)>);

async fn route(request: Incoming) -> Result<Answer, Problem> {
    let path = request.path().to_owned();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    if segments == ["health"] {
        request.allow(&[Method::Get, Method::Head])?;
        return Ok((health::check().await, None));
    }
    auth::readiness::check(&SpinConfig)?;
    match segments.as_slice() {
        ["sync", project] => {
            let project = document::project_id(project)?;
            request.allow(&[Method::Get, Method::Head, Method::Post])?;
            let app = App::open().await?;
            match request.method() {
                Method::Post => {
                    let (reply, work) = document::post(&app, project, request).await?;
                    Ok((reply, Some((app, work))))
                }
                method => {
                    let reply = document::get(&app, project, &request, method == Method::Head);
                    Ok((reply.await?, None))
                }
            }
        }
        ["sync", ..] => Err(Problem::bad_project_id()),
        ["internal", rest @ ..] => {
            let authorization = request.header("authorization");
            auth::internal::check(&SpinConfig, authorization.as_deref())?;
            internal::route(rest, request).await
        }
        _ => Err(Problem::not_found()),
    }
}
