//! Creating a task from a request.

use auth::secrets;
use platform::{Clock, Config, Database, DatabaseError};
use problem::{FieldError, Fields, Kind, Problem};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::{
    address,
    executors::Registry,
    rows,
    task::{MAX_TEXT, Status, Task, new_id},
};

/// The reason for which a task was not created.
#[derive(Debug, Error)]
pub enum CreateError {
    /// Some fields are wrong; nothing was stored.
    #[error("the task has wrong fields")]
    Invalid(Vec<FieldError>),
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    Conflict,
    /// The database failed. Whether the task was stored is not known; posting it again under the same
    /// idempotency key is harmless.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// The most retries of a task after errors.
const MAX_RETRIES: f64 = 20.0;

/// The retries of a task that names none.
const DEFAULT_RETRIES: i64 = 3;

/// The longest node id, in characters.
const MAX_NODE_ID: usize = 1024;

/// The longest address of an agent, in characters.
const MAX_CALLBACK_URL: usize = 2048;

/// Stores a new task. With an idempotency key, the same request gives the same task.
///
/// # Errors
/// See [`CreateError`].
pub async fn create(
    database: &dyn Database,
    clock: &dyn Clock,
    registry: &Registry,
    config: &dyn Config,
    request: &Map<String, Value>,
    idempotency_key: Option<&str>,
) -> Result<Task, CreateError> {
    let digest = digest(request);
    let task = read(clock, registry, config, request).map_err(CreateError::Invalid)?;
    let new = rows::Insert {
        task: &task,
        idempotency_key,
        request_digest: &digest,
    };
    if rows::insert(database, new).await? {
        return Ok(task);
    }
    let earlier = match idempotency_key {
        Some(key) => rows::by_key(database, key).await?,
        None => None,
    };
    match earlier {
        Some((task, known)) if known == digest => Ok(task),
        Some(_) => Err(CreateError::Conflict),
        None => Err(DatabaseError::Unexpected("a task was not stored".into()).into()),
    }
}

fn read(
    clock: &dyn Clock,
    registry: &Registry,
    config: &dyn Config,
    request: &Map<String, Value>,
) -> Result<Task, Vec<FieldError>> {
    let mut fields = Fields::new(request, "");
    let project_id = fields.required_text("project_id", MAX_TEXT).unwrap_or("");
    if !project_id.is_empty() && !wire::is_project_id(project_id) {
        fields.wrong(
            "project_id",
            "must have 1 to 128 characters of A-Z, a-z, 0-9, _ and -",
        );
    }
    let task_type = fields.required_text("task_type", MAX_TEXT).unwrap_or("");
    let executor = registry.for_type(task_type);
    if !task_type.is_empty() && executor.is_none() {
        let known = registry.task_types().join(", ");
        fields.wrong("task_type", format!("must be one of {known}"));
    }
    let node_id = fields.text("node_id", MAX_NODE_ID);
    let max_retries = fields.number("max_retries", 0.0, MAX_RETRIES);
    if max_retries.is_some_and(|n| n.fract() != 0.0) {
        fields.wrong("max_retries", "must be a whole number");
    }
    let callback_url = fields.text("callback_url", MAX_CALLBACK_URL);
    if let Some(url) = callback_url
        && let Err(reason) = address::check_callback(url, config)
    {
        fields.wrong("callback_url", reason);
    }
    let nothing = Map::new();
    let params = match fields.value("params") {
        Some(Value::Object(params)) => params,
        Some(_) => {
            fields.wrong("params", "must be an object");
            &nothing
        }
        None => &nothing,
    };
    let mut errors = fields.finish();
    if let Some(executor) = executor {
        let mut params = Fields::new(params, "params.");
        executor.check(task_type, &mut params);
        errors.extend(params.finish());
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let now = clock.unix_seconds();
    Ok(Task {
        task_id: new_id(now),
        project_id: project_id.to_owned(),
        task_type: task_type.to_owned(),
        status: Status::Pending,
        external_task_id: None,
        external_service: executor.map(|executor| executor.service().to_owned()),
        params: Value::Object(params.clone()).to_string(),
        result_url: None,
        result_data: None,
        error_message: None,
        created_at: now,
        updated_at: now,
        completed_at: None,
        retry_count: 0,
        max_retries: max_retries.map_or(DEFAULT_RETRIES, |n| n as i64),
        node_id: node_id.map(str::to_owned),
        callback_url: callback_url.map(str::to_owned),
        version: 0,
        run: 0,
        attempts: 0,
        lease_until: None,
        accepted_at: None,
        earlier_jobs: None,
    })
}

/// The digest of a request. The order of its fields makes no difference.
fn digest(request: &Map<String, Value>) -> String {
    let canonical = Value::Object(request.clone()).to_string();
    secrets::digest(&canonical)
}

impl From<CreateError> for Problem {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Invalid(errors) => Self::invalid_fields(errors),
            CreateError::Conflict => Self::new(
                Kind::IDEMPOTENCY_CONFLICT,
                "This Idempotency-Key came with another request before.",
            ),
            CreateError::Database(error) => error.into(),
        }
    }
}
