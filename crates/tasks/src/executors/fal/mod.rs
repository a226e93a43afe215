//! The service fal: pictures, films and sounds by the many models that it hosts. Each model is a task type: `fal:` and
//! the model's name. Jobs wait in fal's queue; fal is polled, and calls back.

mod answer;
mod model;
mod signature;

use std::time::Duration;

use async_trait::async_trait;
use platform::{Setting, http_client::Limits};
use problem::Fields;
use serde_json::{Map, Value};
use url::form_urlencoded::byte_serialize;

use crate::{
    executor::{Arrived, Authenticity, Callback, Context, Executor, Failure, Progress, setting},
    image,
    task::{MAX_TEXT, Task},
};
use model::Model;

/// The service fal.
pub(super) struct Fal;

platform::settings! {
    /// The address of fal's queue. fal makes pictures and films by the models that it hosts
    FAL_BASE_URL = "fal_base_url", Value("https://queue.fal.run"), Origin;
    /// The address at which fal publishes the keys that sign its callbacks
    FAL_REST_URL = "fal_rest_url", Value("https://rest.fal.ai"), Origin;
    /// fal's API key
    FAL_KEY = "fal_key", Secret;
}

const CALL: Limits = Limits {
    timeout: Duration::from_secs(10),
    max_bytes: 1024 * 1024,
};
/// A poll takes two calls if the job has ended. Some models answer with the picture itself.
const POLL: Limits = Limits {
    timeout: Duration::from_millis(3500),
    max_bytes: 16 * 1024 * 1024,
};

/// The names under which models take a picture, or a list of pictures.
const IMAGES: &[&str] = &[
    "image_url",
    "image_urls",
    "mask_url",
    "mask_image_url",
    "start_image_url",
    "first_frame_url",
    "last_frame_url",
    "end_image_url",
    "tail_image_url",
    "reference_image_url",
    "reference_image_urls",
    "control_image_url",
];
const MOST_IMAGES: usize = 16;

#[async_trait(?Send)]
impl Executor for Fal {
    fn service(&self) -> &'static str {
        "fal"
    }

    fn task_types(&self) -> &'static [&'static str] {
        &["fal:{model}"]
    }

    fn does(&self, task_type: &str) -> bool {
        Model::of(task_type).is_some()
    }

    fn pictures(&self) -> &'static [&'static str] {
        IMAGES
    }

    /// Checks the form of pictures alone, because each model takes other parameters, which fal checks.
    fn check(&self, _task_type: &str, params: &mut Fields<'_>) {
        for name in IMAGES {
            if name.ends_with("urls") {
                params.texts(name, MOST_IMAGES);
            } else {
                params.text(name, MAX_TEXT);
            }
        }
    }

    /// Allows 10 s for pictures, 7 s for a look for an earlier job, and 10 s for the call.
    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }

    async fn submit(
        &self,
        task: &Task,
        params: &Value,
        context: &Context<'_>,
    ) -> Result<Progress, Failure> {
        let model = model_of(task)?;
        // The job of an earlier run is paid for. Unless it failed, its result serves this run too. fal knows jobs by its own
        // names alone, so a submission whose answer was lost cannot be found.
        let theirs = |name: &&str| Task::id_of_job(name) != task.task_id;
        if let Some(name) = task.earlier_jobs().into_iter().find(theirs) {
            match look(&model, name, context).await {
                Ok(_) => return Ok(answer::adopted(name)),
                Err(Failure::Permanent(_)) => {}
                // There may be such a job, so this is no reason to pay for another.
                Err(Failure::Access(reason)) => return Err(Failure::retry(reason)),
                Err(later) => return Err(later),
            }
        }
        let body = request_body(task, params, context).await?;
        let callback: String = byte_serialize(context.callback_url.as_bytes()).collect();
        let path = format!("{}?fal_webhook={callback}", model.path());
        let request =
            http::Request::post(url(context, &path)?).header("content-type", "application/json");
        let answer = send(request, body.to_string().into_bytes(), CALL, context).await?;
        answer::accepted(&answer, &model)
    }

    async fn poll(
        &self,
        task: &Task,
        _params: &Value,
        context: &Context<'_>,
    ) -> Result<Progress, Failure> {
        let name = task.external_task_id.as_deref().unwrap_or_default();
        look(&model_of(task)?, name, context).await
    }

    async fn cancel(&self, task: &Task, context: &Context<'_>) {
        let name = task.external_task_id.as_deref().unwrap_or_default();
        let told = async {
            let path = format!("{}/cancel", model_of(task)?.job(name)?);
            let request = http::Request::put(url(context, &path)?);
            send(request, Vec::new(), POLL, context).await
        };
        let task_id = &task.task_id;
        match told.await.map(|answer| answer.status().as_u16()) {
            // 400: it has ended already.
            Ok(202 | 400) => tracing::info!(task_id, "a job was cancelled at fal"),
            Ok(status) => tracing::warn!(task_id, status, "a job was not cancelled at fal"),
            Err(_) => tracing::warn!(task_id, "a job was not cancelled at fal"),
        }
    }

    /// Checks the signature that fal puts on every callback. fal has no console that calls an address without a job, so
    /// a callback at such an address is refused before fal is asked for its keys: `signs_callbacks` keeps its default.
    async fn authenticity(&self, callback: &Arrived<'_>, context: &Context<'_>) -> Authenticity {
        signature::authenticity(callback, context).await
    }

    fn process_webhook(&self, body: &Value) -> Option<Callback> {
        answer::callback(body)
    }
}

fn model_of(task: &Task) -> Result<Model<'_>, Failure> {
    let model = Model::of(&task.task_type);
    model.ok_or_else(|| Failure::permanent("the task's type names no model of fal"))
}

/// Asks for the status of a job, and for its result if it has ended.
async fn look(model: &Model<'_>, name: &str, context: &Context<'_>) -> Result<Progress, Failure> {
    let job = model.job(name)?;
    let request = http::Request::get(url(context, &format!("{job}/status"))?);
    let status = send(request, Vec::new(), POLL, context).await?;
    if let Some(running) = answer::status(&status, name)? {
        return Ok(running);
    }
    let request = http::Request::get(url(context, &job)?);
    answer::result(&send(request, Vec::new(), POLL, context).await?)
}

/// The input of the model: the parameters as they came, with each picture as an address that fal can reach, or as a
/// `data:` URL.
async fn request_body(
    task: &Task,
    params: &Value,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let mut body: Map<String, Value> = params.as_object().cloned().unwrap_or_default();
    for name in IMAGES {
        match body.get_mut(*name) {
            Some(Value::String(text)) if text.is_empty() => drop(body.remove(*name)),
            Some(Value::String(text)) => *text = picture(text, task, context).await?,
            Some(Value::Array(list)) => {
                for text in list {
                    let given = text.as_str().unwrap_or_default();
                    *text = picture(given, task, context).await?.into();
                }
            }
            _ => {}
        }
    }
    Ok(Value::Object(body))
}

async fn picture(text: &str, task: &Task, context: &Context<'_>) -> Result<String, Failure> {
    let given = image::read(text).map_err(Failure::Permanent)?;
    if let Some(url) = image::public_address(&given, context)? {
        return Ok(url);
    }
    let image = image::obtain(given, &task.project_id, context).await?;
    Ok(format!(
        "data:{};base64,{}",
        image.media_type,
        image.base64()
    ))
}

fn needed(context: &Context<'_>, wanted: Setting) -> Result<String, Failure> {
    setting(context.config, wanted)?
        .ok_or_else(|| Failure::access(format!("the server has no `{wanted}`")))
}

fn url(context: &Context<'_>, path: &str) -> Result<String, Failure> {
    let base = needed(context, FAL_BASE_URL)?;
    Ok(format!("{}{path}", base.trim_end_matches('/')))
}

async fn send(
    request: http::request::Builder,
    body: Vec<u8>,
    limits: Limits,
    context: &Context<'_>,
) -> Result<http::Response<Vec<u8>>, Failure> {
    let key = needed(context, FAL_KEY)?;
    let request = request
        .header("authorization", format!("Key {key}"))
        .body(body)
        .map_err(|_| Failure::access("`fal_base_url` is not a URL, or fal's key cannot be sent"))?;
    let answer = context.http.send(request, limits).await;
    answer.map_err(|error| Failure::retry(format!("fal: {error}")))
}
