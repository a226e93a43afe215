//! `GET /tasks`: the tasks of a project, newest first, page by page.

use auth::{Denied, Principal};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use door::{Head, Reply};
use problem::Problem;
use serde_json::{Value, json};
use tasks::{
    Status, Task, addressed_data,
    rows::{self, Filter},
};

use crate::request::{Answer, Request};

const DEFAULT_LIMIT: u64 = 50;
const MAX_LIMIT: u64 = 200;

/// A page with the columns that may be large ends when they have this many bytes.
const MAX_PAGE_BYTES: usize = 8 * 1024 * 1024;

/// The columns that a list has only if `fields` names them.
const LARGE: &[&str] = &["params", "result_data"];

/// Lists the tasks that the caller may see.
pub(crate) async fn get<'a>(request: &Request<'a>) -> Answer<'a> {
    let (ports, caller) = (request.ports(), request.principal()?);
    let text = |name| parameter(request.head(), name);
    let limit = request.head().limit(DEFAULT_LIMIT, MAX_LIMIT)?;
    let status = text("status").map(|name| {
        let words = "`status` is one of pending, processing, completed, failed, cancelled.";
        Status::parse(name).ok_or_else(|| Problem::bad_request(words))
    });
    let after = text("cursor").map(|cursor| {
        let words = "`cursor` must be the `next_cursor` of an earlier answer.";
        read_cursor(cursor).ok_or_else(|| Problem::bad_request(words))
    });
    let (status, after) = (status.transpose()?, after.transpose()?);
    let fields: Vec<&str> = text("fields").map_or(Vec::new(), |fields| fields.split(',').collect());
    if fields.iter().any(|field| !LARGE.contains(field)) {
        let words = "`fields` names params, result_data, or both with a comma between.";
        return Err(Problem::bad_request(words));
    }
    let (project_id, user_id) = match (text("project_id"), &caller) {
        (Some(project), _) => {
            match caller.access(ports, project).await {
                // The project is made when it is first opened; until then it has no tasks.
                Err(Denied::NoSuchProject) if caller.makes_what_it_opens(ports) => {
                    return Ok(page(Vec::new(), None));
                }
                access => access?,
            };
            (Some(project.to_owned()), None)
        }
        (None, Principal::User { id, .. }) => (None, Some(id.clone())),
        (None, Principal::Token { project_id, .. }) => {
            caller.access(ports, project_id).await?;
            (Some(project_id.clone()), None)
        }
        (None, Principal::Server) => (None, None),
    };
    let filter = Filter {
        project_id,
        user_id,
        status,
        task_type: text("task_type").map(str::to_owned),
        tag: text("tag").map(str::to_owned),
        after,
        // One row more shows whether there is another page.
        limit: limit + 1,
    };
    let mut tasks = rows::list(ports.database, &filter).await?;
    let mut has_more = tasks.len() as u64 > limit;
    tasks.truncate(limit as usize);
    let mut described = Vec::with_capacity(tasks.len());
    let mut bytes = 0;
    for task in &tasks {
        if bytes > MAX_PAGE_BYTES {
            has_more = true;
            break;
        }
        let (task, more) = describe(request, task, &fields).await?;
        described.push(task);
        bytes += more;
    }
    let last = described
        .len()
        .checked_sub(1)
        .and_then(|last| tasks.get(last));
    let next = last.filter(|_| has_more).map(cursor);
    Ok(page(described, next))
}

/// Describes a task with these of the large columns, and counts their bytes.
async fn describe(
    request: &Request<'_>,
    task: &Task,
    fields: &[&str],
) -> Result<(Value, usize), Problem> {
    let ports = request.ports();
    let base = request.base();
    let mut described = json!(task.clone().addressed(&base));
    let mut bytes = 0;
    for field in fields {
        let value = match *field {
            "params" => rows::params(ports.database, &task.task_id).await?,
            _ => rows::result_data(ports.database, &task.task_id)
                .await?
                .map(|data| addressed_data(data, &base)),
        };
        bytes += value.as_ref().map_or(0, String::len);
        described[*field] = json!(value);
    }
    Ok((described, bytes))
}

/// Reads a parameter of the query; an empty one counts as missing.
fn parameter<'h>(head: &'h Head, name: &str) -> Option<&'h str> {
    head.parameter(name).filter(|value| !value.is_empty())
}

fn page<'a>(tasks: Vec<Value>, next: Option<String>) -> Reply<'a> {
    Reply::json(200, &json!({ "tasks": tasks, "next_cursor": next }))
        .header("cache-control", "no-cache")
}

fn cursor(last: &Task) -> String {
    URL_SAFE_NO_PAD.encode(format!("{} {}", last.created_at, last.task_id))
}

fn read_cursor(cursor: &str) -> Option<(i64, String)> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let (created_at, task_id) = text.split_once(' ')?;
    Some((created_at.parse().ok()?, task_id.to_owned()))
}
