//! `POST /internal/tasks/marks`: whether tasks have changed for which clients of a relay wait.

use door::Reply;
use problem::Problem;
use tasks::rows;
use wire::{MAX_MARKS, Marks, MarksRequest};

use crate::{Answer, Request};

/// Reads the mark of each task, all in one statement.
pub(crate) async fn post<'a>(request: &Request<'a>) -> Answer<'a> {
    let body = request.body(wire::MAX_UPDATE_BYTES).await?;
    let MarksRequest { tasks } =
        wire::decode(&body).map_err(|error| Problem::bad_request(error.to_string()))?;
    if tasks.len() > MAX_MARKS {
        return Err(Problem::bad_request(format!("At most {MAX_MARKS} tasks.")));
    }
    let marks = rows::marks(request.ports().database, &tasks).await?;
    let body = wire::encode(&Marks { marks });
    Ok(Reply::new(200).media_type(wire::CONTENT_TYPE).body(body))
}
