//! `POST /projects/{project}/assets`: pictures and films of users.

use door::Reply;
use serde_json::json;
use tasks::MAX_UPLOAD;

use crate::{Answer, Request};

/// Stores the picture or film that the body is.
pub(crate) async fn post<'a>(request: &Request<'a>, project: &str) -> Answer<'a> {
    let bytes = request.body(MAX_UPLOAD).await?;
    let upload = tasks::upload(request.ports(), project, bytes).await?;
    let told = json!({
        "id": upload.id,
        "path": upload.path,
        "url": format!("{}{}", request.base(), upload.path),
        "media_type": upload.media_type,
        "length": upload.length,
    });
    Ok(Reply::json(201, &told).header("location", upload.path))
}
