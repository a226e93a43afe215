//! `/internal/…`: what the relay asks of the app. The messages are in the crate `wire`.

use auth::{door, projects};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use platform::{
    Problem,
    clock::SystemClock,
    migrations,
    spin::{Incoming, Reply},
};
use spin_sdk::http::Method;
use wire::{AccessRequest, AccessResponse, AppendRequest, AppendResponse, Heads, HeadsRequest};

use crate::{
    Answer, App,
    afterwards::{self, Afterwards},
    merging, problem,
};

/// The most rooms that one sweep compacts; the next one goes on.
const SWEEP_ROOMS: u64 = 32;

/// The most rooms in one question for heads.
const MAX_HEADS: usize = 1000;

pub(crate) async fn route(rest: &[&str], request: Incoming) -> Result<Answer, Problem> {
    let method = match rest {
        ["rooms", _, "state" | "updates"] => Method::Get,
        _ => Method::Post,
    };
    request.allow(&[method])?;
    if rest == ["append"] {
        let app = App::open_unchecked()?;
        let (reply, work) = append(&app, request).await?;
        return Ok((reply, Some((app, work))));
    }
    let app = App::open().await?;
    match rest {
        ["heads"] => Ok((heads(&app, request).await?, None)),
        ["access"] => Ok((access(&app, request).await?, None)),
        ["sweep"] => Ok((sweep(&app).await?, None)),
        ["merge", project] => {
            let reply = merging::answer(&app, project_id(project)?, request).await?;
            Ok((reply, None))
        }
        ["rooms", project, action] => {
            let project = project_id(project)?;
            let reply = match *action {
                "state" => state(&app, project, &request).await?,
                "updates" => updates(&app, project, &request).await?,
                "compact" => {
                    afterwards::compact(&app, project)
                        .await
                        .map_err(problem::of_room)?;
                    Reply::new(202)
                }
                _ => return Err(Problem::not_found()),
            };
            Ok((reply, None))
        }
        _ => Err(Problem::not_found()),
    }
}

async fn append(app: &App, request: Incoming) -> Result<(Reply, Afterwards), Problem> {
    let body = request.body(wire::MAX_APPEND_BYTES).await?;
    let AppendRequest { origin, updates } = decode(&body)?;
    drop(body);
    if updates.len() > wire::MAX_APPEND_UPDATES {
        return Err(Problem::bad_request(format!(
            "An append has at most {} updates.",
            wire::MAX_APPEND_UPDATES
        )));
    }
    for update in &updates {
        project_id(&update.project)?;
    }
    let mut work = Afterwards::new(&updates);
    let outcomes = match rooms::append(&app.ports.database, &SystemClock, &origin, updates).await {
        Ok(outcomes) => outcomes,
        Err(error) => {
            // It may be the schema: then the relay's next try finds it made.
            migrations::apply(&app.ports.database, &SystemClock).await?;
            return Err(problem::of_room(error));
        }
    };
    work.stored(&outcomes);
    let reply = cbor(wire::encode(&AppendResponse { outcomes }));
    Ok((reply, work))
}

async fn state(app: &App, project: &str, request: &Incoming) -> Result<Reply, Problem> {
    let version = request
        .query("version")
        .map(|version| URL_SAFE_NO_PAD.decode(version))
        .transpose()
        .map_err(|_| Problem::bad_request("`version` is not base64url without padding."))?;
    let state = rooms::state(
        &app.ports.database,
        &SystemClock,
        &app.merger(),
        project,
        version.as_deref(),
    )
    .await
    .map_err(problem::of_room)?;
    Ok(cbor(state.into_body()))
}

async fn updates(app: &App, project: &str, request: &Incoming) -> Result<Reply, Problem> {
    let after = request
        .query("after")
        .and_then(|after| after.parse().ok())
        .ok_or_else(|| Problem::bad_request("`after` is not a rev."))?;
    let state = rooms::updates_after(&app.ports.database, project, after)
        .await
        .map_err(problem::of_room)?;
    Ok(cbor(wire::encode(&state)))
}

async fn heads(app: &App, request: Incoming) -> Result<Reply, Problem> {
    let body = request.body(wire::MAX_UPDATE_BYTES).await?;
    let HeadsRequest { projects } = decode(&body)?;
    if projects.len() > MAX_HEADS {
        return Err(Problem::bad_request(format!("At most {MAX_HEADS} rooms.")));
    }
    let revs = rooms::heads(&app.ports.database, &projects).await?;
    let access_revs = Some(projects::access_revs(&app.ports.database, &projects).await?);
    Ok(cbor(wire::encode(&Heads { revs, access_revs })))
}

/// Whether sockets may be in their rooms. Sessions are asked for all at once.
async fn access(app: &App, request: Incoming) -> Result<Reply, Problem> {
    let body = request.body(wire::MAX_UPDATE_BYTES).await?;
    let AccessRequest { checks } = decode(&body)?;
    if checks.len() > wire::MAX_ACCESS_CHECKS {
        let words = format!("At most {} checks.", wire::MAX_ACCESS_CHECKS);
        return Err(Problem::bad_request(words));
    }
    let judging = checks
        .into_iter()
        .map(|check| door::judge(app.ports.all(), check));
    let verdicts = join_all(judging).await;
    Ok(cbor(wire::encode(&AccessResponse { verdicts })))
}

async fn sweep(app: &App) -> Result<Reply, Problem> {
    for project in rooms::sweep(&app.ports.database, &SystemClock, SWEEP_ROOMS).await? {
        if let Err(error) = afterwards::compact(app, &project).await {
            tracing::warn!(project, %error, "room not compacted");
        }
    }
    Ok(Reply::new(202))
}

fn project_id(segment: &str) -> Result<&str, Problem> {
    if wire::is_project_id(segment) {
        Ok(segment)
    } else {
        Err(Problem::bad_project_id())
    }
}

pub(crate) fn decode<'b, T: minicbor::Decode<'b, ()>>(body: &'b [u8]) -> Result<T, Problem> {
    wire::decode(body).map_err(|error| Problem::bad_request(error.to_string()))
}

/// A message of the crate `wire`.
pub(crate) fn cbor(body: Vec<u8>) -> Reply {
    Reply::new(200).media_type(wire::CONTENT_TYPE).body(body)
}
