//! `/tasks` and `/tasks/{id}`: posting a task, and asking about it.

use std::time::Duration;

use auth::{Principal, Role, door::Entered, secrets, webhooks::WebhookKey};
use platform::{
    Ports, Problem,
    spin::{Incoming, Reply, names_tag},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tasks::{Engine, Registry, Task, TaskError, notification, rows};

use crate::{Afterwards, Answer, access};

/// The longest that somebody may wait for a change: less than proxies wait for an answer.
const LONGEST_WAIT: u64 = 50;

/// How often a change is looked for meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Takes a new task: it is stored when this is answered.
pub(crate) async fn post(ports: Ports<'_>, entered: &Entered, request: Incoming) -> Answer {
    let key = request.header("idempotency-key");
    if key.as_deref().is_some_and(|key| !is_idempotency_key(key)) {
        return Err(Problem::bad_request(
            "An Idempotency-Key has 1 to 255 visible ASCII characters.",
        ));
    }
    let body = request.body(wire::MAX_UPDATE_BYTES).await?;
    let Ok(Value::Object(fields)) = serde_json::from_slice(&body) else {
        return Err(Problem::bad_request("The body must be a JSON object."));
    };
    drop(body);
    let who = entered.principal_again(ports).await?;
    // What names no project is among the wrong fields that are told.
    if let Some(project) = fields.get("project_id").and_then(Value::as_str)
        && wire::is_project_id(project)
    {
        who.open(ports, project).await?.require(Role::Write)?;
    }
    // Two agents may have the same idea of a key.
    let key = key.map(|key| format!("{} {key}", who.name()));
    let registry = Registry::standard(ports.config);
    let (database, clock) = (ports.database, ports.clock);
    let task = tasks::create(
        database,
        clock,
        &registry,
        ports.config,
        &fields,
        key.as_deref(),
    )
    .await?;
    tracing::info!(
        task_id = task.task_id,
        project = task.project_id,
        "task posted"
    );
    let mut told = json!({
        "task_id": task.task_id,
        "status": task.status,
        "created_at": task.created_at,
    });
    if task.callback_url.is_some() {
        let key = WebhookKey::obtain(ports.config, ports.key_value, clock).await;
        let key = key.map_err(TaskError::from)?;
        told["callback_secret"] = json!(notification::secret(&key, &task.task_id));
    }
    let reply = Reply::json(201, &told).header("location", format!("/tasks/{}", task.task_id));
    // What a repeated request finds under way goes on as it does.
    let is_new = task.attempts == 0;
    let afterwards = is_new.then(|| Afterwards::TakeUp(Box::new(task)));
    Ok((reply, afterwards))
}

fn is_idempotency_key(key: &str) -> bool {
    (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A task; with `?wait=`, once it has changed or that time is over.
pub(crate) async fn get(
    ports: Ports<'_>,
    entered: &Entered,
    id: &str,
    request: &Incoming,
) -> Result<Reply, Problem> {
    let who = entered.principal()?;
    let wait = match request.query("wait").map(|wait| wait.parse::<u64>()) {
        None => 0,
        Some(Ok(wait)) if wait <= LONGEST_WAIT => wait,
        Some(_) => {
            return Err(Problem::bad_request(format!(
                "`wait` is a whole number of seconds up to {LONGEST_WAIT}."
            )));
        }
    };
    let mut task = find(ports, who, id, Role::Read).await?;
    let known = request
        .header("if-none-match")
        .unwrap_or_else(|| tag(&task));
    let looks = Duration::from_secs(wait).as_millis() / LOOK_EVERY.as_millis();
    for _ in 0..looks {
        if task.status.is_final() || !names_tag(&known, &tag(&task)) {
            break;
        }
        ports.clock.sleep(LOOK_EVERY).await;
        task = find(ports, who, id, Role::Read).await?;
    }
    if wait > 0 {
        entered.principal_again(ports).await?;
    }
    let tag = tag(&task);
    let reply = if request.knows(&tag) {
        Reply::new(304).without_body()
    } else {
        Reply::json(200, &task)
    };
    Ok(reply
        .header("etag", tag)
        .header("cache-control", "no-cache"))
}

/// Names a task's present representation.
fn tag(task: &Task) -> String {
    let body = serde_json::to_vec(task).unwrap_or_default();
    let name = secrets::hex(&Sha256::digest(body)[..12]);
    format!("\"{name}\"")
}

/// Cancels a task.
pub(crate) async fn cancel(ports: Ports<'_>, who: &Principal, id: &str) -> Answer {
    let task = find(ports, who, id, Role::Write).await?;
    let task = Engine::open(ports).await?.cancel(&task).await?;
    Ok((
        Reply::json(200, &task),
        Some(Afterwards::Ended(Box::new(task))),
    ))
}

/// Tries a failed or cancelled task again.
pub(crate) async fn retry(ports: Ports<'_>, who: &Principal, id: &str) -> Answer {
    let task = find(ports, who, id, Role::Write).await?;
    let task = Engine::open(ports).await?.set_back(&task).await?;
    Ok((
        Reply::json(200, &task),
        Some(Afterwards::TakeUp(Box::new(task))),
    ))
}

/// A task of a project where this role is had.
async fn find(ports: Ports<'_>, who: &Principal, id: &str, role: Role) -> Result<Task, Problem> {
    let task = rows::get(ports.database, id).await?;
    let task = task.ok_or_else(Problem::not_found)?;
    access(ports, who, &task.project_id).await?.require(role)?;
    Ok(task)
}
