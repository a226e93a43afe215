//! `POST /internal/tasks/marks`: reads whether the tasks for which clients of a relay wait have changed.

use door::Reply;
use problem::Problem;
use tasks::rows;
use wire::{MAX_MARKS, Marks, MarksRequest};

use crate::request::{Answer, Request};

/// Reads the mark of each task, and the last change of each project, each in one statement.
pub(crate) async fn post<'a>(request: &Request<'a>) -> Answer<'a> {
    let body = request.body(wire::MAX_UPDATE_BYTES).await?;
    let MarksRequest { tasks, projects } =
        wire::decode(&body).map_err(|error| Problem::bad_request(error.to_string()))?;
    let projects = projects.unwrap_or_default();
    if tasks.len() > MAX_MARKS || projects.len() > MAX_MARKS {
        let words = format!("At most {MAX_MARKS} tasks, and as many projects.");
        return Err(Problem::bad_request(words));
    }
    let database = request.ports().database;
    let marks = rows::marks(database, &tasks).await?;
    let changes = rows::last_changes(database, &projects).await?;
    let projects = changes.iter().map(i64::to_string).collect();
    let body = wire::encode(&Marks {
        marks,
        projects: Some(projects),
    });
    Ok(Reply::new(200).media_type(wire::CONTENT_TYPE).body(body))
}
