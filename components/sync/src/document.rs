//! `/sync/{project}`: the document of a project over plain HTTP.

use door::{Head, Reply, Tag};
use platform::{DatabaseError, Ports};
use rooms::RoomError;
use serde_json::json;
use wire::{Notice, Outcome, Update};

use crate::{
    compaction::{Growth, compact_due},
    merging::SelfMerger,
    problems,
    request::{Answer, Request},
};

/// The origin of updates over plain HTTP. It is no relay's id, so every relay takes them.
const ORIGIN: &str = "http";

/// Reads the whole document: one Loro blob, or JSON if the client asks for it.
pub(crate) async fn get<'a>(request: &Request<'a>, project: &str) -> Answer<'a> {
    let (ports, head) = (request.ports(), request.head());
    let form = Form::asked_for(head);
    let rev = rooms::head(ports.database, project).await?;
    let tag = form.tag(rev);
    if head.knows(&tag) {
        return Ok(described(Reply::not_modified(&tag), rev));
    }
    if head.is_head() {
        return Ok(described(form.of(Reply::empty(200), &tag), rev));
    }
    let merger = SelfMerger(ports);
    let state = match form {
        Form::Json => rooms::json(ports.database, ports.clock, &merger, project).await,
        Form::Snapshot => rooms::snapshot(ports.database, ports.clock, &merger, project).await,
    }
    .map_err(problems::of_room)?;
    let state = state
        .decoded()
        .map_err(|error| problems::of_room(RoomError::Merge(error.to_string())))?;
    let body = state.blobs.first().map_or(&[][..], |blob| blob);
    let reply = form.of(Reply::new(200), &form.tag(state.rev)).body(body);
    Ok(described(reply, state.rev))
}

/// A representation of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Snapshot,
    Json,
}

impl Form {
    fn asked_for(head: &Head) -> Self {
        let json = head
            .header("accept")
            .is_some_and(|accept| accept.contains("application/json"));
        if json { Self::Json } else { Self::Snapshot }
    }

    /// Makes the entity tag of the representation at a rev. Snapshot and JSON have different tags.
    fn tag(self, rev: u64) -> Tag {
        match self {
            Self::Snapshot => Tag::new(rev),
            Self::Json => Tag::new(format_args!("{rev}-json")),
        }
    }

    fn of<'a>(self, reply: Reply<'a>, tag: &Tag) -> Reply<'a> {
        reply.tag(tag).media_type(match self {
            Self::Snapshot => "application/octet-stream",
            Self::Json => "application/json",
        })
    }
}

fn described(reply: Reply<'_>, rev: u64) -> Reply<'_> {
    reply
        .header("x-loro-rev", rev.to_string())
        .header("cache-control", "no-cache")
        .header("vary", "accept")
}

/// Applies one update and answers its rev.
pub(crate) async fn post<'a>(request: &Request<'a>, project: &str) -> Answer<'a> {
    let ports = request.ports();
    let payload = request.body(wire::MAX_UPDATE_BYTES).await?;
    let told = if payload.len() <= wire::MAX_NOTICE_BYTES {
        vec![payload.clone().into()]
    } else {
        Vec::new()
    };
    let updates = vec![Update {
        project: project.to_owned(),
        payload: payload.into(),
        serial: None,
    }];
    let growth = Growth::of(&updates);
    let merger = SelfMerger(ports);
    let outcomes = rooms::append_surely(ports.database, ports.clock, &merger, ORIGIN, updates)
        .await
        .map_err(problems::of_room)?;
    let grown = growth.rooms_to_look_at(&outcomes);
    match outcomes.into_iter().next() {
        Some(Outcome::Stored { rev, .. }) => {
            let notice = Notice::Updates {
                origin: ORIGIN.to_owned(),
                first_rev: rev,
                last_rev: rev,
                payloads: told,
            };
            let project = project.to_owned();
            Ok(Reply::json(200, &json!({ "rev": rev }))
                .header("x-loro-rev", rev.to_string())
                .then(async move {
                    notify_relays(ports, &project, &notice).await;
                    compact_due(ports, grown).await;
                }))
        }
        Some(Outcome::Refused { reason, code }) => {
            let full = code
                .as_deref()
                .and_then(|code| quota::problem(code, &reason));
            Err(full.unwrap_or_else(|| problems::bad_update(reason, code)))
        }
        Some(Outcome::Suspect) | None => Err(DatabaseError::Unexpected("no outcome".into()).into()),
    }
}

/// Notifies the relays of an update. A failure is only logged, because relays find the gap in the revs.
async fn notify_relays(ports: Ports<'_>, project: &str, notice: &Notice) {
    let channel = wire::room_channel(project);
    let published = ports.pubsub.publish(&channel, wire::encode(notice));
    if let Err(error) = published.await {
        tracing::warn!(%error, "the relays were not notified");
    }
}
