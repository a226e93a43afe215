//! `/projects/{project}/quarantine`: updates that were moved aside because they cannot be applied.

use door::Reply;
use problem::Problem;
use serde_json::{Value, json};
use wire::Notice;

use crate::{
    project::fresh,
    request::{Answer, Request},
};

/// The most updates in one list.
const MOST: u64 = 200;

/// Lists the updates in quarantine, by their revs. `cursor` is the last rev of the list before.
pub(crate) async fn list<'a>(request: &Request<'a>, project: &str) -> Answer<'a> {
    let cursor = request.head().parameter("cursor").unwrap_or("0");
    let cursor = cursor
        .parse()
        .map_err(|_| Problem::bad_request("`cursor` is not a rev."))?;
    let database = request.ports().database;
    let found = rooms::quarantined(database, project, cursor, MOST).await?;
    let next = found.last().filter(|_| found.len() as u64 == MOST);
    let next = next.map(|update| update.rev.to_string());
    let updates: Vec<Value> = found
        .iter()
        .map(|update| {
            json!({
                "rev": update.rev,
                "bytes": update.bytes,
                "origin": update.origin,
                "created_at": update.created_at,
                "quarantined_at": update.quarantined_at,
                "reason": update.reason,
            })
        })
        .collect();
    Ok(fresh(
        200,
        &json!({ "updates": updates, "next_cursor": next }),
    ))
}

/// Reads an update in quarantine.
pub(crate) async fn get<'a>(request: &Request<'a>, project: &str, rev: &str) -> Answer<'a> {
    let update = rooms::quarantined_update(request.ports().database, project, parsed(rev)?).await?;
    let update = update.ok_or_else(Problem::not_found)?;
    Ok(Reply::new(200)
        .media_type("application/octet-stream")
        .header("cache-control", "no-store")
        .body(update))
}

/// Appends an update in quarantine to the document's log again.
pub(crate) async fn restore<'a>(request: &Request<'a>, project: &str, rev: &str) -> Answer<'a> {
    let ports = request.ports();
    let restored = rooms::restore(ports.database, ports.clock, project, parsed(rev)?).await?;
    let restored = restored.ok_or_else(Problem::not_found)?;
    let project = project.to_owned();
    Ok(fresh(200, &json!({ "rev": restored })).then(async move {
        let notice = Notice::Updates {
            origin: "restored".to_owned(),
            first_rev: restored,
            last_rev: restored,
            payloads: Vec::new(),
        };
        let channel = wire::room_channel(&project);
        // A relay that loses this notice finds the gap in the revs.
        if let Err(error) = ports.pubsub.publish(&channel, wire::encode(&notice)).await {
            tracing::warn!(project, %error, "the relays were not notified");
        }
    }))
}

/// Deletes an update in quarantine for good.
pub(crate) async fn delete<'a>(request: &Request<'a>, project: &str, rev: &str) -> Answer<'a> {
    let database = request.ports().database;
    if rooms::discard(database, project, parsed(rev)?).await? {
        Ok(Reply::empty(204))
    } else {
        Err(Problem::not_found())
    }
}

/// Reads the rev in a path. A text that is not a rev names no update.
fn parsed(rev: &str) -> Result<u64, Problem> {
    rev.parse().map_err(|_| Problem::not_found())
}
