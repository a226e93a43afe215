//! The service Kling: videos from an image, or from text alone. A job takes minutes; Kling is polled, and calls back.

mod answer;
mod call;
mod check;
mod models;
mod request;
mod settings;
mod token;

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use auth::standard_webhooks::{Secret, Signed};
use platform::{Config, config::number};
use problem::Fields;
use serde_json::Value;

use crate::{
    executor::{Arrived, Authenticity, Callback, Context, Executor, Failure, Progress},
    task::Task,
};
use answer::{adopted, id, progress, status};
use call::{Way, call, jobs};
use models::{Generation, Models};
use request::{IMAGES, model};
pub(super) use settings::SETTINGS;
use settings::{
    KLING_ACCESS_KEY, KLING_API_KEY, KLING_LONGEST_JOB, KLING_PLACES, KLING_SECRET_KEY,
    KLING_WEBHOOK_SECRET, LONGEST_JOB,
};

/// The service Kling.
pub(super) struct Kling {
    models: Models,
}

/// The most jobs of the second generation that one question is about, so that its address has less than 4 KiB if names
/// are as short as Kling's usually are.
const MOST_TOGETHER: usize = 100;

/// The error about a `kling_webhook_secret` that is not a secret.
const NO_SECRET: &str =
    "`kling_webhook_secret` is not `whsec_` and base64, as Kling's console shows it";

/// The time that Kling keeps results, in seconds.
const RESULTS_KEPT: u64 = LONGEST_JOB as u64 * 3600;

/// Checks that the setting with the models is a table of them, that the secret of callbacks has the form of a secret,
/// and that neither of the two older keys is set alone. An error is in words for the operator.
pub(super) fn check_settings(config: &dyn Config) -> Result<(), String> {
    Models::read(config).map_err(|error| error.to_string())?;
    let secret = config.get(KLING_WEBHOOK_SECRET);
    if secret.is_some_and(|text| Secret::read(&text).is_none()) {
        return Err(NO_SECRET.to_owned());
    }
    let pair = [KLING_ACCESS_KEY, KLING_SECRET_KEY];
    let [one, other] = pair.map(|setting| config.get(setting).is_some());
    if one == other || config.get(KLING_API_KEY).is_some() {
        return Ok(());
    }
    let [access, secret] = pair;
    let (there, missing) = if one {
        (access, secret)
    } else {
        (secret, access)
    };
    Err(format!("`{missing}` is missing, which goes with `{there}`"))
}

impl Kling {
    /// Reads the setting that describes models.
    pub(super) fn new(config: &dyn Config) -> Self {
        let models = Models::read(config).unwrap_or_else(|error| {
            tracing::error!(%error, "a setting could not be read");
            Models::known()
        });
        Self { models }
    }

    /// The way to the job of a task with these parameters.
    fn way<'a>(&self, params: &'a Value, context: &'a Context<'a>) -> Way<'a> {
        Way {
            generation: self.models.generation(model(params)),
            params,
            context,
        }
    }
}

#[async_trait(?Send)]
impl Executor for Kling {
    fn service(&self) -> &'static str {
        "kling"
    }

    fn task_types(&self) -> &'static [&'static str] {
        &["kling_video"]
    }

    fn title(&self) -> &'static str {
        "Kling"
    }

    /// Returns the number of jobs that the account may have at once. It depends on the account's plan.
    fn places(&self, config: &dyn Config) -> u32 {
        number(config, SETTINGS, KLING_PLACES)
    }

    fn longest_job(&self, config: &dyn Config) -> Duration {
        let hours = number(config, SETTINGS, KLING_LONGEST_JOB);
        Duration::from_secs(u64::from(hours) * 3600)
    }

    fn keeps_results(&self) -> Option<Duration> {
        Some(Duration::from_secs(RESULTS_KEPT))
    }

    fn pictures(&self) -> &'static [&'static str] {
        IMAGES
    }

    fn picture_types(&self) -> Option<&'static [&'static str]> {
        Some(&["image/png", "image/jpeg"])
    }

    fn check(&self, _task_type: &str, params: &mut Fields<'_>) {
        check::check(&self.models, params);
    }

    async fn submit(
        &self,
        task: &Task,
        params: &Value,
        context: &Context<'_>,
    ) -> Result<Progress, Failure> {
        let way = self.way(params, context);
        // Kling knows jobs by the names that we give them: look first for one that may have been begun before.
        if task.was_attempted()
            && let Some(found) = way.find(task, &task.job()).await?
        {
            return adopted(&found);
        }
        // The job of an earlier run is paid for. Unless it failed, its result serves this run too.
        for name in task.earlier_jobs() {
            if let Some(found) = way.find(task, name).await?
                && status(&found) != "failed"
            {
                return adopted(&found);
            }
        }
        let takes_scale = self.models.family(model(params)).cfg_scale != Some(false);
        let body = match way.generation {
            Generation::First => request::first(task, params, takes_scale, context).await?,
            Generation::Second => request::second(task, params, takes_scale, context).await?,
        };
        progress(&way.submit(&body).await?)
    }

    async fn poll(
        &self,
        task: &Task,
        params: &Value,
        context: &Context<'_>,
    ) -> Result<Progress, Failure> {
        let name = task.external_task_id.as_deref().unwrap_or_default();
        progress(&self.way(params, context).look_up(task, name).await?)
    }

    fn most_together(&self) -> usize {
        MOST_TOGETHER
    }

    fn is_polled_together(&self, params: &Value) -> bool {
        self.models.generation(model(params)) == Generation::Second
    }

    async fn poll_together(
        &self,
        tasks: &[Task],
        context: &Context<'_>,
    ) -> Result<Vec<Option<Result<Progress, Failure>>>, Failure> {
        let name = |task: &Task| task.external_task_id.clone().unwrap_or_default();
        let names: Vec<String> = tasks.iter().map(name).collect();
        let path = format!("/tasks?task_ids={}", names.join(","));
        let data = call(context, Generation::Second, &path, None).await?;
        let found: HashMap<&str, &Value> = jobs(&data).iter().map(|job| (id(job), job)).collect();
        let news = names.iter().map(|name| {
            let job = found.get(name.as_str())?;
            Some(progress(job))
        });
        Ok(news.collect())
    }

    fn signs_callbacks(&self, config: &dyn Config) -> bool {
        !matches!(config.read(KLING_WEBHOOK_SECRET), Ok(None))
    }

    async fn authenticity(&self, callback: &Arrived<'_>, context: &Context<'_>) -> Authenticity {
        let secret = match context.config.read(KLING_WEBHOOK_SECRET) {
            Ok(Some(text)) => Secret::read(&text),
            Ok(None) => return Authenticity::NotSigned,
            Err(error) => return Authenticity::Unclear(error.to_string()),
        };
        let Some(secret) = secret else {
            return Authenticity::Unclear(NO_SECRET.to_owned());
        };
        let header = |name| (callback.header)(name).unwrap_or_default();
        let signed = Signed {
            id: header("webhook-id"),
            timestamp: header("webhook-timestamp"),
            signatures: header("webhook-signature"),
        };
        if secret.verifies(signed, callback.body, context.clock.unix_seconds()) {
            Authenticity::Right
        } else {
            Authenticity::Wrong
        }
    }

    fn process_webhook(&self, body: &Value) -> Option<Callback> {
        // Some callbacks have the data object in an envelope, as answers do.
        let data = body
            .get("data")
            .filter(|data| data.is_object())
            .unwrap_or(body);
        let (id, status) = (id(data), status(data));
        if id.is_empty() || status.is_empty() {
            return None;
        }
        let news = progress(data);
        // A status that is unknown here says nothing about the job.
        let is_news = matches!(news, Ok(_) | Err(Failure::Permanent(_)));
        is_news.then(|| Callback {
            about: Some(id.to_owned()),
            news,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::Media;
    use platform::native::MapConfig;
    use serde_json::json;

    fn kling() -> Kling {
        Kling::new(&MapConfig::default())
    }

    #[test]
    fn callbacks_are_read() {
        let done = json!({
            "task_id": "k1", "task_status": "succeed", "task_status_msg": "",
            "task_result": { "videos": [{ "id": "v", "url": "https://cdn/v.mp4", "duration": "5" }] },
        });
        let callback = kling().process_webhook(&done).unwrap();
        assert_eq!(callback.about.as_deref(), Some("k1"));
        let Ok(Progress::Done(product)) = callback.news else {
            panic!("not done");
        };
        assert_eq!(product.media, [Media::Url("https://cdn/v.mp4".into())]);
        let failed = json!({ "task_id": "k1", "task_status": "failed", "task_status_msg": "no" });
        let news = kling().process_webhook(&failed).unwrap().news;
        assert!(matches!(news, Err(Failure::Permanent(reason)) if reason.contains("no")));
        for nonsense in [
            json!(null),
            json!({}),
            json!({ "task_status": 3, "task_id": "x" }),
            json!({ "id": "x", "status": "perhaps" }),
            json!({ "id": "x/../y", "status": "failed" }),
            json!({ "status": "succeeded", "outputs": [{ "url": "https://cdn/v.mp4" }] }),
        ] {
            assert_eq!(kling().process_webhook(&nonsense), None);
        }
    }
}
