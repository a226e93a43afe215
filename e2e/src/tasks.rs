//! A host with test doubles of its services, and what agents do with it.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::gemini::{self, Gemini};
use crate::host::{Host, Kind, Setup};
use crate::http::{Answer, Http};
use crate::kling::{self, Kling, Plan};
use crate::wait::until_within;

/// The setting `internal_token`.
pub const TOKEN: &str = "a-token-for-tests";
/// The setting `webhook_key`.
pub const WEBHOOK_KEY: &str = "a-webhook-key-for-tests";

/// The time that a task may take if it needs several rounds of the poller.
pub const ROUNDS: Duration = Duration::from_secs(60);

/// A host and the doubles of its services.
pub struct World {
    /// The host.
    pub host: Host,
    /// The service for videos.
    pub kling: Kling,
    /// The service for images.
    pub gemini: Gemini,
}

/// The set-up of a host that uses these services.
pub fn setup(relay: Kind, kling: &Kling, gemini: &Gemini) -> Setup {
    Setup::new(relay)
        .env("SPIN_VARIABLE_INTERNAL_TOKEN", TOKEN)
        .env("SPIN_VARIABLE_WEBHOOK_KEY", WEBHOOK_KEY)
        .env("SPIN_VARIABLE_KLING_BASE_URL", &kling.url())
        .env("SPIN_VARIABLE_KLING_ACCESS_KEY", kling::ACCESS_KEY)
        .env("SPIN_VARIABLE_KLING_SECRET_KEY", kling::SECRET_KEY)
        .env("SPIN_VARIABLE_GEMINI_BASE_URL", &gemini.url())
        .env("SPIN_VARIABLE_GEMINI_API_KEY", gemini::KEY)
}

impl World {
    /// Starts a host with the native relay, and a Kling with this plan.
    pub async fn start(plan: Plan) -> Self {
        Self::start_with(Kind::Native, plan, |setup| setup).await
    }

    /// Starts a host with this relay and with more settings, and a Kling with this plan.
    pub async fn start_with(
        relay: Kind,
        plan: Plan,
        settings: impl FnOnce(Setup) -> Setup,
    ) -> Self {
        let (kling, gemini) = (Kling::start(plan).await, Gemini::start().await);
        let host = settings(setup(relay, &kling, &gemini)).start().await;
        Self {
            host,
            kling,
            gemini,
        }
    }

    /// Posts a task of project `p` and returns the answer's body.
    pub async fn posted(&self, task_type: &str, params: Value) -> Value {
        let task = json!({ "project_id": "p", "task_type": task_type, "params": params });
        created(&self.host.http(), &task).await
    }

    /// Posts a task of project `p` with nothing but a prompt, and returns its id.
    pub async fn prompted(&self, task_type: &str, prompt: &str) -> String {
        id(&self.posted(task_type, json!({ "prompt": prompt })).await)
    }

    /// Posts a Kling task of project `p` and returns its id.
    pub async fn video(&self, prompt: &str) -> String {
        self.prompted("kling_video", prompt).await
    }

    /// Reads a task.
    pub async fn task(&self, id: &str) -> Value {
        task(&self.host.http(), id).await
    }

    /// Waits until a task has ended, whether it succeeded or not.
    pub async fn finished(&self, id: &str) -> Value {
        self.task_until(id, |task| task["completed_at"].is_i64())
            .await
    }

    /// Waits until a task's service has accepted its job.
    pub async fn accepted(&self, id: &str) -> Value {
        self.task_until(id, |task| task["external_task_id"].is_string())
            .await
    }

    /// Waits until the condition holds for a task.
    pub async fn task_until(&self, id: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let mut seen = Value::Null;
        let what = format!("{id} of {:?}", self.kling.job(id).map(|job| job.body));
        until_within(ROUNDS, &what, async || {
            seen = self.task(id).await;
            condition(&seen)
        })
        .await;
        seen
    }

    /// Requests `cancel` or `retry` for a task.
    pub async fn ask(&self, id: &str, action: &str) -> Answer {
        let path = format!("/tasks/{id}/{action}");
        post(&self.host.http(), &path, &[], &json!({})).await
    }

    /// Starts a round of the poller.
    pub async fn poll(&self) -> Answer {
        let authorization = format!("Bearer {TOKEN}");
        let headers = [("authorization", authorization.as_str())];
        let http = self.host.app_http();
        http.send(Method::POST, "/internal/poll", &headers, Bytes::new())
            .await
    }

    /// The path of the asset that is a task's result.
    pub fn asset_path(&self, task: &Value) -> String {
        let url = task["result_url"].as_str().unwrap();
        let path = url.strip_prefix(&format!("http://{}", self.host.address));
        path.unwrap().to_owned()
    }
}

/// Posts JSON.
pub async fn post(http: &Http, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    http.send(Method::POST, path, &all, body.to_string().into())
        .await
}

/// Posts a task and returns the answer's body.
pub async fn created(http: &Http, body: &Value) -> Value {
    let answer = post(http, "/tasks", &[], body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()
}

/// The id of a posted task.
pub fn id(posted: &Value) -> String {
    posted["task_id"].as_str().unwrap().to_owned()
}

/// Reads a task.
pub async fn task(http: &Http, id: &str) -> Value {
    let answer = http.get(&format!("/tasks/{id}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// A task's status and error message.
pub fn outcome(task: &Value) -> (&str, &str) {
    let text = |name: &str| task[name].as_str().unwrap_or_default();
    (text("status"), text("error_message"))
}
