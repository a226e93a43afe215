//! `/tasks` and `/tasks/{task}`: posting, reading, cancelling and retrying a task.

use std::pin::Pin;

use auth::{Principal, Role, secrets, webhooks::WebhookKey};
use door::{Reply, Tag};
use futures_util::future::{self, Either};
use platform::Ports;
use problem::Problem;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tasks::{
    Engine, Registry, Status, Task, TaskError, TaskRequest, addressed_data, notification, rows,
};

use crate::{
    request::{Answer, Request, access},
    waiting::{self, OWN_WAIT},
};

/// Posts a task: it is stored before the answer is sent. If the caller asks to wait, the answer comes when the task
/// has ended or the time is up.
pub(crate) async fn post<'a>(request: &Request<'a>) -> Answer<'a> {
    let ports = request.ports();
    let key = request.head().header("idempotency-key");
    if key.is_some_and(|key| !is_idempotency_key(key)) {
        return Err(Problem::bad_request(
            "An Idempotency-Key has 1 to 255 visible ASCII characters.",
        ));
    }
    let wait = waiting::until_end(request.head())?;
    let body = request.body(wire::MAX_UPDATE_BYTES).await?;
    let wanted = TaskRequest::read(&body)?;
    let caller = request.principal()?;
    // If the body names no project, the check of the fields below reports it.
    if let Some(project) = wanted.project_id()
        && wire::is_project_id(project)
    {
        let grant = caller.open(ports, project).await?;
        grant.require(Role::Write)?;
    }
    // Two agents may choose the same key.
    let key = key.map(|key| format!("{} {key}", caller.name()));
    let registry = Registry::standard(ports.config);
    let task = tasks::create(ports, &registry, &wanted, key.as_deref()).await?;
    tracing::info!(
        task_id = task.task_id,
        project = task.project_id,
        "a task was posted"
    );
    let told = posted(request, &task).await?;
    let location = request.location(&format!("/tasks/{}", task.task_id));
    let reply = |told: &Value| Reply::json(201, told).header("location", location.clone());
    // A repeated request must not restart a task that is under way.
    let work: Work<'a> = if task.attempts == 0 {
        Box::pin(take_up(ports, task.clone()))
    } else {
        Box::pin(future::ready(()))
    };
    let Some(wait) = wait else {
        return Ok(reply(&told).then(work));
    };
    // The task is submitted while its caller waits.
    let ended = std::pin::pin!(waiting::look(ports, &task.task_id, wait.seconds, |task| {
        task.status.is_final()
    }));
    let (task, work) = match future::select(ended, work).await {
        Either::Left((task, work)) => (task?, work),
        Either::Right(((), ended)) => (ended.await?, Box::pin(future::ready(())) as Work<'a>),
    };
    let told = match task {
        Some(task) => joined(told, whole(request, &task).await?),
        None => told,
    };
    let reply = reply(&told).then(work);
    Ok(if wait.is_preference {
        reply.header("preference-applied", format!("wait={}", wait.seconds))
    } else {
        reply
    })
}

/// The work that goes on after the answer.
type Work<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// The answer to the caller who posted a task.
async fn posted(request: &Request<'_>, task: &Task) -> Result<Value, Problem> {
    let ports = request.ports();
    let status_url = format!("{}/tasks/{}", request.base(), task.task_id);
    let mut told = json!({
        "task_id": task.task_id,
        "status": task.status,
        "created_at": task.created_at,
        "cancel_url": format!("{status_url}/cancel"),
        "events_url": format!("{status_url}/events"),
        "status_url": status_url,
    });
    if task.callback_url.is_some() {
        let key = WebhookKey::obtain(ports.config, ports.key_value, ports.clock).await;
        let key = key.map_err(TaskError::from)?;
        told["callback_secret"] = json!(notification::secret(&key, &task.task_id));
    }
    Ok(told)
}

/// Joins the fields of both objects. If both have a field, that of the second counts.
fn joined(mut told: Value, more: Value) -> Value {
    if let (Value::Object(told), Value::Object(more)) = (&mut told, more) {
        told.extend(more);
    }
    told
}

fn is_idempotency_key(key: &str) -> bool {
    (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Reads a task; with `?wait=`, as soon as it has changed or that time is over.
pub(crate) async fn get<'a>(request: &Request<'a>, id: &str) -> Answer<'a> {
    let (ports, head) = (request.ports(), request.head());
    let caller = request.principal()?;
    let wait = waiting::asked(head)?.unwrap_or(0);
    let mut task = find(ports, &caller, id, Role::Read).await?;
    let known = head.header("if-none-match").map(str::to_owned);
    let known = known.unwrap_or_else(|| tag(&task).to_string());
    let is_news = |task: &Task| task.status.is_final() || !tag(task).is_in(&known);
    if !is_news(&task) {
        let looked = waiting::look(ports, id, wait.min(OWN_WAIT), is_news).await?;
        task = looked.ok_or_else(Problem::not_found)?;
    }
    if wait > 0 {
        request.check_again().await?;
        access(ports, &request.principal()?, &task.project_id).await?;
    }
    let tag = tag(&task);
    let reply = if head.knows(&tag) {
        Reply::not_modified(&tag)
    } else {
        Reply::json(200, &whole(request, &task).await?).tag(&tag)
    };
    let reply = reply.header("cache-control", "no-cache");
    if task.status.is_final() {
        return Ok(reply);
    }
    let reply = reply.header(wire::TASK_MARK, task.mark());
    Ok(if wait > OWN_WAIT && tag.is_in(&known) {
        // The caller wanted to wait for longer.
        reply.header("retry-after", "0")
    } else {
        reply
    })
}

/// Describes a task with everything that its row holds for users.
async fn whole(request: &Request<'_>, task: &Task) -> Result<Value, Problem> {
    let mut whole = described(request, task).await?;
    whole["params"] = json!(rows::params(request.ports().database, &task.task_id).await?);
    Ok(whole)
}

/// Describes a task without its parameters, which never change.
pub(crate) async fn described(request: &Request<'_>, task: &Task) -> Result<Value, Problem> {
    let (ports, base) = (request.ports(), request.base());
    let mut described = json!(task.clone().addressed(&base));
    let data = if task.status == Status::Completed {
        rows::result_data(ports.database, &task.task_id).await?
    } else {
        None
    };
    described["tries"] = json!(rows::tries(ports.database, &task.task_id).await?);
    described["result_data"] = json!(data.map(|data| addressed_data(data, &base)));
    Ok(described)
}

/// Makes the entity tag of a task's present representation. The parameters never change, and the data of the result only
/// with the status.
fn tag(task: &Task) -> Tag {
    let body = serde_json::to_vec(task).unwrap_or_default();
    Tag::new(secrets::hex(&Sha256::digest(body)[..12]))
}

/// Cancels a task.
pub(crate) async fn cancel<'a>(request: &Request<'a>, id: &str) -> Answer<'a> {
    let ports = request.ports();
    let task = find(ports, &request.principal()?, id, Role::Write).await?;
    let task = Engine::open(ports).await?.cancel(&task).await?;
    let told = whole(request, &task).await?;
    Ok(Reply::json(200, &told).then(end(ports, task)))
}

/// Tries a failed or cancelled task again.
pub(crate) async fn retry<'a>(request: &Request<'a>, id: &str) -> Answer<'a> {
    let ports = request.ports();
    let task = find(ports, &request.principal()?, id, Role::Write).await?;
    let task = Engine::open(ports).await?.set_back(&task).await?;
    let told = whole(request, &task).await?;
    Ok(Reply::json(200, &told).then(take_up(ports, task)))
}

/// Finds a task of a project in which the caller has this role.
pub(crate) async fn find(
    ports: Ports<'_>,
    caller: &Principal,
    id: &str,
    role: Role,
) -> Result<Task, Problem> {
    let task = rows::get(ports.database, id).await?;
    let task = task.ok_or_else(Problem::not_found)?;
    access(ports, caller, &task.project_id)
        .await?
        .require(role)?;
    Ok(task)
}

/// Submits a task that is new or was set back, in an instance of its own.
async fn take_up(ports: Ports<'_>, task: Task) {
    match Engine::open(ports).await {
        Ok(engine) => engine.take_up(&task).await,
        // The poller submits the task later.
        Err(error) => tracing::error!(%error, "tasks cannot be worked on"),
    }
}

/// Does the work that follows the end of a task.
async fn end(ports: Ports<'_>, task: Task) {
    match Engine::open(ports).await {
        Ok(engine) => engine.ended(&task).await,
        Err(error) => tracing::error!(%error, "tasks cannot be worked on"),
    }
}
