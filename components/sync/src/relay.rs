//! The relay's questions besides the logs of its rooms: the heads of rooms, and the access of sockets.

use auth::projects;
use door::{Reply, judge};
use futures_util::future::join_all;
use problem::Problem;
use wire::{AccessRequest, AccessResponse, Heads, HeadsRequest};

use crate::request::{Answer, Request};

/// The most rooms in one question for heads.
const MAX_HEADS: usize = 1000;

/// `POST /internal/heads`: reads the newest rev, access count and number of quarantined updates of each room.
pub(crate) async fn heads<'a>(request: &Request<'a>) -> Answer<'a> {
    let database = request.ports().database;
    let HeadsRequest { projects } = decode(&request.body(wire::MAX_UPDATE_BYTES).await?)?;
    if projects.len() > MAX_HEADS {
        return Err(Problem::bad_request(format!("At most {MAX_HEADS} rooms.")));
    }
    let revs = rooms::heads(database, &projects).await?;
    let access_revs = Some(projects::access_revs(database, &projects).await?);
    let quarantined = Some(rooms::quarantine_counts(database, &projects).await?);
    Ok(cbor(wire::encode(&Heads {
        revs,
        access_revs,
        quarantined,
    })))
}

/// `POST /internal/access`: judges whether sockets may be in their rooms. The sessions are looked up at the same time.
pub(crate) async fn access<'a>(request: &Request<'a>) -> Answer<'a> {
    let AccessRequest { checks } = decode(&request.body(wire::MAX_UPDATE_BYTES).await?)?;
    if checks.len() > wire::MAX_ACCESS_CHECKS {
        let words = format!("At most {} checks.", wire::MAX_ACCESS_CHECKS);
        return Err(Problem::bad_request(words));
    }
    let ports = request.ports();
    let verdicts = join_all(checks.into_iter().map(|check| judge(ports, check))).await;
    Ok(cbor(wire::encode(&AccessResponse { verdicts })))
}

/// Reads a message of the crate `wire`.
pub(crate) fn decode<'b, T: minicbor::Decode<'b, ()>>(body: &'b [u8]) -> Result<T, Problem> {
    wire::decode(body).map_err(|error| Problem::bad_request(error.to_string()))
}

/// Makes an answer with an encoded message of the crate `wire`.
pub(crate) fn cbor<'a>(body: Vec<u8>) -> Reply<'a> {
    Reply::new(200).media_type(wire::CONTENT_TYPE).body(body)
}
