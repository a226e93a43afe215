//! The service Gemini: images from words and other images. Its answer to a submission is the result.

mod answer;
mod check;
mod models;
mod settings;

use std::time::Duration;

use async_trait::async_trait;
use futures_util::future;
use platform::{Config, HttpError, Setting, http_client::Limits};
use problem::Fields;
use serde_json::{Map, Value, json};

use check::{EDIT_OF, GENERATION_CONFIG, IMAGES};
use models::{Models, NoTable};
pub(super) use settings::SETTINGS;
use settings::{GEMINI_API_KEY, GEMINI_BASE_URL, NANO_BANANA_MODEL, NANO_BANANA_PRO_MODEL};

use crate::{
    executor::{Callback, Context, Earlier, Executor, Failure, Progress, setting},
    image,
    task::Task,
};

/// The service Gemini.
pub(super) struct Gemini {
    models: Models,
    /// The models of `nano_banana` and of `nano_banana_pro`.
    names: [String; 2],
}

/// Checks in the settings of Gemini what their declared forms do not.
pub(super) fn check_settings(config: &dyn Config) -> Result<(), NoTable> {
    Models::read(config).map(drop)
}

/// A call takes 5 to 40 s. An image of 4K in base64 may have some 30 MB.
const CALL: Limits = Limits {
    timeout: Duration::from_secs(120),
    max_bytes: 64 * 1024 * 1024,
};

impl Gemini {
    /// Reads the settings that name and describe the models.
    pub(super) fn new(config: &dyn Config) -> Self {
        let models = Models::read(config).unwrap_or_else(|error| {
            tracing::error!(%error, "a setting could not be read");
            Models::known()
        });
        let name = |setting| config.get(setting).unwrap_or_default();
        Self {
            models,
            names: [name(NANO_BANANA_MODEL), name(NANO_BANANA_PRO_MODEL)],
        }
    }
}

fn is_pro(task_type: &str) -> bool {
    task_type == "nano_banana_pro"
}

#[async_trait(?Send)]
impl Executor for Gemini {
    fn service(&self) -> &'static str {
        "gemini"
    }

    fn task_types(&self) -> &'static [&'static str] {
        &["nano_banana", "nano_banana_pro"]
    }

    fn title(&self) -> &'static str {
        "Gemini"
    }

    /// Allows fewer tasks than the default, because each call holds an instance for as long as it takes.
    fn places(&self, _config: &dyn Config) -> u32 {
        64
    }

    fn pictures(&self) -> &'static [&'static str] {
        IMAGES
    }

    fn continues(&self) -> Option<&'static str> {
        Some(EDIT_OF)
    }

    fn check(&self, task_type: &str, params: &mut Fields<'_>) {
        let [plain, pro] = &self.names;
        let model = if is_pro(task_type) { pro } else { plain };
        check::check(model, &self.models.family(model), params);
    }

    /// Allows 10 s for reference images, and 120 s for the call.
    fn patience(&self) -> Duration {
        Duration::from_secs(135)
    }

    async fn submit(
        &self,
        task: &Task,
        params: &Value,
        context: &Context<'_>,
    ) -> Result<Progress, Failure> {
        let setting = |wanted: Setting| {
            setting(context.config, wanted)?
                .ok_or_else(|| Failure::access(format!("the server has no `{wanted}`")))
        };
        let key = setting(GEMINI_API_KEY)?;
        let base = setting(GEMINI_BASE_URL)?;
        let model_setting = if is_pro(&task.task_type) {
            NANO_BANANA_PRO_MODEL
        } else {
            NANO_BANANA_MODEL
        };
        let model = setting(model_setting)?;
        let url = format!(
            "{}/v1beta/models/{model}:generateContent",
            base.trim_end_matches('/')
        );
        let send = async |body: Value| {
            let request = http::Request::post(&url)
                .header("content-type", "application/json")
                .header("x-goog-api-key", &key)
                .body(body.to_string().into_bytes())
                .map_err(|_| {
                    Failure::access(
                        "`gemini_base_url` is not a URL, or Gemini's key cannot be sent",
                    )
                })?;
            // The request has a copy of the body, and each may have megabytes.
            drop(body);
            let answer = context.http.send(request, CALL).await;
            answer.map_err(|error| match error {
                HttpError::TooLarge => answer::too_large(task.error_message.as_deref()),
                error => Failure::retry(format!("Gemini: {error}")),
            })
        };
        let mut answer = send(request_body(task, params, context).await?).await?;
        if let Some(earlier) = context.earlier.filter(|one| one.signature.is_some())
            && answer::refuses_signature(&answer)
        {
            // A signature is valid for the model and the account that were set when Gemini gave it. With others, the
            // picture is sent without it.
            let earlier = Earlier {
                signature: None,
                ..earlier.clone()
            };
            let context = Context {
                earlier: Some(&earlier),
                ..*context
            };
            answer = send(request_body(task, params, &context).await?).await?;
        }
        if answer.status() == http::StatusCode::NOT_FOUND {
            return Err(no_such_model(&model, model_setting));
        }
        answer::read(answer, task.error_message.as_deref())
    }

    async fn poll(&self, _: &Task, _: &Value, _: &Context<'_>) -> Result<Progress, Failure> {
        Err(Failure::permanent("Gemini has no jobs to ask about"))
    }

    fn process_webhook(&self, body: &Value) -> Option<Callback> {
        let is_answer = body.get("candidates").is_some() || body.get("promptFeedback").is_some();
        is_answer.then(|| Callback {
            about: None,
            news: answer::product(body.clone(), None),
        })
    }
}

async fn request_body(
    task: &Task,
    params: &Value,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let mut contents = match context.earlier {
        Some(earlier) => turns(earlier, task, context).await?,
        None => Vec::new(),
    };
    let mut parts = vec![json!({ "text": prompt(params) })];
    let given = IMAGES
        .iter()
        .filter_map(|name| params[*name].as_array())
        .flatten()
        .filter_map(Value::as_str);
    let images = given.map(|text| async {
        let given = image::read(text).map_err(Failure::Permanent)?;
        image::obtain(given, &task.project_id, context).await
    });
    for image in future::try_join_all(images).await? {
        let data = json!({ "mimeType": image.media_type, "data": image.base64() });
        parts.push(json!({ "inlineData": data }));
    }
    let mut image_config = Map::new();
    if let Some(ratio) = params["aspect_ratio"].as_str().filter(|r| !r.is_empty()) {
        image_config.insert("aspectRatio".into(), json!(ratio));
    }
    if let Some(size) = params["image_size"].as_str().filter(|s| !s.is_empty()) {
        image_config.insert("imageSize".into(), json!(size));
    }
    let mut config = json!({ "responseModalities": ["TEXT", "IMAGE"] });
    if !image_config.is_empty() {
        config["imageConfig"] = Value::Object(image_config);
    }
    if let (Some(config), Some(more)) = (
        config.as_object_mut(),
        params[GENERATION_CONFIG].as_object(),
    ) {
        config.extend(more.clone());
    }
    contents.push(json!({ "role": "user", "parts": parts }));
    let mut body = json!({ "contents": contents, "generationConfig": config });
    if let Some(words) = params["system_prompt"].as_str().filter(|w| !w.is_empty()) {
        body["systemInstruction"] = json!({ "parts": [{ "text": words }] });
    }
    Ok(body)
}

/// The prompt of a task. Agents send it under one name or the other.
fn prompt(params: &Value) -> &str {
    let text = params["text"].as_str().or(params["prompt"].as_str());
    text.unwrap_or_default()
}

/// The turns of the conversation before a task that goes on from the picture of an earlier task: the earlier prompt,
/// and the picture as Gemini's answer. Turns before these are left out, because their outcome is in the picture.
async fn turns(
    earlier: &Earlier,
    task: &Task,
    context: &Context<'_>,
) -> Result<Vec<Value>, Failure> {
    let given = image::read(&earlier.result_url).map_err(Failure::Permanent)?;
    let image = image::obtain(given, &task.project_id, context).await?;
    let data = json!({ "mimeType": image.media_type, "data": image.base64() });
    let mut answered = json!({ "inlineData": data });
    if let Some(signature) = &earlier.signature {
        answered["thoughtSignature"] = json!(signature);
    }
    let asked = json!({ "text": prompt(&earlier.params) });
    Ok(vec![
        json!({ "role": "user", "parts": [asked] }),
        json!({ "role": "model", "parts": [answered] }),
    ])
}

/// The failure of a model that Gemini no longer has. Models end every few months, and the operator can then set
/// another.
fn no_such_model(model: &str, setting: Setting) -> Failure {
    let variable = format!("SPIN_VARIABLE_{}", setting.name().to_ascii_uppercase());
    Failure::permanent(format!(
        "Gemini has no model `{model}` any more: set `{setting}` ({variable}) to one that it has"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_about_a_model_that_is_gone_names_the_setting() {
        let Failure::Permanent(words) = no_such_model("old", NANO_BANANA_PRO_MODEL) else {
            panic!("to be tried again");
        };
        for named in [
            "`old`",
            "`nano_banana_pro_model`",
            "SPIN_VARIABLE_NANO_BANANA_PRO_MODEL",
        ] {
            assert!(words.contains(named), "{words}");
        }
    }
}
