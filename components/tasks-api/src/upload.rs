//! `POST /projects/{project}/assets` and `/projects/{project}/uploads`: pictures and films of users, whole and in parts.

use door::Reply;
use problem::{Kind, Problem};
use serde_json::json;
use tasks::{
    MAX_UPLOAD, Upload,
    large_upload::{self, Progress},
};

use crate::request::{Answer, Request};

/// Stores the picture or film in the body.
pub(crate) async fn post<'a>(request: &Request<'a>, project: &str) -> Answer<'a> {
    let bytes = request.body(MAX_UPLOAD).await.map_err(too_large)?;
    let upload = tasks::upload(request.ports(), project, bytes).await?;
    Ok(stored(request, &upload))
}

/// Adds to a refusal how to upload a larger picture or film.
fn too_large(problem: Problem) -> Problem {
    if problem.kind() != Kind::PAYLOAD_TOO_LARGE {
        return problem;
    }
    let words = format!(
        "{} With a bucket (`s3_bucket`) a larger upload comes in parts, up to `max_upload_mib`: the relay sends them if the upload has a `Content-Length`.",
        problem.detail()
    );
    Problem::new(Kind::PAYLOAD_TOO_LARGE, words)
}

/// Begins a large upload with its first part. The parameter `length` is the number of bytes of the whole.
pub(crate) async fn begin<'a>(request: &Request<'a>, project: &str) -> Answer<'a> {
    let total = bytes(request, "length")?;
    let first = request.body(wire::UPLOAD_PART).await?;
    let begun = large_upload::begin(request.ports(), project, total, first).await?;
    Ok(progress_reply(request, project, begun, 201))
}

/// Takes the next part, which begins at the byte that the parameter `from` names. With `last`, it is the last part.
pub(crate) async fn go_on<'a>(request: &Request<'a>, project: &str, upload: &str) -> Answer<'a> {
    let from = bytes(request, "from")?;
    let is_last = request.head().parameter("last").is_some();
    let part = request.body(wire::UPLOAD_PART).await?;
    let (ports, named) = (request.ports(), (project, upload));
    let progress = large_upload::go_on(ports, named, from, part, is_last).await?;
    Ok(progress_reply(request, project, progress, 200))
}

/// Gives a large upload up.
pub(crate) async fn give_up<'a>(request: &Request<'a>, project: &str, upload: &str) -> Answer<'a> {
    large_upload::give_up(request.ports(), project, upload).await?;
    Ok(Reply::empty(204))
}

fn progress_reply<'a>(
    request: &Request<'a>,
    project: &str,
    progress: Progress,
    status: u16,
) -> Reply<'a> {
    match progress {
        Progress::Whole(upload) => stored(request, &upload),
        Progress::Partly { upload, next } => {
            let path = format!("/projects/{project}/uploads/{upload}");
            let told = json!({ "upload": upload, "next": next, "part": wire::UPLOAD_PART });
            Reply::json(status, &told).header("location", request.location(&path))
        }
    }
}

fn stored<'a>(request: &Request<'a>, upload: &Upload) -> Reply<'a> {
    let told = json!({
        "id": upload.id,
        "path": upload.path,
        "url": format!("{}{}", request.base(), upload.path),
        "media_type": upload.media_type,
        "length": upload.length,
    });
    Reply::json(201, &told).header("location", upload.path.as_str())
}

/// A parameter that is a number of bytes.
fn bytes(request: &Request<'_>, name: &str) -> Result<u64, Problem> {
    let given = request.head().parameter(name);
    let given = given.and_then(|given| given.parse().ok());
    given.ok_or_else(|| Problem::invalid_field(name, "must be a number of bytes"))
}
