//! The log of a room, as a relay writes and reads it.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use platform::migrations;
use problem::Problem;
use wire::{AppendRequest, AppendResponse, StateRequest, WaitingAnswer, WaitingRequest};

use crate::{
    compaction::{Growth, compact_due},
    merging::SelfMerger,
    problems::{self, check_project_id},
    relay::{cbor, decode},
    request::{Answer, Request},
};

/// `POST /internal/append`: stores updates of any number of rooms in one statement. The relay itself notifies the other
/// relays.
pub(crate) async fn append<'a>(request: &Request<'a>) -> Answer<'a> {
    let ports = request.ports();
    let body = request.body(wire::MAX_APPEND_BYTES).await?;
    let AppendRequest {
        origin,
        updates,
        defers,
    } = decode(&body)?;
    drop(body);
    if updates.len() > wire::MAX_APPEND_UPDATES {
        return Err(Problem::bad_request(format!(
            "An append has at most {} updates.",
            wire::MAX_APPEND_UPDATES
        )));
    }
    for update in &updates {
        check_project_id(&update.project)?;
    }
    let growth = Growth::of(&updates);
    let (database, clock) = (ports.database, ports.clock);
    let appended = if defers == Some(true) {
        rooms::append(database, clock, &origin, updates).await
    } else {
        rooms::append_surely(database, clock, &SelfMerger(ports), &origin, updates).await
    };
    let outcomes = match appended {
        Ok(outcomes) => outcomes,
        Err(error) => {
            // The schema may be missing. It is made here, so that the relay's next try succeeds.
            migrations::apply(ports.database, ports.clock).await?;
            return Err(problems::of_room(error));
        }
    };
    let grown = growth.rooms_to_look_at(&outcomes);
    let reply = cbor(wire::encode(&AppendResponse { outcomes }));
    Ok(if grown.is_empty() {
        reply
    } else {
        reply.then(compact_due(ports, grown))
    })
}

/// `GET /internal/rooms/{project}/state`: reads the state of a room, or the part that a client of a version lacks.
pub(crate) async fn state<'a>(request: &Request<'a>, project: &str) -> Answer<'a> {
    check_project_id(project)?;
    let version = request
        .head()
        .parameter("version")
        .map(|version| URL_SAFE_NO_PAD.decode(version))
        .transpose()
        .map_err(|_| Problem::bad_request("`version` is not base64url without padding."))?;
    state_for(request, project, version.as_deref()).await
}

/// `POST /internal/rooms/{project}/state`: reads the same for a version that is too large for a URL.
pub(crate) async fn lacking<'a>(request: &Request<'a>, project: &str) -> Answer<'a> {
    let body = request.body(wire::MAX_UPDATE_BYTES).await?;
    let StateRequest { version } = decode(&body)?;
    state_for(request, project, Some(&version)).await
}

async fn state_for<'a>(request: &Request<'a>, project: &str, version: Option<&[u8]>) -> Answer<'a> {
    let ports = request.ports();
    let merger = SelfMerger(ports);
    let state = rooms::state(ports.database, ports.clock, &merger, project, version);
    Ok(cbor(state.await.map_err(problems::of_room)?.into_body()))
}

/// `POST /internal/rooms/{project}/waiting`: finds which of these updates wait for operations that the room lacks.
pub(crate) async fn waiting<'a>(request: &Request<'a>, project: &str) -> Answer<'a> {
    check_project_id(project)?;
    let WaitingRequest { revs } = decode(&request.body(wire::MAX_UPDATE_BYTES).await?)?;
    let database = request.ports().database;
    let waiting = rooms::waiting(database, project, &revs).await;
    let waiting = waiting.map_err(problems::of_room)?;
    Ok(cbor(wire::encode(&WaitingAnswer { waiting })))
}

/// `GET /internal/rooms/{project}/updates`: reads the updates after a rev.
pub(crate) async fn updates<'a>(request: &Request<'a>, project: &str) -> Answer<'a> {
    check_project_id(project)?;
    let after = request
        .head()
        .parameter("after")
        .and_then(|after| after.parse().ok())
        .ok_or_else(|| Problem::bad_request("`after` is not a rev."))?;
    let state = rooms::updates_after(request.ports().database, project, after)
        .await
        .map_err(problems::of_room)?;
    Ok(cbor(wire::encode(&state)))
}
