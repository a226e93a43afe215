//! The component `poller`: does everything that is due.
//!
//! `POST /internal/poll` answers 202 with a [`Polled`], and then works: it submits and polls tasks, notifies agents, brings
//! documents up to date with their tasks, has rooms compacted, counts full projects again, purges deleted ones, and deletes
//! old tasks, assets and quarantined updates if the operator limits how long they are kept. Any number of polls may run at
//! once.
//!
//! `GET /internal/metrics` answers with the app's numbers for operators.
//!
//! It also exports and imports projects as archives, because no other component links both documents and assets.
//!
//! Work that may trap, or need all the memory of an instance, gets an instance of its own: the app sends itself a request
//! for it. `POST /internal/submissions/{service}` claims a task, answers 202, and then submits it; or it answers 204 if
//! no task can be submitted now. `POST /internal/projections/{project}` brings one document up to date; with
//! `?look=assets`, it also deletes old assets that the document does not show.

mod archives;
mod projecting;
mod purging;
mod retaining;
mod self_request;

use door::{Admitted, Reply, routes::Poller};
use futures_util::join;
use platform::{Gauge, Ports, config::unprotected, migrations};
use problem::Problem;
use self_request::ask_self;
use tasks::Engine;
use wire::Polled;

door::http_component!(route);

async fn route(request: Admitted<'_, Poller>) -> Result<Reply<'_>, Problem> {
    let ports = request.ports();
    match request.route() {
        Poller::Poll => {
            // The database is queried first, so that the caller gets its error, and polls come no faster than it
            // answers.
            migrations::apply(ports.database, ports.clock).await?;
            let told = wire::encode(&Polled {
                has_open_tasks: tasks::rows::has_open(ports.database).await?,
                unprotected: Some(unprotected(ports.config)),
            });
            let reply = Reply::new(202).media_type(wire::CONTENT_TYPE).body(told);
            Ok(reply.then(poll(ports)))
        }
        Poller::Metrics => numbers(ports).await,
        Poller::Submit { service } => {
            let engine = Engine::open(ports).await?;
            Ok(match engine.claim_next(service).await? {
                Some(claimed) => {
                    Reply::new(202).then(async move { engine.submit_claimed(claimed).await })
                }
                None => Reply::empty(204),
            })
        }
        Poller::Project { project } => projecting::answer(&request, project).await,
        Poller::Export { project } => archives::export(&request, project).await,
        Poller::Import { project } => archives::import(&request, project).await,
        Poller::Archives => archives::list(&request).await,
        Poller::Archive { project } => archives::back_up(&request, project).await,
        Poller::Restore { project } => archives::restore(&request, project).await,
    }
}

/// The numbers of rooms and tasks, which the relay keeps for a minute.
async fn numbers(ports: Ports<'_>) -> Result<Reply<'static>, Problem> {
    migrations::apply(ports.database, ports.clock).await?;
    let mut gauges = rooms::gauges(ports.database).await?;
    gauges.extend(tasks::rows::gauges(ports.database, ports.clock.unix_seconds()).await?);
    let text: String = gauges.iter().map(Gauge::render).collect();
    let media_type = "text/plain; version=0.0.4";
    Ok(Reply::new(200).media_type(media_type).body(text))
}

async fn poll(ports: Ports<'_>) {
    let engine = match Engine::open(ports).await {
        Ok(engine) => engine,
        Err(error) => {
            tracing::error!(%error, "the task engine cannot start");
            return;
        }
    };
    join!(
        engine.tick(),
        projecting::project_due(ports),
        sweep_rooms(ports),
        purging::purge_due(ports),
        retaining::drop_due(ports),
        recount(ports)
    );
}

/// Counts again the bytes of the projects and owners that are full.
async fn recount(ports: Ports<'_>) {
    if let Err(error) = quota::recount(ports).await {
        tracing::warn!(%error, "the bytes of full projects were not counted");
    }
}

/// Asks for the compaction and the merge of the rooms that are due.
async fn sweep_rooms(ports: Ports<'_>) {
    let is_none = |due: Result<Vec<String>, _>| due.is_ok_and(|due| due.is_empty());
    if is_none(rooms::sweep(ports.database, ports.clock, 1).await)
        && is_none(rooms::to_merge(ports.database, ports.clock, 1).await)
    {
        return;
    }
    if let Err(error) = ask_self(ports, "/internal/sweep").await {
        tracing::warn!(%error, "the sweep of rooms failed");
    }
}
