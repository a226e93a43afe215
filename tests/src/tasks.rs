//! A host with services that are made up, and what agents do with it.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use loro::ToJson;
use serde_json::{Value, json};

use crate::gemini::{self, Gemini};
use crate::host::{Host, Kind, Setup};
use crate::http::{Answer, Http};
use crate::kling::{self, Kling, Plan};
use crate::raw::Client;
use crate::wait::until_within;

/// The setting `internal_token`.
pub const TOKEN: &str = "a-token-for-tests";
/// The setting `webhook_key`.
pub const WEBHOOK_KEY: &str = "a-webhook-key-for-tests";

/// How long a task may take that the poller has to see to: some rounds of it.
pub const ROUNDS: Duration = Duration::from_secs(60);

/// A host and its services.
pub struct World {
    /// The host.
    pub host: Host,
    /// Videos.
    pub kling: Kling,
    /// Images.
    pub gemini: Gemini,
}

/// How to start a host that uses these services.
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
    /// A host with the native relay, and a Kling with a plan.
    pub async fn start(plan: Plan) -> Self {
        Self::start_with(Kind::Native, plan).await
    }

    /// A host with this relay, and a Kling with a plan.
    pub async fn start_with(relay: Kind, plan: Plan) -> Self {
        let (kling, gemini) = (Kling::start(plan).await, Gemini::start().await);
        let host = setup(relay, &kling, &gemini).start().await;
        Self {
            host,
            kling,
            gemini,
        }
    }

    /// Posts a task of project `p` and gives the answer's body.
    pub async fn posted(&self, task_type: &str, params: Value) -> Value {
        let task = json!({ "project_id": "p", "task_type": task_type, "params": params });
        created(&self.host.http(), &task).await
    }

    /// Posts a Kling task of project `p` and gives its id.
    pub async fn video(&self, prompt: &str) -> String {
        id(&self
            .posted("kling_video", json!({ "prompt": prompt }))
            .await)
    }

    /// A task as it is.
    pub async fn task(&self, id: &str) -> Value {
        task(&self.host.http(), id).await
    }

    /// Waits until a task is finished.
    pub async fn finished(&self, id: &str) -> Value {
        self.task_until(id, |task| task["completed_at"].is_i64())
            .await
    }

    /// Waits until a task is so.
    pub async fn task_until(&self, id: &str, so: impl Fn(&Value) -> bool) -> Value {
        let mut seen = Value::Null;
        let what = format!("{id} of {:?}", self.kling.job(id).map(|job| job.body));
        until_within(ROUNDS, &what, async || {
            seen = self.task(id).await;
            so(&seen)
        })
        .await;
        seen
    }

    /// Has the poller begin a round.
    pub async fn poll(&self) -> Answer {
        let authorization = format!("Bearer {TOKEN}");
        let headers = [("authorization", authorization.as_str())];
        let http = self.host.app_http();
        http.send(Method::POST, "/internal/poll", &headers, Bytes::new())
            .await
    }
}

/// Posts JSON.
pub async fn post(http: &Http, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    http.send(Method::POST, path, &all, body.to_string().into())
        .await
}

/// Posts a task and gives the answer's body.
pub async fn created(http: &Http, body: &Value) -> Value {
    let answer = post(http, "/tasks", &[], body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()
}

/// The id of what was posted.
pub fn id(posted: &Value) -> String {
    posted["task_id"].as_str().unwrap().to_owned()
}

/// A task as it is.
pub async fn task(http: &Http, id: &str) -> Value {
    let answer = http.get(&format!("/tasks/{id}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// What a document shows of a task whose row is this.
pub fn shown(task: &Value) -> [Value; 3] {
    ["status", "result_url", "error_message"].map(|column| task[column].clone())
}

/// What the map `tasks` of a client's document shows of a task.
pub fn entry(client: &Client, id: &str) -> Value {
    value(client, "tasks", id)
}

/// What the map `nodes` of a client's document has.
pub fn node(client: &Client, id: &str) -> Value {
    value(client, "nodes", id)
}

fn value(client: &Client, map: &str, key: &str) -> Value {
    let value = client.doc().get_map(map).get_deep_value();
    let value = value.as_map().and_then(|map| map.get(key).cloned());
    value.map_or(Value::Null, |value| value.to_json_value())
}

/// The three keys of a task, of an entry or of a node's data; null where one is not there.
pub fn keys(of: &Value) -> [Value; 3] {
    ["status", "src", "error"].map(|key| of[key].clone())
}
