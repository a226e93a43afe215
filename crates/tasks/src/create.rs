//! Creates a task from a request.

use auth::secrets;
use platform::{Config, Database, DatabaseError, Ports};
use problem::{FieldError, Fields, Kind, Problem};
use quota::QuotaError;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::{
    address, asset_address,
    assets::{AssetError, AssetStore},
    earlier,
    executor::Executor,
    executors::Registry,
    image::Image,
    media_type,
    options::{self, Options},
    params::{Params, Picture, wrong_type},
    public_url::public_url,
    request::TaskRequest,
    rows,
    task::{MAX_NODE_ID, MAX_TEXT, Task},
};

/// The reason for which a task was not created.
#[derive(Debug, Error)]
pub enum CreateError {
    /// The body is not a JSON object.
    #[error("the body is not a JSON object")]
    NotAnObject,
    /// The request has wrong fields; nothing was stored.
    #[error("the task has wrong fields")]
    Invalid(Vec<FieldError>),
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    Conflict,
    /// The database failed. The task may have been stored; posting it again under the same idempotency key is
    /// harmless.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The project's quota does not allow the task, or could not be looked up. Nothing was stored.
    #[error(transparent)]
    Quota(#[from] QuotaError),
    /// A picture could not be stored. Nothing refers to the pictures that were stored.
    #[error(transparent)]
    Asset(#[from] AssetError),
}

/// The most retries of a task after errors.
const MAX_RETRIES: f64 = 20.0;

/// The retries of a task whose request does not name a number.
const DEFAULT_RETRIES: i64 = 3;

/// The longest address of an agent, in characters.
const MAX_CALLBACK_URL: usize = 2048;

/// Stores a new task, and the pictures that came with it. With an idempotency key, the same request gives the same task.
///
/// # Errors
/// See [`CreateError`].
pub async fn create(
    ports: Ports<'_>,
    registry: &Registry,
    request: &TaskRequest<'_>,
    idempotency_key: Option<&str>,
) -> Result<Task, CreateError> {
    let (task, params) = checked(ports, registry, request).map_err(CreateError::Invalid)?;
    let values = Value::Object(params.values);
    let text = values.to_string();
    let digest = digest(&task, &text, &params.pictures);
    let database = ports.database;
    if let Some(known) = posted_before(database, idempotency_key, &digest).await? {
        return Ok(known);
    }
    let assets = AssetStore::open(database, ports.http, ports.config)?;
    if let Some(executor) = registry.for_type(&task.task_type) {
        let mut errors = wrong_pictures(&assets, executor, &task, &values, ports.config).await?;
        errors.extend(earlier::check(&assets, executor, &task, &values).await?);
        if !errors.is_empty() {
            return Err(CreateError::Invalid(errors));
        }
    }
    let pictures = params
        .pictures
        .iter()
        .map(|picture| picture.image.bytes.len());
    let bytes = text.len() + pictures.sum::<usize>();
    quota::take(ports, &task.project_id, bytes as u64).await?;
    let mut stored = Vec::with_capacity(params.pictures.len());
    for Picture { asset_id, image } in params.pictures {
        let (project, now) = (&task.project_id, task.created_at);
        let Image { media_type, bytes } = image;
        assets
            .store_as(
                &asset_id,
                (project, Some(&task.task_id)),
                &media_type,
                bytes,
                now,
            )
            .await?;
        stored.push(asset_id);
    }
    let new = rows::Insert {
        task: &task,
        params: &text,
        idempotency_key,
        request_digest: &digest,
    };
    if rows::insert(database, new).await? {
        return Ok(task);
    }
    // Another request with the same key came at the same time, and was stored first.
    for asset_id in &stored {
        assets.discard(asset_id).await?;
    }
    let known = posted_before(database, idempotency_key, &digest).await?;
    known.ok_or_else(|| DatabaseError::Unexpected("a task was not stored".into()).into())
}

/// Finds pictures of a type that the service does not take. A picture that is kept here has the type of its asset; the
/// type of a picture at another address is read from the ending of the address.
async fn wrong_pictures(
    assets: &AssetStore<'_>,
    executor: &dyn Executor,
    task: &Task,
    params: &Value,
    config: &dyn Config,
) -> Result<Vec<FieldError>, AssetError> {
    let Some(types) = executor.picture_types() else {
        return Ok(Vec::new());
    };
    let public_url = public_url(config);
    let mut errors = Vec::new();
    for name in executor.pictures() {
        let text = params[name].as_str().unwrap_or_default();
        let media_type = match asset_address::own(text, &public_url) {
            // A picture that came with this request is no asset yet. The submission reports a picture that is missing
            // or belongs to another project.
            Some(id) => {
                let kept = assets.describe_in(&task.project_id, &id).await?;
                kept.map(|(_, asset)| asset.media_type)
            }
            None => media_type::by_ending(text).map(str::to_owned),
        };
        if let Some(media_type) = media_type.filter(|one| !types.contains(&one.as_str())) {
            let reason = wrong_type(&media_type, types);
            errors.push(FieldError::new(format!("params.{name}"), reason));
        }
    }
    Ok(errors)
}

/// The task that was posted under this key before.
async fn posted_before(
    database: &dyn Database,
    idempotency_key: Option<&str>,
    digest: &str,
) -> Result<Option<Task>, CreateError> {
    let Some(key) = idempotency_key else {
        return Ok(None);
    };
    match rows::by_key(database, key).await? {
        Some((task, known)) if known == digest => Ok(Some(task)),
        Some(_) => Err(CreateError::Conflict),
        None => Ok(None),
    }
}

/// Checks a request, and makes the task that it asks for.
fn checked(
    ports: Ports<'_>,
    registry: &Registry,
    request: &TaskRequest<'_>,
) -> Result<(Task, Params), Vec<FieldError>> {
    let mut fields = Fields::new(&request.fields, "");
    let project_id = project_id(&mut fields);
    let task_type = fields.required_text("task_type", MAX_TEXT).unwrap_or("");
    let executor = registry.for_type(task_type);
    if !task_type.is_empty() && executor.is_none() {
        let known = registry.task_types().join(", ");
        fields.wrong("task_type", format!("must be one of {known}"));
    }
    let node_id = fields.text("node_id", MAX_NODE_ID);
    let max_retries = max_retries(&mut fields);
    let callback_url = callback_url(&mut fields, ports.config);
    let options = Options::read(&mut fields);
    let params = match request.params(executor) {
        Ok(params) => params.unwrap_or_default(),
        Err(reason) => {
            fields.wrong("params", reason);
            Params::default()
        }
    };
    let is_read = fields.is_right("params");
    let mut errors = fields.finish();
    if let (Some(executor), true) = (executor, is_read) {
        let mut of_type = Fields::new(&params.values, "params.");
        executor.check(task_type, &mut of_type);
        errors.extend(of_type.finish());
        errors.extend(params.errors.iter().cloned());
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut task = Task {
        project_id: project_id.to_owned(),
        task_type: task_type.to_owned(),
        external_service: executor.map(|executor| executor.service().to_owned()),
        max_retries: max_retries.unwrap_or(DEFAULT_RETRIES),
        node_id: node_id.map(str::to_owned),
        callback_url: callback_url.map(str::to_owned),
        ..Task::new(ports.clock.unix_seconds())
    };
    options.apply(&mut task);
    Ok((task, params))
}

fn project_id<'a>(fields: &mut Fields<'a>) -> &'a str {
    let project_id = fields.required_text("project_id", MAX_TEXT).unwrap_or("");
    if !project_id.is_empty() && !wire::is_project_id(project_id) {
        fields.wrong(
            "project_id",
            "must have 1 to 128 characters of A-Z, a-z, 0-9, _ and -",
        );
    }
    project_id
}

fn max_retries(fields: &mut Fields<'_>) -> Option<i64> {
    let retries = fields.number("max_retries", 0.0, MAX_RETRIES)?;
    if retries.fract() != 0.0 {
        fields.wrong("max_retries", "must be a whole number");
    }
    Some(retries as i64)
}

fn callback_url<'a>(fields: &mut Fields<'a>, config: &dyn Config) -> Option<&'a str> {
    let url = fields.text("callback_url", MAX_CALLBACK_URL)?;
    if let Err(reason) = address::check_callback(url, config) {
        fields.wrong("callback_url", reason);
    }
    Some(url)
}

/// The digest of a request. It depends neither on the order of the fields nor on the new ids of pictures.
fn digest(task: &Task, params: &str, pictures: &[Picture]) -> String {
    let mut params = params.to_owned();
    for Picture { asset_id, image } in pictures {
        let digest = secrets::hex(&Sha256::digest(&image.bytes));
        params = params.replace(asset_id.as_str(), &digest);
    }
    let mut canonical = vec![
        json!(task.project_id),
        json!(task.task_type),
        json!(task.node_id),
        json!(task.max_retries),
        json!(task.callback_url),
        json!(params),
    ];
    canonical.extend(options::canonical(task));
    let canonical = Value::Array(canonical);
    secrets::digest(&canonical.to_string())
}

impl From<CreateError> for Problem {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::NotAnObject => Self::bad_request("The body must be a JSON object."),
            CreateError::Invalid(errors) => Self::invalid_fields(errors),
            CreateError::Conflict => Self::new(
                Kind::IDEMPOTENCY_CONFLICT,
                "This Idempotency-Key was sent before, with another request.",
            ),
            CreateError::Database(error) => error.into(),
            CreateError::Asset(error) => error.into(),
            CreateError::Quota(error) => error.into(),
        }
    }
}
