//! `/sync/{project}`: the document of a project over plain HTTP.

use auth::door::Entered;
use platform::{
    DatabaseError, Problem,
    clock::SystemClock,
    spin::{Incoming, Reply},
};
use rooms::{RoomError, supervise};
use spin_sdk::http::Method;
use wire::{Job, Notice, Outcome, Update};

use crate::{App, afterwards::Afterwards, problem};

/// The origin of what comes over plain HTTP: no relay's id, so every relay takes notice.
const ORIGIN: &str = "http";

/// The whole document: one Loro snapshot, or JSON where that is asked for.
pub(crate) async fn get(app: &App, project: &str, request: &Incoming) -> Result<Reply, Problem> {
    let rev = rooms::head(&app.ports.database, project).await?;
    let json = request
        .header("accept")
        .is_some_and(|accept| accept.contains("application/json"));
    if request.knows(&tag(rev, json)) {
        return Ok(described(Reply::new(304).without_body(), rev, json));
    }
    let media_type = if json {
        "application/json"
    } else {
        "application/octet-stream"
    };
    if request.method() == Method::Head {
        return Ok(
            described(Reply::new(200).without_body(), rev, json).header("content-type", media_type)
        );
    }
    let merger = app.merger();
    let state = if json {
        supervise::run(
            &app.ports.database,
            &SystemClock,
            &merger,
            project,
            &Job::Json,
        )
        .await
    } else {
        rooms::snapshot(&app.ports.database, &SystemClock, &merger, project).await
    }
    .map_err(problem::of_room)?;
    let state = state
        .decoded()
        .map_err(|error| problem::of_room(RoomError::Merge(error.to_string())))?;
    let body = state.blobs.first().map_or(&[][..], |blob| blob);
    Ok(described(Reply::new(200), state.rev, json)
        .header("content-type", media_type)
        .body(body))
}

/// Names a representation of the document: who has the snapshot of a rev has not its JSON.
fn tag(rev: u64, json: bool) -> String {
    match json {
        true => format!("\"{rev}-json\""),
        false => format!("\"{rev}\""),
    }
}

fn described(reply: Reply, rev: u64, json: bool) -> Reply {
    reply
        .header("etag", tag(rev, json))
        .header("x-loro-rev", rev.to_string())
        .header("cache-control", "no-cache")
        .header("vary", "accept")
}

/// Applies one update and answers its rev.
pub(crate) async fn post(
    app: &App,
    entered: &Entered,
    request: Incoming,
) -> Result<(Reply, Afterwards), Problem> {
    let project = entered.found.part(0);
    let payload = request.body(wire::MAX_UPDATE_BYTES).await?;
    entered.still_may(app.ports.all()).await?;
    let told = if payload.len() <= wire::MAX_NOTICE_BYTES {
        vec![payload.clone().into()]
    } else {
        Vec::new()
    };
    let updates = vec![Update {
        project: project.to_owned(),
        payload: payload.into(),
    }];
    let mut work = Afterwards::new(&updates);
    let outcomes = rooms::append(&app.ports.database, &SystemClock, ORIGIN, updates)
        .await
        .map_err(problem::of_room)?;
    work.stored(&outcomes);
    match outcomes.into_iter().next() {
        Some(Outcome::Stored { rev }) => {
            let notice = Notice::Updates {
                origin: ORIGIN.to_owned(),
                first_rev: rev,
                last_rev: rev,
                payloads: told,
            };
            work.tell(project, notice);
            let reply = Reply::json(200, &serde_json::json!({ "rev": rev }))
                .header("x-loro-rev", rev.to_string());
            Ok((reply, work))
        }
        Some(Outcome::Refused { reason }) => Err(problem::bad_update(reason)),
        None => Err(DatabaseError::Unexpected("no outcome".into()).into()),
    }
}
